package sensor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/form"
)

// A scanElement is where a channel's value stands in a scan of the buffer.
type scanElement struct {
	name                string // "in_temp"
	index               int
	offset              int // bytes from the scan's begin
	big, signed         bool
	bits, stored, shift int // stored is a multiple of 8, at most 64
	repeat              int
}

// parseScanType reads the text of a file X_type: byte order, sign, bits that count, bits in
// the buffer, how often, and how far to shift right: "be:s12/16>>4", "le:s16/16X4>>0".
func parseScanType(s string) (e scanElement, err error) {
	rest, good := s, true
	// number reads a number of at most most digits after begin. Where begin is not it is
	// otherwise, or what is wrong if that is -1.
	number := func(begin string, most, otherwise int) int {
		after, ok := strings.CutPrefix(rest, begin)
		if !ok {
			good = good && otherwise >= 0
			return otherwise
		}
		digits, left := form.Digits.Cut(after)
		good, rest = good && form.Digits.Is(digits, 1, most), left
		n, _ := strconv.Atoi(digits) // digits, few
		return n
	}
	order, rest0, _ := strings.Cut(s, ":")
	e.big, e.signed = order == "be", strings.HasPrefix(rest0, "s")
	if rest0 == "" || order != "be" && order != "le" || !e.signed && rest0[0] != 'u' {
		return e, fmt.Errorf("%w: a buffer's type %.40q", ErrUnsupported, s)
	}
	rest = rest0[1:]
	e.bits, e.stored, e.repeat, e.shift = number("", 3, -1), number("/", 3, -1), number("X", 2, 1), number(">>", 2, 0)
	if !good || rest != "" || e.bits < 1 || e.bits+e.shift > e.stored || e.repeat < 1 ||
		!slices.Contains([]int{8, 16, 32, 64}, e.stored) {
		return e, fmt.Errorf("%w: a buffer's type %.40q", ErrUnsupported, s)
	}
	return e, nil
}

// size is that of the element, which is also what it is aligned to.
func (e scanElement) size() int { return e.stored / 8 * e.repeat }

// layout puts the elements in their order, each at a multiple of its own size, and
// returns the bytes of a scan: a multiple of the largest.
func layout(elements []scanElement) int {
	slices.SortStableFunc(elements, func(a, b scanElement) int { return a.index - b.index })
	at, largest := 0, 1
	for i := range elements {
		size := elements[i].size()
		at = (at + size - 1) / size * size
		elements[i].offset = at
		at += size
		largest = max(largest, size)
	}
	return (at + largest - 1) / largest * largest
}

// raw returns the element's number in a scan.
func (e scanElement) raw(scan []byte) float64 {
	b := scan[e.offset : e.offset+e.stored/8]
	var wide [8]byte // little end first
	for i, c := range b {
		if e.big {
			i = len(b) - 1 - i
		}
		wide[i] = c
	}
	u := binary.LittleEndian.Uint64(wide[:]) >> e.shift
	above := 64 - e.bits
	if e.signed {
		return float64(int64(u<<above) >> above)
	}
	return float64(u << above >> above)
}

// scanElements reads what is enabled of a device's buffer.
func scanElements(dir sysDir) ([]scanElement, error) {
	at := sysDir{dir.fs, path.Join(dir.path, "scan_elements")}
	types, _ := fs.Glob(at.fs, path.Join(at.path, "*_type")) // the pattern is well formed
	var out []scanElement
	for _, file := range types {
		name := strings.TrimSuffix(path.Base(file), "_type")
		if on, err := at.text(name + "_en"); err != nil || on != "1" {
			continue
		}
		text, err := at.text(name + "_type")
		if err != nil {
			return nil, err
		}
		e, err := parseScanType(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		index, err := at.number(name + "_index")
		if err != nil {
			return nil, err
		}
		e.name, e.index = name, int(index)
		out = append(out, e)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no channel of the buffer is enabled: echo 1 > /%s/scan_elements/…_en",
			ErrUnsupported, dir.path)
	}
	return out, nil
}

