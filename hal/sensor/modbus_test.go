package sensor_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

// keep opens a sensor until the test's end.
func keep(t testing.TB, driver string, b hal.Board, opts map[string]any) hal.Sensor {
	t.Helper()
	s := open(t, driver, b, opts)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// float32Words are the registers of a float, the high word first.
func float32Words(f float32) []uint16 {
	u := math.Float32bits(f)
	return []uint16{uint16(u >> 16), uint16(u)}
}

// newSDM120 is an Eastron SDM120 with some of its input registers, as its manual
// lists them: pairs that are floats, the high word first.
func newSDM120() *sim.Meter {
	m := sim.NewMeter(1)
	for address, f := range map[uint16]float32{0x0000: 230.4, 0x0006: 1.25, 0x000C: 288, 0x0046: 50.02,
		0x0156: 1234.5} {
		m.Set(sim.Input, address, float32Words(f)...)
	}
	return m
}

var sdm120 = []any{
	map[string]any{"name": "voltage", "table": "input", "address": 0x0000, "type": "float32", "unit": "V"},
	map[string]any{"name": "current", "table": "input", "address": 0x0006, "type": "float32", "unit": "A"},
	map[string]any{"name": "power", "table": "input", "address": 0x000C, "type": "float32", "unit": "W"},
	map[string]any{"name": "frequency", "table": "input", "address": 0x0046, "type": "float32", "unit": "Hz"},
	map[string]any{"name": "energy", "table": "input", "address": 0x0156, "type": "float32", "unit": "kWh"},
}

// onTCP is the endpoint of a device.
func onTCP(t testing.TB, m *sim.Meter) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); m.ServeTCP(l) }()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// onRTU is the port of a device.
func onRTU(t testing.TB, m *sim.Meter) string {
	line, err := sim.NewSerialLine()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = m.ServeRTU(line) }()
	t.Cleanup(func() { line.Close(); <-done })
	return line.Port
}

func TestModbus(t *testing.T) {
	tcp, port := onTCP(t, newSDM120()), onRTU(t, newSDM120())
	for _, opts := range []map[string]any{
		{"endpoint": tcp, "registers": sdm120},
		{"port": port, "registers": sdm120, "baud": 19200, "parity": "even"},
	} {
		haltest.Sensor(t, func(t testing.TB) hal.Sensor { return open(t, "modbus", nil, opts) })
		m := reading(t, keep(t, "modbus", nil, opts))
		for name, want := range map[string]float32{"voltage": 230.4, "current": 1.25, "power": 288, "frequency": 50.02,
			"energy": 1234.5} {
			if got := m[name].Float(); got != float64(want) {
				t.Errorf("%s %v, want %v", name, got, want)
			}
		}
	}
}

// Adjacent registers come by one request, and so do those that a gap allows.
func TestModbusRequests(t *testing.T) {
	m := sim.NewMeter(3)
	m.Set(sim.Holding, 100, 0xFFFE, 0x8000, 1, 2, 3, 4)
	m.Set(sim.Coils, 8, 1, 0, 1)
	m.Set(sim.Input, 500, 0x4048, 0xF5C3) // 3.14
	regs := []any{
		map[string]any{"name": "b", "address": 101, "type": "int16", "none": 0x8000},
		map[string]any{"name": "a", "address": 100, "type": "int16"},
		map[string]any{"name": "mask", "address": 105, "type": "bool", "bit": 2},
		map[string]any{"name": "c", "address": 102, "type": "uint32", "scale": 0.1, "offset": -5},
		map[string]any{"name": "on", "address": 8, "table": "coil"},
		map[string]any{"name": "also", "address": 10, "table": "coil"},
		map[string]any{"name": "pi", "address": 500, "table": "input", "type": "float32"},
	}
	endpoint := onTCP(t, m)
	for gap, want := range map[int][]sim.Read{
		0: {{Function: 3, Address: 100, Count: 4}, {Function: 3, Address: 105, Count: 1},
			{Function: 4, Address: 500, Count: 2}, {Function: 1, Address: 8, Count: 1},
			{Function: 1, Address: 10, Count: 1}},
		1: {{Function: 3, Address: 100, Count: 6}, {Function: 4, Address: 500, Count: 2},
			{Function: 1, Address: 8, Count: 3}},
	} {
		s := keep(t, "modbus", nil, map[string]any{"endpoint": endpoint, "unit_id": 3, "gap": gap, "registers": regs})
		m.Requests()
		v := reading(t, s)
		if got := m.Requests(); !slices.Equal(got, want) {
			t.Errorf("gap %d: %v, want %v", gap, got, want)
		}
		if v["a"].Int() != -2 || v["b"].Kind() != hal.Absent || math.Abs(v["c"].Float()-(0x10002*0.1-5)) > 1e-9 ||
			!v["mask"].Bool() || !v["on"].Bool() || !v["also"].Bool() || float32(v["pi"].Float()) != 3.14 {
			t.Errorf("%v", v)
		}
	}
}

