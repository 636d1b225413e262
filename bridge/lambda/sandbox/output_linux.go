package sandbox

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// An output takes what a process writes to a pipe. What was written before drain
// is called has been handed on when it returns.
type output struct {
	pipe *os.File
	to   io.Writer

	mu  sync.Mutex // guards what follows; held while to writes
	fd  int        // of pipe, which is read by both copy and drain
	end bool       // nothing more comes
	buf [16 << 10]byte
}

// newOutput returns the end for the process; the caller closes it once the process
// has its own.
func newOutput(to io.Writer) (o *output, w *os.File, err error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // the bridge's end alone
		return nil, nil, err
	}
	o = &output{pipe: os.NewFile(uintptr(fds[0]), "output"), to: to, fd: fds[0]}
	return o, os.NewFile(uintptr(fds[1]), "output"), nil
}

// copy hands on until all that have the other end are gone.
func (o *output) copy() {
	raw, err := o.pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Read(func(uintptr) bool { // fails when the pipe is closed
		o.drain()
		o.mu.Lock()
		defer o.mu.Unlock()
		return o.end
	})
}

// drain hands on what is in the pipe.
func (o *output) drain() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.end {
		n, err := unix.Read(o.fd, o.buf[:])
		switch {
		case n > 0:
			_, _ = o.to.Write(o.buf[:n]) // a log that is full drops
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return
		default:
			o.end = true
		}
	}
}

// leftover is how long the pipe is read on after the process has ended, if
// something that it started in a session of its own still has the other end.
const leftover = 100 * time.Millisecond

// finish reads what is left in the pipe and closes it. copied is closed when copy
// has returned.
func (o *output) finish(copied <-chan struct{}) {
	select {
	case <-copied:
	case <-time.After(leftover):
		o.drain()
	}
	o.mu.Lock()
	o.end = true
	o.mu.Unlock()
	_ = o.pipe.Close()
	<-copied
}
