package haltest

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/tidemill/tidemill/hal"
)

// A Transfer is one I2C transfer: what was written, then what was read.
type Transfer struct {
	Addr uint16
	W, R []byte
	Err  string // "" if it went well; then R counts
	None bool   // Err was a missing acknowledge, hal.ErrNoDevice
}

// A Trace is the traffic of one bus, in order.
type Trace []Transfer

// WriteTo writes one line for each transfer: address, bytes written and bytes
// read in hex, "-" for none, then "!" and an error if it failed, "!!" if it was
// hal.ErrNoDevice. Lines that begin with # are comments.
//
//	76 d0 60
//	76 f72e -
//	77 d0 00 !! no acknowledge
//
// A failed read's bytes say how many were wanted.
func (tr Trace) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	for _, x := range tr {
		fmt.Fprintf(&b, "%02x %s %s", x.Addr, dash(x.W), dash(x.R))
		if x.Err != "" {
			mark := "!"
			if x.None {
				mark = "!!"
			}
			fmt.Fprintf(&b, " %s %s", mark, strings.Join(strings.Fields(x.Err), " "))
		}
		b.WriteByte('\n')
	}
	return b.WriteTo(w)
}

func dash(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	return hex.EncodeToString(b)
}

// ReadTrace reads what WriteTo wrote. An error names the line.
func ReadTrace(r io.Reader) (Trace, error) {
	var tr Trace
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		if l := strings.TrimSpace(lines.Text()); l != "" && l[0] != '#' {
			x, err := parseTransfer(l)
			if err != nil {
				return nil, fmt.Errorf("trace line %d: %w", n, err)
			}
			tr = append(tr, x)
		}
	}
	return tr, lines.Err()
}

func parseTransfer(l string) (x Transfer, err error) {
	f := strings.Fields(l)
	if len(f) < 3 {
		return x, fmt.Errorf("%q, want address, written, read", l)
	}
	addr, err := strconv.ParseUint(f[0], 16, 10)
	if err != nil {
		return x, fmt.Errorf("address %q", f[0])
	}
	x.Addr = uint16(addr)
	for i, to := range []*[]byte{&x.W, &x.R} {
		if s := f[1+i]; s != "-" {
			if *to, err = hex.DecodeString(s); err != nil {
				return x, err
			}
		}
	}
	if len(f) == 3 {
		return x, nil
	}
	if x.None = f[3] == "!!"; !x.None && f[3] != "!" || len(f) == 4 {
		return x, fmt.Errorf("%q, want ! and an error", strings.Join(f[3:], " "))
	}
	x.Err = strings.Join(f[4:], " ")
	return x, nil
}

// A Recorder is a bus that notes what passes through it to another one. Several
// goroutines may use it.
type Recorder struct {
	i2c.BusCloser
	mu    sync.Mutex // guards trace
	trace Trace
}

// NewRecorder returns a recorder of what goes to bus, which Close closes.
func NewRecorder(bus i2c.BusCloser) *Recorder { return &Recorder{BusCloser: bus} }

// Tx passes a transfer on.
func (r *Recorder) Tx(addr uint16, w, in []byte) error {
	err := r.BusCloser.Tx(addr, w, in)
	x := Transfer{Addr: addr, W: bytes.Clone(w), R: bytes.Clone(in)}
	if err != nil {
		x.Err, x.None = err.Error(), errors.Is(err, hal.ErrNoDevice)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trace = append(r.trace, x)
	return err
}

// Trace returns what passed so far.
func (r *Recorder) Trace() Trace {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(Trace(nil), r.trace...)
}

// A Player is a bus that answers as a trace says. A transfer that differs from
// the trace's next one fails and is not counted. Several goroutines may use it.
type Player struct {
	mu     sync.Mutex // guards all below
	rest   Trace
	done   int
	closed bool
}

// NewPlayer returns a player of tr.
func NewPlayer(tr Trace) *Player { return &Player{rest: tr} }

func (p *Player) String() string { return "playback" }

// Tx plays the next transfer.
func (p *Player) Tx(addr uint16, w, r []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("playback: %w", os.ErrClosed)
	}
	if len(p.rest) == 0 {
		return fmt.Errorf("playback: transfer %d, %02x %x: the trace has ended", p.done+1, addr, w)
	}
	x := p.rest[0]
	if x.Addr != addr || !bytes.Equal(x.W, w) || len(x.R) != len(r) {
		return fmt.Errorf("playback: transfer %d is %02x %x reading %d, want %02x %x reading %d",
			p.done+1, addr, w, len(r), x.Addr, x.W, len(x.R))
	}
	p.rest, p.done = p.rest[1:], p.done+1
	switch {
	case x.None:
		return fmt.Errorf("playback: %s: %w", x.Err, hal.ErrNoDevice)
	case x.Err != "":
		return fmt.Errorf("playback: %s", x.Err)
	}
	copy(r, x.R)
	return nil
}

// SetSpeed does nothing.
func (p *Player) SetSpeed(physic.Frequency) error { return nil }

// Left counts the transfers that were not played yet.
func (p *Player) Left() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.rest)
}

// Close lets further transfers fail. It says nothing of what is left.
func (p *Player) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

// OneBus returns a board whose one bus is bus, such as a Recorder or a Player.
// Each I2C call returns bus itself, so its Close ends it for all.
func OneBus(name string, bus i2c.BusCloser) hal.Board { return oneBus{name, bus} }

type oneBus struct {
	name string
	bus  i2c.BusCloser
}

func (b oneBus) Buses() []string { return []string{b.name} }

func (b oneBus) I2C(name string) (i2c.BusCloser, error) {
	if name != b.name {
		return nil, fmt.Errorf("bus %q: %w", name, hal.ErrNoDevice)
	}
	return b.bus, nil
}

func (b oneBus) Input(line string) (hal.DigitalInput, error) {
	return nil, fmt.Errorf("line %q: %w", line, hal.ErrNoDevice)
}

func (b oneBus) Output(line string) (hal.DigitalOutput, error) {
	return nil, fmt.Errorf("line %q: %w", line, hal.ErrNoDevice)
}

func (b oneBus) Close() error { return nil }
