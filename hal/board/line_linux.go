package board

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tidemill/tidemill/hal"
)

// control runs an ioctl while the file can't be closed.
func (l *line) control(op uintptr, arg unsafe.Pointer) error {
	c, err := l.f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := c.Control(func(fd uintptr) { failed = ioctl(int(fd), op, arg) }); err != nil {
		return fmt.Errorf("gpio: %w", os.ErrClosed)
	}
	return os.NewSyscallError("gpio", failed)
}

// Read returns the level of the line, for an output too.
func (l *line) Read() (bool, error) {
	v := lineValues{mask: 1}
	err := l.control(ioctlGetValues, unsafe.Pointer(&v))
	return v.bits&1 != 0, err
}

// Get returns the level that the controller reads at the line.
func (l *line) Get() (bool, error) { return l.Read() }

// Set drives an output.
func (l *line) Set(high bool) error {
	if !l.out.Load() {
		return errors.New("gpio: the line is an input")
	}
	v := lineValues{mask: 1}
	if high {
		v.bits = 1
	}
	return l.control(ioctlSetValues, unsafe.Pointer(&v))
}

// WaitForEdge waits for the next change.
func (l *line) WaitForEdge(timeout time.Duration) bool {
	if l.missed > 0 {
		l.missed--
		return true
	}
	e, ok := l.NextEdge(timeout)
	l.missed = e.Lost
	return ok
}

// NextEdge waits for the next change. Its time is the kernel's, taken in the
// interrupt; where the line is polled, that of the look.
func (l *line) NextEdge(timeout time.Duration) (hal.Edge, bool) {
	if len(l.queue) > 0 {
		return l.next(), true
	}
	if l.poll > 0 {
		ok := waitByPolling(l.Read, &l.seen, l.poll, timeout, l.done)
		return hal.Edge{High: l.seen, At: l.Now()}, ok
	}
	var end time.Time
	if timeout >= 0 {
		// A deadline that has passed would end the read before it looks.
		end = time.Now().Add(max(timeout, time.Millisecond))
	}
	if l.f.SetReadDeadline(end) != nil {
		return hal.Edge{}, false
	}
	// As many as are there, so that a fast signal is not a call for each edge.
	if l.buf == nil {
		l.buf = make([]lineEvent, eventsAtOnce)
	}
	const size = int(unsafe.Sizeof(lineEvent{}))
	n, err := l.f.Read(unsafe.Slice((*byte)(unsafe.Pointer(&l.buf[0])), eventsAtOnce*size))
	if err != nil || n < size {
		return hal.Edge{}, false
	}
	l.queue = l.buf[:n/size]
	return l.next(), true
}

// next takes an event of the queue. Numbers rise by one from 1 for each edge, also
// for those that the kernel had no room for.
func (l *line) next() hal.Edge {
	e := l.queue[0]
	l.queue = l.queue[1:]
	lost := e.lineSeqno - l.seq - 1
	l.seq = e.lineSeqno
	return hal.Edge{High: e.id == eventRising, At: time.Duration(e.timestamp), Lost: int(lost)}
}

// Now is CLOCK_MONOTONIC, by which the kernel stamps edges (linux/gpio.h, since
// 5.7).
func (*line) Now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // it fails only for a clock that is none
	return time.Duration(ts.Nano())
}

// Close gives the line back. WaitForEdge returns.
func (l *line) Close() error {
	var err error
	l.once.Do(func() {
		close(l.done)
		err = l.f.Close()
	})
	return err
}
