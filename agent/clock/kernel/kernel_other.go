//go:build !linux

package kernel

import "time"

var started = time.Now()

// Read reads the clocks; nothing says whether the wall clock is held.
func Read() Reading { return Reading{Wall: time.Now().Round(0), Boot: time.Since(started)} }

// BootID is "": Reading.Boot counts from the start of this process.
func BootID() string { return "" }
