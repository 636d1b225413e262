//go:build !linux

package sensor

import (
	"os"
	"syscall"
)

// Elsewhere only the program itself is ended, not what it started.
func ownGroup() *syscall.SysProcAttr { return nil }

func endGroup(pid int, _ bool) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill() // it may have ended
	}
}

func awaitLeader(pid int) {}