// iioBuffer takes scans of a buffer. Which channels are in it, the trigger and that
// it is enabled are the system's to set, as by a udev rule: the agent may not write
// to /sys.
type iioBuffer struct {
	d        *iio
	dir      sysDir
	channels []hal.Channel
	chosen   []iioChannel
	elements []scanElement // one for each of chosen
	scan     int           // bytes
	calls    calls
}

func (d *iio) openBuffer(ctx context.Context, dir sysDir) (hal.Sensor, error) {
	elements, err := scanElements(dir)
	if err != nil {
		return nil, err
	}
	b := &iioBuffer{d: d, dir: dir, scan: layout(elements), calls: calls{release: func() error { return nil }}}
	var names []string
	for _, e := range elements {
		names = append(names, e.name)
	}
	if b.chosen, err = d.choose(names); err != nil {
		return nil, err
	}
	for i, name := range iioNames(dir, b.chosen) {
		b.channels = append(b.channels, hal.Channel{Name: name, Unit: b.chosen[i].unit, Kind: hal.Float})
		at := slices.IndexFunc(elements, func(e scanElement) bool { return e.name == b.chosen[i].attr })
		b.elements = append(b.elements, elements[at])
	}
	if _, err := b.Read(ctx); err != nil {
		return nil, err
	}
	return b, nil
}

func (b *iioBuffer) Channels() []hal.Channel { return b.channels }

// Read takes what is in the buffer and gives its newest scan, or waits for one.
func (b *iioBuffer) Read(ctx context.Context) ([]hal.Value, error) {
	var vals []hal.Value
	err := b.calls.do(ctx, func() error {
		scan, err := b.newest(ctx)
		if err != nil {
			return err
		}
		vals, err = b.values(scan)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("iio %s: %w", b.d.device, err)
	}
	return vals, nil
}

func (b *iioBuffer) Close() error { return b.calls.close() }

// scansAtOnce is how many scans one read of the kernel's takes.
const scansAtOnce = 64

// newest reads until there is no more for the moment.
func (b *iioBuffer) newest(ctx context.Context) ([]byte, error) {
	if on, err := b.dir.text("buffer/enable"); err == nil && on == "0" {
		return nil, fmt.Errorf("%w: the buffer is not enabled: echo 1 > /%s/buffer/enable", ErrNotReady, b.dir.path)
	}
	f, err := b.dir.fs.Open("dev/" + b.dir.name())
	if err != nil {
		return nil, attrError(err)
	}
	defer f.Close()
	// A character device that can wait has a deadline; all else never waits.
	if d, ok := f.(interface{ SetReadDeadline(time.Time) error }); ok {
		stop := context.AfterFunc(ctx, func() { _ = d.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	buf := make([]byte, scansAtOnce*b.scan)
	var last []byte
	for range 1 << 10 { // more than any buffer holds; a device that never ends must not hold us
		n, err := f.Read(buf)
		n -= n % b.scan
		if n > 0 {
			last = append(last[:0], buf[n-b.scan:n]...)
		}
		switch {
		case err == nil && n == len(buf):
			continue
		case last != nil:
			return last, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, io.EOF) || err == nil:
			return nil, fmt.Errorf("%w: the buffer has no whole scan", ErrNotReady)
		}
		return nil, attrError(err)
	}
	return last, nil
}

// values makes a reading of a scan.
func (b *iioBuffer) values(scan []byte) ([]hal.Value, error) {
	vals := make([]hal.Value, len(b.chosen))
	var first error
	good := false
	for i, c := range b.chosen {
		v, err := c.scaled(b.dir, b.elements[i].raw(scan))
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		vals[i], good = v, true
	}
	if !good {
		return nil, first
	}
	return vals, nil
}
