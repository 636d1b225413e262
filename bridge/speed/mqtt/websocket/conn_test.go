package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// A script is a net.Conn of which reads give what was written down, in pieces,
// and which keeps what is written.
type script struct {
	net.Conn
	in     []byte
	pieces *rand.Rand // nil: all at once
	out    bytes.Buffer
	writes int
	stall  bool // every second read times out
	stalls int
	closed bool
}

func (s *script) Read(b []byte) (int, error) {
	if s.stall {
		if s.stalls++; s.stalls%2 == 1 {
			return 0, os.ErrDeadlineExceeded
		}
	}
	if len(s.in) == 0 {
		return 0, io.EOF
	}
	n := min(len(b), len(s.in))
	if s.pieces != nil {
		n = 1 + s.pieces.IntN(n)
	}
	copy(b, s.in[:n])
	s.in = s.in[n:]
	return n, nil
}

func (s *script) Write(b []byte) (int, error)      { s.writes++; return s.out.Write(b) }
func (s *script) Close() error                     { s.closed = true; return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }

// masked is a client's frame.
func masked(op ws.OpCode, fin bool, payload string) []byte {
	return ws.MustCompileFrame(ws.MaskFrameWith(ws.NewFrame(op, fin, []byte(payload)), [4]byte{1, 2, 3, 4}))
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// What is in the client's frames is read however the bytes come, also with
// timeouts between them.
func TestRead(t *testing.T) {
	big := string(bytes.Repeat([]byte("0123456789"), 7000))
	in := join(masked(ws.OpBinary, true, "ab"), masked(ws.OpBinary, true, ""), masked(ws.OpBinary, false, "c"),
		masked(ws.OpPing, true, "are you there"), masked(ws.OpContinuation, false, ""),
		masked(ws.OpContinuation, true, "d"),
		masked(ws.OpPong, true, ""), masked(ws.OpBinary, true, big), masked(ws.OpBinary, true, big[:300]),
		masked(ws.OpPing, true, ""),
		masked(ws.OpClose, true, "\x03\xe9bye"), masked(ws.OpBinary, true, "after the end"))
	want := "abcd" + big + big[:300]
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		s := &script{in: in, pieces: rnd, stall: seed%2 == 1}
		if seed == 0 {
			s.pieces = nil
		}
		c := newConn(s, nil)
		var got []byte
		b := make([]byte, 1+rnd.IntN(3000))
		for {
			n, err := c.Read(b[:1+rnd.IntN(len(b))])
			got = append(got, b[:n]...)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil {
				if err != io.EOF {
					t.Fatalf("seed %d: %v", seed, err)
				}
				break
			}
		}
		if string(got) != want {
			t.Fatalf("seed %d: %d bytes, want %d", seed, len(got), len(want))
		}
		if want := "\x8a\x0dare you there\x8a\x00\x88\x02\x03\xe9"; s.out.String() != want {
			t.Errorf("seed %d: answered %q, want %q", seed, &s.out, want)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("written after the close frame: %v", err)
		}
	}
}

// Small frames that came together are read together, so that what answers them
// is one write.
func TestReadSeveral(t *testing.T) {
	var in []byte
	for range 20 {
		in = append(in, masked(ws.OpBinary, true, "0123456789")...)
	}
	c := newConn(&script{in: in}, nil)
	b := make([]byte, 1000)
	if n, err := c.Read(b); n != 200 || err != nil {
		t.Errorf("%d %v", n, err)
	}
}

