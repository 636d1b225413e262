// Package systemd holds the units, users and device rights that a package
// installs. It has no code to call; its test asks systemd what it thinks.
package systemd
