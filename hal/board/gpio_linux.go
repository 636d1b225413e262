package board

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tidemill/tidemill/hal"
)

const eremoteio = unix.EREMOTEIO

// The kernel's GPIO character device, version 2 (linux/gpio.h). Numbers and
// layouts are checked by a test against the C header where there is a compiler.
const (
	ioctlChipInfo  = 0x8044B401 // GPIO_GET_CHIPINFO_IOCTL
	ioctlLineInfo  = 0xC100B405 // GPIO_V2_GET_LINEINFO_IOCTL
	ioctlLine      = 0xC250B407 // GPIO_V2_GET_LINE_IOCTL
	ioctlSetConfig = 0xC110B40D // GPIO_V2_LINE_SET_CONFIG_IOCTL
	ioctlGetValues = 0xC010B40E // GPIO_V2_LINE_GET_VALUES_IOCTL
	ioctlSetValues = 0xC010B40F // GPIO_V2_LINE_SET_VALUES_IOCTL

	flagUsed     = 1 << 0
	flagInput    = 1 << 2
	flagOutput   = 1 << 3
	flagRising   = 1 << 4
	flagFalling  = 1 << 5
	flagDrain    = 1 << 6
	flagPullUp   = 1 << 8
	flagPullDown = 1 << 9
	flagNoPull   = 1 << 10

	attrOutputValues = 2

	eventRising = 1

	// eventBuffer is how many edges the kernel keeps for us; it allows 16 for
	// each of 64 lines (GPIO_V2_LINES_MAX in gpiolib-cdev.c). What is lost
	// beyond that shows in the sequence numbers.
	eventBuffer = 1024

	eventsAtOnce = 32
)

type chipInfo struct {
	name, label [32]byte
	lines       uint32
}

type lineInfo struct {
	name, consumer   [32]byte
	offset, numAttrs uint32
	flags            uint64
	attrs            [10][2]uint64
	padding          [4]uint32
}

type lineAttr struct {
	id, padding uint32
	value       uint64
	mask        uint64
}

type lineConfig struct {
	flags    uint64
	numAttrs uint32
	padding  [5]uint32
	attrs    [10]lineAttr
}

type lineRequest struct {
	offsets   [64]uint32
	consumer  [32]byte
	config    lineConfig
	numLines  uint32
	eventSize uint32
	padding   [5]uint32
	fd        int32
}

type lineValues struct{ bits, mask uint64 }

type lineEvent struct {
	timestamp                    uint64 // ns
	id, offset, seqno, lineSeqno uint32
	padding                      [6]uint32
}

// ioctl is replaced by tests, which have no controllers.
var ioctl = func(fd int, op uintptr, arg unsafe.Pointer) error {
	for {
		_, _, no := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), op, uintptr(arg))
		switch no {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return no
		}
	}
}

// A line is an open input or output. Its file is the kernel's lease on it.
type line struct {
	f    *os.File
	poll time.Duration // 0: events
	done chan struct{}
	once sync.Once
	out  atomic.Bool

	// Of the goroutine that waits for edges.
	seen   bool        // polling: the level at the last look
	seq    uint32      // events: number of the last one
	buf    []lineEvent // for reading
	queue  []lineEvent // part of buf: read, and not yet returned
	missed int         // changes that the kernel's buffer had no room for
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// openLine opens a line as r says.
func openLine(dev string, r request) (*line, error) {
	chip, err := openChip(dev, &r)
	if err != nil {
		return nil, err
	}
	defer unix.Close(chip) // the line has a file of its own
	if r.output {
		return openOutput(chip, r)
	}
	return openInput(chip, r)
}

func openInput(chip int, r request) (*line, error) {
	flags := uint64(flagInput)
	switch r.in.Pull {
	case hal.PullUp:
		flags |= flagPullUp
	case hal.PullDown:
		flags |= flagPullDown
	case hal.PullNone:
		flags |= flagNoPull
	}
	if r.in.Poll == 0 {
		l, err := requestLine(chip, r.offset, lineConfig{flags: flags | flagRising | flagFalling})
		if err == nil {
			return l, nil
		}
		if errors.Is(err, unix.EBUSY) {
			return nil, err
		}
		// No interrupt on this line; which error says so differs between
		// drivers. If it was something else, the next try says it again.
	}
	l, err := requestLine(chip, r.offset, lineConfig{flags: flags})
	if err != nil {
		return nil, err
	}
	l.poll = r.in.Poll
	if l.poll == 0 {
		l.poll = 10 * time.Millisecond
	}
	if l.seen, err = l.Read(); err != nil {
		_ = l.Close() // the reading's error says more
		return nil, err
	}
	return l, nil
}

func openOutput(chip int, r request) (*line, error) {
	if !r.keep {
		c := outputAt(r.high)
		if r.drain {
			c.flags |= flagDrain
		}
		l, err := requestLine(chip, r.offset, c)
		if err != nil {
			return nil, err
		}
		return l.driven(r.high)
	}
	// Without flags the kernel hands the line out as it is.
	l, err := requestLine(chip, r.offset, lineConfig{})
	if err != nil {
		return nil, err
	}
	high, err := l.Read()
	if err == nil {
		c := outputAt(high)
		err = l.control(ioctlSetConfig, unsafe.Pointer(&c))
	}
	if err != nil {
		_ = l.Close() // the error before says more
		return nil, err
	}
	return l.driven(high)
}

// driven sets the level once more, now that the line is an output: QEMU 7.2's
// ast2600 forgets a level that was set while it was an input.
func (l *line) driven(high bool) (*line, error) {
	l.out.Store(true)
	if err := l.Set(high); err != nil {
		_ = l.Close() // Set's error says more
		return nil, err
	}
	return l, nil
}

func outputAt(high bool) lineConfig {
	c := lineConfig{flags: flagOutput, numAttrs: 1}
	c.attrs[0] = lineAttr{id: attrOutputValues, mask: 1}
	if high {
		c.attrs[0].value = 1
	}
	return c
}

func requestLine(chip int, offset uint32, c lineConfig) (*line, error) {
	r := lineRequest{config: c, numLines: 1}
	r.offsets[0] = offset
	copy(r.consumer[:], "tidemill")
	if c.flags&(flagRising|flagFalling) != 0 {
		r.eventSize = eventBuffer
	}
	if err := ioctl(chip, ioctlLine, unsafe.Pointer(&r)); err != nil {
		if errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%w (beyond the chip's lines, or not possible on this line)", err)
		}
		return nil, os.NewSyscallError("request line", err)
	}
	// Nonblocking, so that the runtime's poller waits and Close interrupts.
	if err := unix.SetNonblock(int(r.fd), true); err != nil {
		unix.Close(int(r.fd))
		return nil, os.NewSyscallError("request line", err)
	}
	return &line{f: os.NewFile(uintptr(r.fd), "gpio"), done: make(chan struct{})}, nil
}
