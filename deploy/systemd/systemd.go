// Package systemd holds the units, users and device rights that a package
// installs, and that `tidemill-bridge thing kit` puts into a device's kit. It
// has no code; its test asks systemd what it thinks.
package systemd

import "embed"

// Files are all of them, by name.
//
//go:embed *.service *.timer *.rules *.sysusers
var Files embed.FS
