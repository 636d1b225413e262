// Package footprint measures what the agent takes of a device. It has no code, only
// tests.
package footprint
