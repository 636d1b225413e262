package sim

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A SerialLine is both ends of a simulated serial line: a program opens Port as it
// opens /dev/ttyUSB0, and what is on the line talks through the File.
type SerialLine struct {
	*os.File
	Port string

	// hold keeps the line up while nobody else has Port open: without it, reading
	// the File fails.
	hold *os.File
}

// NewSerialLine makes a pseudoterminal.
func NewSerialLine() (*SerialLine, error) {
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("serial line: %w", err)
	}
	fail := func(err error) (*SerialLine, error) {
		_ = far.Close() // err says more
		return nil, fmt.Errorf("serial line: %w", err)
	}
	if err := unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return fail(err)
	}
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	if err != nil {
		return fail(err)
	}
	if err := unix.SetNonblock(int(far.Fd()), true); err != nil {
		return fail(err)
	}
	line := &SerialLine{Port: fmt.Sprintf("/dev/pts/%d", n)}
	if line.hold, err = os.OpenFile(line.Port, os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return fail(err)
	}
	// Raw, so that nothing that is sent is changed or sent back.
	mode, err := unix.IoctlGetTermios(int(line.hold.Fd()), unix.TCGETS)
	if err == nil {
		mode.Iflag, mode.Oflag, mode.Lflag = 0, 0, 0
		err = unix.IoctlSetTermios(int(line.hold.Fd()), unix.TCSETS, mode)
	}
	if err != nil {
		_ = line.hold.Close()
		return fail(err)
	}
	// Fd made far a blocking file: one of its own can be closed while it is read.
	fd, err := unix.FcntlInt(far.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fail(err)
	}
	line.File = os.NewFile(uintptr(fd), "/dev/ptmx")
	return line, far.Close()
}

// Close ends the line: whoever has Port open reads its end.
func (l *SerialLine) Close() error {
	_ = l.hold.Close() // nothing was written
	return l.File.Close()
}
