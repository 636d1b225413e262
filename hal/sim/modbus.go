package sim

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

// A Meter is a Modbus device with registers, as a server of TCP and a slave of RTU. It
// reads function codes 1 to 4 of the application protocol 1.1b3, answers all others
// and addresses that it does not have with exceptions, and is silent to other units.
type Meter struct {
	unit byte

	mu       sync.Mutex // guards all below
	tables   map[byte]map[uint16]uint16
	refuse   byte // an exception's code for each request; 0: none
	silent   bool
	damage   int    // of so many answers one bit is flipped
	requests []Read // that came for this unit
}

// A Read is one request.
type Read struct {
	Function       byte
	Address, Count uint16
}

// Function codes, which also name the tables.
const (
	Coils     = 1
	Discretes = 2
	Holding   = 3
	Input     = 4
)

// NewMeter returns a device without registers.
func NewMeter(unit byte) *Meter { return &Meter{unit: unit, tables: map[byte]map[uint16]uint16{}} }

// Set fills registers of a table from address on; of coils and discretes, 0 and 1.
func (m *Meter) Set(table byte, address uint16, values ...uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tables[table] == nil {
		m.tables[table] = map[uint16]uint16{}
	}
	for i, v := range values {
		m.tables[table][address+uint16(i)] = v
	}
}

// Refuse answers each request with an exception of this code; 0 ends that.
func (m *Meter) Refuse(code byte) { m.change(func() { m.refuse = code }) }

// Silence stops or starts answering.
func (m *Meter) Silence(on bool) { m.change(func() { m.silent = on }) }

// Damage flips a bit of each of the next n answers.
func (m *Meter) Damage(n int) { m.change(func() { m.damage = n }) }

func (m *Meter) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// Requests returns what was asked for since the last call.
func (m *Meter) Requests() []Read {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.requests
	m.requests = nil
	return r
}

// answer returns a protocol data unit and whether to flip a bit of it; nil is silence.
func (m *Meter) answer(unit byte, pdu []byte) (out []byte, damage bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if unit != m.unit || m.silent || len(pdu) == 0 {
		return nil, false
	}
	if damage = m.damage > 0; damage {
		m.damage--
	}
	exception := func(code byte) ([]byte, bool) { return []byte{pdu[0] | 0x80, code}, damage }
	if pdu[0] < Coils || pdu[0] > Input || len(pdu) != 5 {
		return exception(1) // illegal function
	}
	r := Read{pdu[0], binary.BigEndian.Uint16(pdu[1:]), binary.BigEndian.Uint16(pdu[3:])}
	m.requests = append(m.requests, r)
	most := uint16(125)
	if r.Function <= Discretes {
		most = 2000
	}
	switch {
	case m.refuse != 0:
		return exception(m.refuse)
	case r.Count == 0 || r.Count > most:
		return exception(3) // illegal data value
	}
	out = []byte{pdu[0], 0}
	for i := range r.Count {
		v, ok := m.tables[r.Function][r.Address+i]
		switch {
		case !ok:
			return exception(2) // illegal data address
		case r.Function >= Holding:
			out = binary.BigEndian.AppendUint16(out, v)
		case i%8 == 0:
			out = append(out, byte(v&1))
		default:
			out[len(out)-1] |= byte(v&1) << (i % 8)
		}
	}
	out[1] = byte(len(out) - 2)
	return out, damage
}

// ServeTCP answers connections until l is closed, then ends them and returns.
func (m *Meter) ServeTCP(l net.Listener) {
	var wg sync.WaitGroup
	var open []net.Conn
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		open = append(open, c)
		wg.Go(func() { m.serveConn(c) })
	}
	for _, c := range open {
		_ = c.Close() // its end is what is wanted
	}
	wg.Wait()
}

// serveConn reads MBAP headers: transaction, protocol 0, length, unit.
func (m *Meter) serveConn(c net.Conn) {
	defer c.Close()
	for {
		var head [7]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(head[4:])) - 1
		if n < 1 || n > 253 {
			return
		}
		pdu := make([]byte, n)
		if _, err := io.ReadFull(c, pdu); err != nil {
			return
		}
		out, damage := m.answer(head[6], pdu)
		if out == nil {
			continue
		}
		binary.BigEndian.PutUint16(head[4:], uint16(len(out)+1))
		if damage {
			head[3] = 1 // of another protocol
		}
		if _, err := c.Write(append(head[:], out...)); err != nil {
			return
		}
	}
}

// ServeRTU answers on a serial line until reading it fails, and returns why; nil at
// its end. Requests are eight bytes long; those of other lengths are not for reading.
func (m *Meter) ServeRTU(line io.ReadWriter) error {
	var adu [8]byte
	for n := 0; ; {
		k, err := line.Read(adu[n:])
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if n += k; n < len(adu) {
			continue
		}
		if CRC16(adu[:6]) != binary.LittleEndian.Uint16(adu[6:]) {
			copy(adu[:], adu[1:]) // look for where a request begins
			n--
			continue
		}
		n = 0
		out, damage := m.answer(adu[0], adu[1:6])
		if out == nil {
			continue
		}
		out = append([]byte{adu[0]}, out...)
		out = binary.LittleEndian.AppendUint16(out, CRC16(out))
		if damage {
			out[len(out)-1] ^= 4
		}
		if _, err := line.Write(out); err != nil {
			return err
		}
	}
}

// CRC16 is that of RTU frames: serial line protocol 1.02, 6.2.2. It goes least
// significant byte first.
func CRC16(b []byte) uint16 {
	crc := uint16(0xFFFF)
	for _, c := range b {
		crc ^= uint16(c)
		for range 8 {
			odd := crc&1 == 1
			if crc >>= 1; odd {
				crc ^= 0xA001
			}
		}
	}
	return crc
}
