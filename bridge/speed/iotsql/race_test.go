//go:build race

package iotsql

// raceEnabled tells that sync.Pool drops items at random.
const raceEnabled = true
