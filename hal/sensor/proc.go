package sensor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// A procFile is a file of /proc or /sys that is read again and again: opened
// once, read from its start each time into the same buffer. The kernel makes
// its content anew for each read at offset 0.
type procFile struct {
	path string
	most int // bytes read at most
	f    *os.File
	buf  []byte
}

// read returns the content, valid until the next read. After an error the next
// read opens the file again: a sensor's file vanishes with its module.
func (p *procFile) read() ([]byte, error) {
	if p.f == nil {
		f, err := os.Open(p.path)
		if err != nil {
			return nil, err
		}
		p.f = f
	}
	if p.buf == nil {
		p.buf = make([]byte, min(512, p.most))
	}
	n := 0
	for {
		m, err := p.f.ReadAt(p.buf[n:], int64(n))
		n += m
		if errors.Is(err, io.EOF) || n >= p.most {
			return p.buf[:n], nil
		}
		if err != nil {
			p.close()
			return nil, err
		}
		p.buf = append(p.buf, make([]byte, min(len(p.buf), p.most-len(p.buf)))...)
	}
}

func (p *procFile) close() {
	if p.f != nil {
		_ = p.f.Close() // opened for reading: nothing to lose
		p.f = nil
	}
}

// field cuts the first field off a line; fields are parted by spaces and tabs.
func field(b []byte) (first, rest []byte) {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for i, c := range b {
		if c == ' ' || c == '\t' {
			return b[:i], b[i:]
		}
	}
	return b, nil
}

// line cuts the first line off, without its end.
func line(b []byte) (first, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// number parses a decimal without sign that fits an int64.
func number(b []byte) (int64, bool) {
	if len(b) == 0 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		d := int64(c) - '0'
		if d < 0 || d > 9 || n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// wrapping parses a counter that may exceed int64, keeping its low 63 bits.
func wrapping(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	n := uint64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return int64(n & math.MaxInt64), true
}

// decimal parses "12.34"; digits beyond nine on either side are refused.
func decimal(b []byte) (float64, bool) {
	whole, frac, dot := bytes.Cut(b, []byte{'.'})
	n, ok := number(whole)
	if !ok || len(whole) > 18 {
		return 0, false
	}
	if !dot {
		return float64(n), true
	}
	m, ok := number(frac)
	if !ok || len(frac) > 9 {
		return 0, false
	}
	scale := 1.0
	for range frac {
		scale *= 10
	}
	return (float64(n)*scale + float64(m)) / scale, true // one rounding, if below 2^53
}

// cpuTimes returns the ticks of all CPUs since boot, busy and in all, from
// /proc/stat. The first line is "cpu user nice system idle iowait irq softirq
// steal guest guest_nice"; guest time is within user's already (proc(5)).
func cpuTimes(stat []byte) (busy, total int64, err error) {
	first, _ := line(stat)
	name, rest := field(first)
	if string(name) != "cpu" {
		return 0, 0, fmt.Errorf("stat: begins with %.20q", first)
	}
	for i := range 8 {
		var f []byte
		if f, rest = field(rest); len(f) == 0 && i >= 4 {
			break // kernels before 2.6 have four
		}
		n, ok := number(f)
		if !ok || n > math.MaxInt64/16 {
			return 0, 0, fmt.Errorf("stat: field %d is %.20q", i+1, f)
		}
		total += n
		if i != 3 && i != 4 { // idle, iowait
			busy += n
		}
	}
	return busy, total, nil
}

// memory returns bytes from /proc/meminfo.
func memory(meminfo []byte) (total, available int64, err error) {
	var free, cached int64
	var haveTotal, haveAvailable bool
	for len(meminfo) > 0 {
		var l []byte
		l, meminfo = line(meminfo)
		name, rest := field(l)
		var to *int64
		switch string(name) {
		case "MemTotal:":
			to, haveTotal = &total, true
		case "MemAvailable:":
			to, haveAvailable = &available, true
		case "MemFree:":
			to = &free
		case "Cached:":
			to = &cached
		default:
			continue
		}
		f, rest := field(rest)
		unit, _ := field(rest)
		n, ok := number(f)
		if !ok || n > math.MaxInt64/4096 || string(unit) != "kB" {
			return 0, 0, fmt.Errorf("meminfo: %.40q", l)
		}
		*to = n * 1024
	}
	if !haveTotal {
		return 0, 0, errors.New("meminfo: no MemTotal")
	}
	if !haveAvailable { // kernels before 3.14
		available = free + cached
	}
	return total, min(available, total), nil
}

// load1 returns the load average of a minute from /proc/loadavg.
func load1(loadavg []byte) (float64, error) {
	f, _ := field(loadavg)
	if v, ok := decimal(f); ok {
		return v, nil
	}
	return 0, fmt.Errorf("loadavg: %.20q", f)
}

// uptime returns the seconds since boot from /proc/uptime.
func uptime(b []byte) (float64, error) {
	f, _ := field(b)
	if v, ok := decimal(f); ok {
		return v, nil
	}
	return 0, fmt.Errorf("uptime: %.20q", f)
}

// traffic returns the bytes received and sent by one interface, or by all but
// lo if name is "", from /proc/net/dev. found is false if there is none such.
func traffic(dev []byte, name string) (rx, tx int64, found bool, err error) {
	_, dev = line(dev) // two lines of heads
	_, dev = line(dev)
	for len(dev) > 0 {
		var l []byte
		l, dev = line(dev)
		if len(l) == 0 {
			continue
		}
		// The name ends with the last colon: aliases have one inside.
		colon := bytes.LastIndexByte(l, ':')
		if colon < 0 {
			return 0, 0, false, fmt.Errorf("net/dev: %.40q", l)
		}
		iface, rest := bytes.TrimLeft(l[:colon], " "), l[colon+1:]
		if name == "" && string(iface) == "lo" || name != "" && string(iface) != name {
			continue
		}
		var f []byte
		var got [2]int64
		for i := range 9 {
			f, rest = field(rest)
			n, ok := wrapping(f)
			if !ok {
				return 0, 0, false, fmt.Errorf("net/dev: %.40q", l)
			}
			if i%8 == 0 {
				got[i/8] = n
			}
		}
		rx, tx, found = (rx+got[0])&math.MaxInt64, (tx+got[1])&math.MaxInt64, true
	}
	return rx, tx, found, nil
}

// milli parses a temperature in m°C, as thermal zones and hwmon give it.
func milli(b []byte) (float64, error) {
	l, _ := line(b)
	s, neg := bytes.CutPrefix(l, []byte{'-'})
	n, ok := number(s)
	if !ok || n > 1e6 {
		return 0, fmt.Errorf("temperature: %.20q", l)
	}
	if neg {
		n = -n
	}
	return float64(n) / 1000, nil
}