// What the device refuses is absent while others can be read; what is damaged is
// asked for once more; a device that is silent is not there, and comes back.
func TestModbusFaults(t *testing.T) {
	for _, kind := range []string{"tcp", "rtu"} {
		m := newSDM120()
		opts := map[string]any{"timeout": "500ms", "registers": append(slices.Clone(sdm120),
			map[string]any{"name": "odd", "address": 7})}
		damaged := "crc"
		if kind == "tcp" {
			opts["endpoint"], damaged = onTCP(t, m), "protocol"
		} else {
			opts["port"] = onRTU(t, m)
		}
		s := keep(t, "modbus", nil, opts)
		if v := reading(t, s); v["odd"].Kind() != hal.Absent || v["voltage"].Kind() != hal.Float {
			t.Errorf("%s: %v", kind, v)
		}
		m.Damage(1)
		if v := reading(t, s); v["voltage"].Kind() != hal.Float {
			t.Errorf("%s: a damaged answer was not asked for again: %v", kind, v)
		}
		for _, c := range []struct {
			do, undo func()
			kind     string
			says     string
		}{
			{func() { m.Damage(100) }, func() { m.Damage(0) }, damaged, ""},
			{func() { m.Refuse(4) }, func() { m.Refuse(0) }, "exception", "server device failure"},
			{func() { m.Refuse(99) }, func() { m.Refuse(0) }, "exception", "99"},
			{func() { m.Silence(true) }, func() { m.Silence(false) },
				map[string]string{"tcp": "not_ready", "rtu": "no_device"}[kind], ""},
		} {
			c.do()
			if _, err := s.Read(t.Context()); sensor.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %s %s", kind, err, c.kind, c.says)
			}
			c.undo()
			if v := reading(t, s); v["power"].Float() != 288 {
				t.Errorf("%s: %v", kind, v)
			}
		}
	}
}

// Sensors of one port take turns; each gets the answers of its own unit.
func TestModbusSharedPort(t *testing.T) {
	line, err := sim.NewSerialLine()
	if err != nil {
		t.Fatal(err)
	}
	meter := unitMeter{}
	for unit := byte(1); unit <= 3; unit++ {
		meter[unit] = sim.NewMeter(unit)
		meter[unit].Set(sim.Holding, 0, uint16(unit)*1000)
	}
	done := make(chan struct{})
	go func() { defer close(done); meter.serve(line) }()
	defer func() { line.Close(); <-done }()
	regs := []any{map[string]any{"name": "n", "address": 0}}
	var wg sync.WaitGroup
	for unit := int64(1); unit <= 3; unit++ {
		s := keep(t, "modbus", nil, map[string]any{"port": line.Port, "baud": 115200, "unit_id": unit,
			"registers": regs})
		wg.Go(func() {
			for range 10 {
				v, err := s.Read(t.Context())
				if err != nil || v[0].Int() != unit*1000 {
					t.Errorf("unit %d: %v, %v", unit, v, err)
				}
			}
		})
	}
	wg.Wait()
	_, err = sensor.Open(t.Context(), "modbus", nil, map[string]any{"port": line.Port, "registers": regs})
	if err == nil || !strings.Contains(err.Error(), "115200 baud, 8N1") {
		t.Errorf("another speed on the same port: %v", err)
	}
	for name, opts := range map[string]map[string]any{
		"gone":   {"port": "/dev/serial/by-id/usb-none", "registers": regs},
		"refuse": {"endpoint": "127.0.0.1:1", "registers": regs},
	} {
		if _, err := sensor.Open(t.Context(), "modbus", nil, opts); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("%s: %v, want no device", name, err)
		}
	}
}