// Each breach of the protocol ends the stream with an error and a close frame
// that says so, and what came before it is still read.
func TestBreaches(t *testing.T) {
	unmasked := ws.MustCompileFrame(ws.NewBinaryFrame([]byte("x")))
	huge := append([]byte{0x82, 0xff}, binary.BigEndian.AppendUint64(nil, maxFrame+1)...)
	for _, c := range []struct {
		name string
		in   []byte
		code ws.StatusCode
	}{
		{"not masked", unmasked, 1002},
		{"text", masked(ws.OpText, true, "x"), 1003},
		{"reserved opcode", []byte{0x83, 0x80, 0, 0, 0, 0}, 1002},
		{"reserved bit", []byte{0xc2, 0x80, 0, 0, 0, 0}, 1002},
		{"continuation of nothing", masked(ws.OpContinuation, true, "x"), 1002},
		{"message within a message", join(masked(ws.OpBinary, false, ""), masked(ws.OpBinary, true, "x")), 1002},
		{"long ping", append([]byte{0x89, 0xfe, 0, 126}, make([]byte, 130)...), 1002},
		{"ping in pieces", masked(ws.OpPing, false, "x"), 1002},
		{"negative length", []byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, 1002},
		{"huge", append(huge, 0, 0, 0, 0), 1009},
		{"close of one byte", masked(ws.OpClose, true, "x"), 1002},
	} {
		s := &script{in: join(masked(ws.OpBinary, true, "fine"), c.in)}
		conn := newConn(s, nil)
		var got bytes.Buffer
		_, err := got.ReadFrom(conn)
		if !errors.Is(err, errProtocol) || got.String() != "fine" {
			t.Errorf("%s: %q %v", c.name, &got, err)
		}
		if want := string(binary.BigEndian.AppendUint16([]byte{0x88, 2}, uint16(c.code))); s.out.String() != want {
			t.Errorf("%s: answered %q, want %q", c.name, &s.out, want)
		}
		if _, again := conn.Read(make([]byte, 1)); !errors.Is(again, errProtocol) {
			t.Errorf("%s: then %v", c.name, again)
		}
	}
}

// A stream that ends within a frame or message did not end well.
func TestCutOff(t *testing.T) {
	whole := join(masked(ws.OpBinary, false, "abc"), masked(ws.OpContinuation, true, "def"))
	for n := range len(whole) {
		var got bytes.Buffer
		_, err := got.ReadFrom(newConn(&script{in: whole[:n]}, nil))
		if want := map[bool]error{true: nil, false: io.ErrUnexpectedEOF}[n == 0]; err != want {
			t.Errorf("after %d bytes: %v, want %v", n, err, want)
		}
	}
}

// A packet is one frame and one write below, of each size of header.
func TestWrite(t *testing.T) {
	for _, n := range []int{2, 125, 126, 4000, 0xffff, 0x10000, 200_000} {
		s := new(script)
		c := newConn(s, nil)
		payload := mqttPacket(n)
		if got, err := c.Write(payload); got != n || err != nil {
			t.Errorf("%d: %d %v", n, got, err)
		}
		h, err := ws.ReadHeader(&s.out)
		if err != nil || h.Length != int64(n) || !bytes.Equal(s.out.Bytes(), payload) || h.OpCode != ws.OpBinary ||
			!h.Fin || h.Masked || s.writes != 1 {
			t.Errorf("%d: %+v %v, %d writes", n, h, err, s.writes)
		}
	}
	s := new(script)
	c := newConn(s, nil)
	if n, err := c.Write(nil); n != 0 || err != nil || s.writes != 0 {
		t.Errorf("nothing: %d %v", n, err)
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil || !s.closed || s.out.String() != "\x88\x02\x03\xe8" {
		t.Errorf("close: %v %q", err, &s.out)
	}
}

// mqttPacket is one of n bytes.
func mqttPacket(n int) []byte {
	for body := max(0, n-5); ; body++ {
		if b := append(packet.AppendHeader(nil, 0x30, body), make([]byte, body)...); len(b) == n {
			return b
		}
	}
}

// Packets that are written together, or in pieces, have a frame each, and no
// frame has parts of two.
func TestWriteSeveral(t *testing.T) {
	stream := bytes.Join([][]byte{mqttPacket(2), mqttPacket(2), mqttPacket(131), mqttPacket(7), mqttPacket(20_000),
		mqttPacket(4)}, nil)
	for _, size := range []int{len(stream), 1, 2, 3, 132, 133, 134, 4096} {
		s := new(script)
		c := newConn(s, nil)
		writes := 0
		for rest := stream; len(rest) > 0; writes++ {
			n, err := c.Write(rest[:min(size, len(rest))])
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		var got []byte
		frames, ends, packets := 0, 0, 0
		for s.out.Len() > 0 {
			h, err := ws.ReadHeader(&s.out)
			if err != nil || h.OpCode != ws.OpBinary || !h.Fin {
				t.Fatalf("%+v %v", h, err)
			}
			got = append(got, s.out.Next(int(h.Length))...)
			frames++
			for _, end := range []int{2, 4, 135, 142, 20_142, 20_146} {
				if ends < end && len(got) >= end {
					packets++
					if len(got) > end {
						t.Errorf("pieces of %d: a frame goes on behind the packet that ends at %d", size, end)
					}
				}
			}
			ends = len(got)
		}
		if !bytes.Equal(got, stream) || packets != 6 || s.writes != writes || size == len(stream) && frames != 6 {
			t.Errorf("pieces of %d: %d bytes, %d packets in %d frames by %d writes", size, len(got), packets, frames,
				s.writes)
		}
	}
}

// A client that sends pings and reads nothing is cut off; one that does not
// read what is written to it keeps neither a ping nor Close waiting.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		c := newConn(server, nil)
		go func() { _, _ = client.Write(masked(ws.OpPing, true, "x")) }()
		began := time.Now()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) ||
			time.Since(began) != pongTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}

		client, server = net.Pipe()
		c = newConn(server, nil)
		if err := c.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		wrote := make(chan error, 1)
		go func() { _, err := c.Write([]byte("much")); wrote <- err }()
		synctest.Wait()
		read := make(chan error, 1)
		go func() { _, err := c.Read(make([]byte, 1)); read <- err }()
		if _, err := client.Write(masked(ws.OpPing, true, "x")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the ping was taken, and its answer waits for the writer
		if _, err := client.Write(masked(ws.OpBinary, true, "y")); err != nil {
			t.Fatal(err)
		}
		if err := <-read; err != nil {
			t.Error(err)
		}
		b := make([]byte, 100)
		n, _ := io.ReadAtLeast(client, b, 9)
		if string(b[:n]) != "\x82\x04much\x8a\x01x" {
			t.Errorf("%q", b[:n])
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		go func() { _, err := c.Write([]byte("much")); wrote <- err }()
		synctest.Wait()
		began = time.Now()
		if err := c.Close(); err != nil || time.Since(began) != 0 {
			t.Errorf("Close: %v after %v", err, time.Since(began))
		}
		if err := <-wrote; err == nil {
			t.Error("written after Close")
		}
	})
}

