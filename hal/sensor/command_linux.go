package sensor

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownGroup makes the program the leader of a process group.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// endGroup signals a whole process group. It may be called while its leader is not
// reaped: until then nobody else has its number.
func endGroup(pid int, kill bool) {
	sig := syscall.SIGTERM
	if kill {
		sig = syscall.SIGKILL
	}
	_ = syscall.Kill(-pid, sig) // there may be nobody any more
}

// awaitLeader waits until a child has ended, and leaves it to be reaped.
func awaitLeader(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