// A unitMeter is several devices on one line.
type unitMeter map[byte]*sim.Meter

func (u unitMeter) serve(line *sim.SerialLine) {
	var adu [8]byte
	for n := 0; ; {
		k, err := line.Read(adu[n:])
		if err != nil {
			return
		}
		if n += k; n < len(adu) {
			continue
		}
		n = 0
		if m := u[adu[0]]; m != nil {
			_ = m.ServeRTU(&oneRequest{SerialLine: line, rest: adu[:]})
		}
	}
}

// A oneRequest gives a device one request that was read already.
type oneRequest struct {
	*sim.SerialLine
	rest []byte
}

func (o *oneRequest) Read(p []byte) (int, error) {
	if len(o.rest) == 0 {
		return 0, errors.New("one request alone")
	}
	n := copy(p, o.rest)
	o.rest = o.rest[n:]
	return n, nil
}

func TestModbusCheck(t *testing.T) {
	for toml, want := range map[string]string{
		`endpoint = "a:502"`: "registers: missing",
		`endpoint = "a:502"
		port = "/dev/ttyS0"
		registers = [{name = "a", address = 0}]`: `port: "/dev/ttyS0", want none beside endpoint`,
		`port = "/dev/ttyS0"
		baud = 9601
		registers = [{name = "A", address = 70000, type = "int8", order = "dbca"}, {address = 0, table = "coil", type = "int16"},
			{name = "ts", address = 65535, type = "uint32", colour = "red"}]`: "baud: 9601, want one of [300 600 1200 2400 " +
			"4800 9600 19200 38400 57600 115200 230400 460800 921600]\n" +
			"registers[0].address: 70000, want 0 to 65535\n" +
			"registers[0].name: \"A\", want [a-z][a-z0-9_]*, at most 32 bytes, and not ts\n" +
			"registers[0].order: \"dbca\", want one of abcd, cdab, badc, dcba\n" +
			"registers[0].type: \"int8\", want one of uint16, int16, int32, uint32, int64, uint64, float32, float64, bool\n" +
			"registers[1].name: missing\n" +
			"registers[1].type: \"int16\", want bool of a coil\n" +
			"registers[2].address: 65535, want 2 registers below 65536\n" +
			"registers[2].colour: unknown option\n" +
			"registers[2].name: \"ts\", want [a-z][a-z0-9_]*, at most 32 bytes, and not ts",
		`endpoint = "a"
		registers = [1]`: "endpoint: \"a\", want host:port\nregisters: [1], want a list of tables",
	} {
		if got := errors.Join(sensor.Check("modbus", fromTOML(t, toml))...); fmt.Sprint(got) != want {
			t.Errorf("%s:\n got %v\nwant %s", toml, got, want)
		}
	}
}

// Whatever a device answers, a reading ends, and each value is a number.
func FuzzModbus(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 7, 1, 3, 4, 0x7f, 0xc0, 0, 0}, "abcd")
	f.Add([]byte{0, 1, 0, 0, 0, 3, 1, 0x83, 2}, "cdab")
	f.Add([]byte{0, 1, 0, 1, 0, 3, 1, 3, 2}, "dcba")
	f.Fuzz(func(t *testing.T, answer []byte, order string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				var ask [12]byte
				n, _ := c.Read(ask[:])
				out := slices.Clone(answer)
				if n > 2 && len(out) > 2 {
					copy(out, ask[:2])
				}
				_, _ = c.Write(out)
				c.Close()
			}
		}()
		defer func() { l.Close(); <-done }()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s, err := sensor.Open(ctx, "modbus", nil, map[string]any{"endpoint": l.Addr().String(), "timeout": "20ms",
			"registers": []any{map[string]any{"name": "f", "address": 0, "type": "float32", "order": order}}})
		if err != nil {
			var oe *sensor.OptionError
			if ctx.Err() != nil || sensor.KindOf(err) == "" && !errors.As(err, &oe) {
				t.Errorf("%v", err)
			}
			return
		}
		s.Close()
		u := binary.BigEndian.Uint32(answer[len(answer)-4:])
		if f := math.Float32frombits(u); order == "abcd" && f != f {
			t.Errorf("NaN was taken of %x", answer)
		}
	})
}