// What a client did wrong is told by Close if somebody was writing then.
func TestCodeIsKept(t *testing.T) {
	s := &script{in: masked(ws.OpText, true, "x")}
	c := newConn(s, nil)
	c.writing.Lock()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errProtocol) || s.out.Len() > 0 {
		t.Errorf("%v %q", err, &s.out)
	}
	c.writing.Unlock()
	if err := c.Close(); err != nil || s.out.String() != "\x88\x02\x03\xeb" {
		t.Errorf("%v %q", err, &s.out)
	}
}

// A frame of many packets, and many frames of one, with the reader's buffer.
func BenchmarkRead(b *testing.B) {
	frame := masked(ws.OpBinary, true, string(make([]byte, 220)))
	in := bytes.Repeat(frame, 100)
	buf := make([]byte, 16<<10)
	s := &script{}
	c := newConn(s, nil)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		s.in = in
		for len(s.in) > 0 || c.r < c.w {
			if _, err := c.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// Whatever comes, reading it in any pieces gives the same as reading it at once,
// and never more than came.
func FuzzRead(f *testing.F) {
	f.Add(join(masked(ws.OpBinary, true, "ab"), masked(ws.OpPing, true, "x"), masked(ws.OpClose, true, "\x03\xe8")),
		uint64(1))
	f.Add(join(masked(ws.OpBinary, false, "ab"), masked(ws.OpContinuation, true, "x")), uint64(2))
	f.Add([]byte{0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 0, 1, 2, 3, 4, 5}, uint64(3))
	f.Add([]byte{0x88, 0x81, 0, 0, 0, 0, 7}, uint64(4))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		read := func(s *script, size int) (string, string, string) {
			s.in = in
			c := newConn(s, nil)
			var got []byte
			b := make([]byte, size)
			for {
				n, err := c.Read(b)
				got = append(got, b[:n]...)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					continue
				}
				if err != nil {
					return string(got), err.Error(), s.out.String()
				}
			}
		}
		all, err1, out1 := read(&script{}, 4096)
		pieces, err2, out2 := read(&script{pieces: rand.New(rand.NewPCG(seed, 1)), stall: seed%2 == 0}, 1+int(seed%64))
		if all != pieces || err1 != err2 || out1 != out2 || len(all) > len(in) {
			t.Fatalf("%q %s %q\n%q %s %q", all, err1, out1, pieces, err2, out2)
		}
	})
}
