package sensor_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/hal/sim"
)

// modbusRig is a device that answers the vector's request with the vector's bytes.
func modbusRig(t *testing.T, v *vector) *rig {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	number := func(key string) int64 {
		f, _ := v.Setup[key].(float64)
		return int64(f)
	}
	table := []string{1: "coil", 2: "discrete", 3: "holding", 4: "input"}[number("function")]
	reg := map[string]any{"name": "value", "address": number("address"), "table": table, "type": v.Setup["type"]}
	for _, key := range []string{"scale", "offset"} {
		if f, ok := v.Setup[key].(float64); ok && f != map[string]float64{"scale": 1}[key] {
			reg[key] = f
		}
	}
	if order, ok := v.Setup["order"].(string); ok {
		reg["order"] = strings.ToLower(order)
	}
	for name, w := range v.Expect {
		reg["name"], reg["unit"] = name, w.Unit
		if w.Unit == "" {
			delete(reg, "unit")
		}
	}
	regs := []any{reg}
	if bit, ok := v.Setup["bit"].(float64); ok { // one coil of several
		regs = nil
		for i := range number("count") {
			name := fmt.Sprintf("other%d", i)
			if i == int64(bit) {
				name = "value"
			}
			regs = append(regs, map[string]any{"name": name, "address": i, "table": table})
		}
	}
	r := &rig{driver: driverOf(v), opts: map[string]any{"unit_id": number("unit_id"), "registers": regs,
		"timeout": "5s"}}
	if v.Exchange[0].R == "" || v.Setup["transport"] == "tcp" && v.Error != "" {
		r.opts["timeout"] = "250ms" // the answer is none
	}
	if len(v.Exchange) != 1 {
		t.Fatal("want one exchange")
	}
	ask, answer := unhex(v.Exchange[0].W[0]), unhex(v.Exchange[0].R)
	if v.Setup["transport"] == "tcp" {
		r.opts["endpoint"] = answerTCP(t, ask, answer)
	} else {
		r.opts["port"] = answerRTU(t, ask, answer)
	}
	return r
}

// answerRTU is a serial line on which each request must be ask.
func answerRTU(t *testing.T, ask, answer []byte) string {
	line, err := sim.NewSerialLine()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { line.Close(); <-done })
	go func() {
		defer close(done)
		got := make([]byte, len(ask))
		for {
			if _, err := io.ReadFull(line, got); err != nil {
				return
			}
			if !bytes.Equal(got, ask) {
				t.Errorf("asked %x, want %x", got, ask)
			}
			if _, err := line.Write(answer); err != nil {
				return
			}
		}
	}()
	return line.Port
}

// answerTCP is a server at which each request must be ask but for the number of the
// transaction, which the answer takes over where it has ask's.
func answerTCP(t *testing.T, ask, answer []byte) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	serve := func(c net.Conn) {
		defer c.Close()
		got := make([]byte, len(ask))
		for {
			if _, err := io.ReadFull(c, got); err != nil {
				return
			}
			if !bytes.Equal(got[2:], ask[2:]) {
				t.Errorf("asked %x, want %x", got, ask)
			}
			out := bytes.Clone(answer)
			if bytes.Equal(out[:2], ask[:2]) {
				copy(out, got[:2])
			}
			if _, err := c.Write(out); err != nil {
				return
			}
		}
	}
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c) // one at a time: the driver has one connection
		}
	}()
	return l.Addr().String()
}
