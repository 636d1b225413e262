//go:build !amd64 && !arm64

package sandbox

const haveSeccomp = false

func filter() error { return nil }
