package backup

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// The priority of a backup, our choice: below all else, and above what only idles.
const (
	nice = 10
	// IOPRIO_CLASS_BE, the class of everybody, with the lowest of its eight levels
	// (ioprio_set(2)). Schedulers without classes take no notice.
	ioprio = 2<<13 | 7
	// IOPRIO_WHO_PROCESS: one thread.
	ioprioThread = 1
)

// lowerPriority has the thread that calls it stand behind others.
func lowerPriority(log *slog.Logger) {
	tid := unix.Gettid()
	if err := unix.Setpriority(unix.PRIO_PROCESS, tid, nice); err != nil {
		log.Debug("the backup runs at the program's priority", "err", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioThread, uintptr(tid), ioprio)
	if errno != 0 {
		log.Debug("the backup reads at the program's priority", "err", errno)
	}
}
