package board

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tidemill/tidemill/hal"
)

// dup is replaced by tests, which have files enough.
var dup = func(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// A chip is an open device file of a controller.
type chip struct {
	fd          int
	name, label string
	lines       int
}

// eachChip opens the controllers below dev in order, those that have two device
// files once, and calls f with each until that returns false: the file is then
// f's to close. The error names what could not be looked at.
func eachChip(dev string, f func(c *chip) bool) error {
	files, _ := filepath.Glob(filepath.Join(dev, "gpiochip*")) // the pattern is well formed
	slices.SortFunc(files, func(a, b string) int {             // gpiochip10 after gpiochip2
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	var errs []error
	var seen []string
	for _, path := range files {
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			continue
		}
		var info chipInfo
		if err := ioctl(fd, ioctlChipInfo, unsafe.Pointer(&info)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			unix.Close(fd)
			continue
		}
		c := &chip{fd: fd, name: cString(info.name[:]), label: cString(info.label[:]), lines: int(info.lines)}
		if slices.Contains(seen, c.name) {
			unix.Close(fd)
			continue
		}
		seen = append(seen, c.name)
		if !f(c) {
			return nil
		}
		unix.Close(fd)
	}
	return errors.Join(errs...)
}

// line asks what a line is called and who holds it.
func (c *chip) line(offset int) (hal.Line, error) {
	info := lineInfo{offset: uint32(offset)}
	if err := ioctl(c.fd, ioctlLineInfo, unsafe.Pointer(&info)); err != nil {
		return hal.Line{}, fmt.Errorf("%s: line %d: %w", c.name, offset, err)
	}
	l := hal.Line{Name: cString(info.name[:])}
	if info.flags&flagUsed != 0 {
		l.User = cmp.Or(cString(info.consumer[:]), "the kernel")
	}
	return l, nil
}

// LineChips lists the controllers with their lines.
func (b *Board) LineChips() ([]hal.LineChip, error) {
	var out []hal.LineChip
	var errs []error
	err := eachChip(b.dev, func(c *chip) bool {
		lc := hal.LineChip{Name: c.name, Label: c.label, Lines: make([]hal.Line, c.lines)}
		for i := range lc.Lines {
			var err error
			if lc.Lines[i], err = c.line(i); err != nil {
				errs = append(errs, err)
				break
			}
		}
		out = append(out, lc)
		return true
	})
	return out, errors.Join(append(errs, err)...)
}

// headers are the controllers of a Raspberry Pi's header, whose offsets are the
// numbers of its GPIOs: Pi 0 to 3, Pi 4, Pi 5 (the labels are the kernel's).
var headers = []string{"pinctrl-bcm2835", "pinctrl-bcm2711", "pinctrl-rp1"}

// A chipSearch looks for the controller of a line.
type chipSearch struct {
	r      *request
	number int  // of a name such as GPIO17
	isGPIO bool // the name is one

	fd     int      // of the controller, -1: not found
	header int      // of a Raspberry Pi's header, -1: none
	have   []string // labels of all controllers
	named  []string // lines of the name
	failed error    // a file could not be kept
}

// look takes one controller, and says whether to look at more.
func (s *chipSearch) look(c *chip) bool {
	s.have = append(s.have, c.label)
	if s.r.line == "" {
		if s.r.chip == c.label || s.r.chip == c.name {
			s.fd = c.fd
		}
		return s.fd < 0
	}
	found := false
	for i := range c.lines {
		if l, err := c.line(i); err == nil && l.Name == s.r.line {
			s.found(c, i)
			found = true
		}
	}
	if !found && s.isGPIO && s.header < 0 && s.failed == nil && s.number < c.lines &&
		slices.Contains(headers, c.label) {
		s.header, s.failed = dup(c.fd)
	}
	return true
}

// found keeps the first line of the name.
func (s *chipSearch) found(c *chip, offset int) {
	if s.named = append(s.named, fmt.Sprintf("%s:%d", c.label, offset)); len(s.named) == 1 && s.failed == nil {
		s.r.offset = uint32(offset)
		s.fd, s.failed = dup(c.fd)
	}
}

// openChip opens the controller that r is on, and fills in r's offset if it has a
// line's name.
func openChip(dev string, r *request) (fd int, err error) {
	s := &chipSearch{r: r, fd: -1, header: -1}
	s.number, s.isGPIO = gpioNumber(r.line)
	err = eachChip(dev, s.look)
	switch {
	case s.failed != nil:
		err = s.failed
	case len(s.named) > 1:
		err = fmt.Errorf("several lines have this name: %s; name one of these", strings.Join(s.named, ", "))
	case s.fd >= 0:
		fd, s.fd, err = s.fd, -1, nil
	case s.header >= 0: // a description without names
		r.offset = uint32(s.number)
		fd, s.header, err = s.header, -1, nil
	case err != nil:
	case r.line != "":
		err = fmt.Errorf("%w: no line has this name (tidemill-agent sensors scan lists them)", hal.ErrNoDevice)
	case len(s.have) == 0:
		err = fmt.Errorf("%w: this machine has no GPIO chips", hal.ErrNoDevice)
	default:
		err = fmt.Errorf("%w: no such chip, there are: %s; a name such as GPIO17 serves any Raspberry Pi",
			hal.ErrNoDevice, strings.Join(s.have, ", "))
	}
	for _, unused := range []int{s.fd, s.header} {
		if unused >= 0 {
			unix.Close(unused)
		}
	}
	return fd, err
}

// gpioNumber returns the number of a name such as GPIO17.
func gpioNumber(name string) (n int, ok bool) {
	digits, ok := strings.CutPrefix(name, "GPIO")
	n, err := strconv.Atoi(digits)
	return n, ok && err == nil && n >= 0 && strconv.Itoa(n) == digits
}
