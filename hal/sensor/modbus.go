package sensor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/tidemill/tidemill/hal"
)

var modbusDriver = driver{
	Driver: Driver{
		Name:    "modbus",
		Summary: "registers of a Modbus device: meters, inverters, PLCs; RTU on a serial port, or TCP",
		Options: append([]Option{
			{"endpoint", "string", "", "of Modbus TCP: host:port, mostly port 502"},
			{"port", "string", "", "of RTU: the serial port, best by its stable name, /dev/serial/by-id/..."},
		}, append(slices.Clone(serialOptions), []Option{
			{"unit_id", "integer", "1", "the device's address: 1 to 247 on RTU; 0 to 255 on TCP, there often 1 or 255"},
			{"timeout", "duration", "1s", "of an answer, 10ms to 10s"},
			{"pause", "duration", "0s", "silence before each request beyond RTU's own, at most 1s: some need 50ms"},
			{"gap", "integer", "0", "registers apart by no more are read at once, with those between; at most 100"},
			{"registers", "tables", "", "required: what to read"},
		}...)...),
		Tables: map[string][]Option{"registers": registerOptions},
	},
	set: func(o *options) opener {
		m := &modbusSensor{line: modbusLine{endpoint: o.text("endpoint", ""), port: o.serialPort(false)}}
		m.line.mode = o.serialMode()
		_, tcp := o.values["endpoint"]
		_, rtu := o.values["port"]
		switch {
		case !tcp && !rtu:
			o.fail("endpoint", "missing, and port too")
		case m.line.endpoint != "" && m.line.port != "":
			o.fail("port", "%q, want none beside endpoint", m.line.port)
		case m.line.endpoint != "":
			if _, port, err := net.SplitHostPort(m.line.endpoint); err != nil || port == "" {
				o.fail("endpoint", "%q, want host:port", m.line.endpoint)
			}
		}
		// On a serial line 0 is for all devices, which do not answer, and 248 to 255
		// are reserved (Modbus over serial line 1.02, 2.2).
		least, most := int64(1), int64(247)
		if m.line.port == "" {
			least, most = 0, 255
		}
		m.unit = byte(o.between("unit_id", 1, least, most))
		m.line.timeout = o.duration("timeout", 10*time.Millisecond, 10*time.Second)
		if m.line.timeout == 0 {
			m.line.timeout = time.Second
		}
		m.line.pause = o.duration("pause", time.Millisecond, time.Second)
		m.registers(o)
		m.requests = plan(m.regs, int(o.between("gap", 0, 0, 100)))
		return m.open
	},
}

var registerOptions = []Option{
	{"name", "string", "", "required: of the channel, [a-z][a-z0-9_]*, at most 32 bytes"},
	{"address", "integer", "", "required: as on the wire, from 0: a manual's 40001 is holding 0, its 30001 input 0"},
	{"table", "string", "holding", "holding, input, coil or discrete"},
	{"type", "string", "", "int16, uint16 (default), int32, uint32, int64, uint64, float32, float64, or bool"},
	{"order", "string", "abcd", "of bytes, A the most significant: abcd, cdab (words swapped), badc, dcba"},
	{"bit", "integer", "0", "of a bool in a register, 0 the lowest"},
	{"scale", "number", "1", "value = register * scale + offset"},
	{"offset", "number", "0", "see scale"},
	{"unit", "string", "", "of the value after scale and offset"},
	{"none", "integer", "", "what the register, or all of them, hold where there is no value: 0x8000, 0xFFFF"},
}

// A modbusSensor reads one device.
type modbusSensor struct {
	line     modbusLine // as configured; the one in use is shared
	unit     byte
	regs     []modbusRegister
	requests []modbusRequest
	channels []hal.Channel
	shared   *modbusLine
	calls    calls
}

// registers reads the option of that name.
func (m *modbusSensor) registers(o *options) {
	n := o.tables("registers", func(_ int, t *options) {
		r := modbusRegister{place: len(m.regs)}
		c := hal.Channel{Name: t.channelName(m.channels), Unit: t.unit()}
		if _, ok := t.get("address"); !ok {
			t.fail("address", "missing")
		}
		r.address = int(t.between("address", 0, 0, 0xFFFF))
		r.table = t.choice("table", "holding", "input", "coil", "discrete")
		kind := t.choice("type", "uint16", "int16", "int32", "uint32", "int64", "uint64", "float32", "float64", "bool")
		if r.bits() {
			if _, ok := t.get("type"); ok && kind != "bool" {
				t.fail("type", "%q, want bool of a %s", kind, r.table)
			}
			kind = "bool"
		}
		r.kind = kind
		r.order = t.choice("order", "abcd", "cdab", "badc", "dcba")
		r.bit = int(t.between("bit", 0, 0, 15))
		r.scale, r.offset = t.number("scale", 1, -1e12, 1e12), t.number("offset", 0, -1e12, 1e12)
		if _, r.hasNone = t.get("none"); r.hasNone {
			r.none = uint64(t.whole("none", 0))
		}
		if r.address+r.words() > 1<<16 {
			t.fail("address", "%d, want %d registers below 65536", r.address, r.words())
		}
		c.Kind = r.channelKind()
		m.regs, m.channels = append(m.regs, r), append(m.channels, c)
	})
	if _, ok := o.values["registers"]; !ok {
		o.fail("registers", "missing")
	} else if n > maxRegisters {
		o.fail("registers", "%d, want at most %d", n, maxRegisters)
	}
}

// maxRegisters is what a record can have columns of, and some to spare.
const maxRegisters = 200

func (m *modbusSensor) open(ctx context.Context, _ hal.Board) (hal.Sensor, error) {
	shared, err := modbusLines.take(&m.line)
	if err != nil {
		return nil, err
	}
	m.shared = shared
	m.calls.release = func() error { return modbusLines.give(shared) }
	if _, err := m.Read(ctx); err != nil {
		_ = m.Close() // err says more
		return nil, err
	}
	return m, nil
}

func (m *modbusSensor) Channels() []hal.Channel { return m.channels }

// Read asks for all registers. Those that the device refuses are absent while others
// can be read.
func (m *modbusSensor) Read(ctx context.Context) ([]hal.Value, error) {
	var vals []hal.Value
	err := m.calls.do(ctx, func() (err error) {
		vals, err = m.once(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("modbus %s unit %d: %w", m.line.name(), m.unit, err)
	}
	return vals, nil
}

func (m *modbusSensor) once(ctx context.Context) ([]hal.Value, error) {
	vals := make([]hal.Value, len(m.regs))
	var first error
	good := false
	for _, q := range m.requests {
		words, err := m.shared.ask(ctx, m.unit, q)
		if err != nil {
			if first == nil {
				first = err
			}
			if !errors.Is(err, ErrException) {
				break // the others would wait as long
			}
			continue
		}
		for _, r := range q.regs {
			v, err := r.value(words[r.address-q.address:])
			if err != nil {
				if first == nil {
					first = err
				}
				continue
			}
			vals[r.place], good = v, true
		}
	}
	if !good {
		return nil, first
	}
	return vals, nil
}

func (m *modbusSensor) Close() error { return m.calls.close() }

// A modbusRequest reads adjacent registers of a table.
type modbusRequest struct {
	table          string
	address, count int
	regs           []modbusRegister
}

// The most that one request reads: Modbus application protocol 1.1b3, 6.1 and 6.3.
const (
	mostBits      = 2000
	mostRegisters = 125
)

// plan puts registers together that are apart by no more than gap.
func plan(regs []modbusRegister, gap int) []modbusRequest {
	sorted := slices.Clone(regs)
	slices.SortStableFunc(sorted, func(a, b modbusRegister) int { return a.address - b.address })
	var out []modbusRequest
	for _, table := range []string{"holding", "input", "coil", "discrete"} {
		first := true
		for _, r := range sorted {
			if r.table != table {
				continue
			}
			most := mostRegisters
			if r.bits() {
				most = mostBits
			}
			if !first {
				q := &out[len(out)-1]
				end := max(q.address+q.count, r.address+r.words())
				if r.address <= q.address+q.count+gap && end-q.address <= most {
					q.count, q.regs = end-q.address, append(q.regs, r)
					continue
				}
			}
			first = false
			out = append(out, modbusRequest{table: table, address: r.address, count: r.words(),
				regs: []modbusRegister{r}})
		}
	}
	return out
}
