package packet

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// samples has every packet type in both versions.
func samples() map[Version][]Packet {
	ps := func(v Version) []byte {
		if v == V5 {
			return []byte{0x23, 0, 9} // topic alias 9
		}
		return nil
	}
	m := make(map[Version][]Packet)
	for _, v := range []Version{V311, V5} {
		m[v] = []Packet{
			&Connect{Version: v, Clean: true, KeepAlive: 60, ClientID: "dev-1", Properties: ps(v)},
			&Connect{Version: v, KeepAlive: 0, ClientID: "ü", HasWill: true, WillQoS: 2, WillRetain: true,
				WillTopic:   "a/b",
				WillPayload: []byte("gone"), WillProperties: ps(v), HasUsername: true, Username: "?SDK=Go",
				HasPassword: true, Password: []byte{0, 255}},
			&Connect{Version: v, Clean: true, HasWill: true, WillTopic: "w", WillPayload: []byte{}, HasUsername: true},
			&Connack{SessionPresent: true, Properties: ps(v)},
			&Connack{Code: NotAuthorized},
			&Publish{Topic: []byte("a/b"), Payload: []byte("x"), Properties: ps(v)},
			&Publish{Topic: []byte("a"), QoS: 1, ID: 1, Dup: true, Payload: bytes.Repeat([]byte{7}, 300)},
			&Publish{Topic: []byte("a"), QoS: 2, ID: 65535, Retain: true, Payload: []byte{}},
			&Ack{Kind: PUBACK, ID: 7}, &Ack{Kind: PUBREC, ID: 8}, &Ack{Kind: PUBREL, ID: 9},
			&Ack{Kind: PUBCOMP, ID: 10},
			&Subscribe{ID: 3, Properties: ps(v), Filters: []Filter{{"a/#", 1}, {"+/b", 0}, {"c", 2}}},
			&Suback{ID: 3, Properties: ps(v), Codes: []byte{0, 1, 2, 0x80}},
			&Unsubscribe{ID: 4, Properties: ps(v), Filters: []string{"a/#", "c"}},
			&Ping{Kind: PINGREQ}, &Ping{Kind: PINGRESP}, &Disconnect{Kind: DISCONNECT},
		}
	}
	m[V311] = append(m[V311], &Unsuback{ID: 4})
	m[V5] = append(m[V5], &Unsuback{ID: 4, Codes: []byte{0, 17}},
		&Disconnect{Kind: AUTH, Reason: 0x18, Properties: []byte{0x15, 0, 1, 'x'}},
		&Disconnect{Kind: DISCONNECT, Reason: 4}, &Ack{Kind: PUBACK, ID: 7, Reason: 0x87, Properties: ps(V5)},
		&Ack{Kind: PUBREC, ID: 7, Reason: 0x10})
	return m
}

func TestRoundTrip(t *testing.T) {
	for v, ps := range samples() {
		var stream []byte
		for _, p := range ps {
			stream = p.Append(stream, v)
		}
		for name, src := range map[string]io.Reader{
			"at once":         bytes.NewReader(stream),
			"byte by byte":    iotest.OneByteReader(bytes.NewReader(stream)),
			"halves":          iotest.HalfReader(bytes.NewReader(stream)),
			"data with error": iotest.DataErrReader(bytes.NewReader(stream)),
		} {
			r := NewReader(src, 64, 1000)
			for i, want := range ps {
				first, body, _, err := r.Next()
				if err != nil {
					t.Fatalf("%s, version %d, packet %d: %v", name, v, i, err)
				}
				got, err := Decode(first, body, v)
				if err != nil {
					t.Fatalf("%s, version %d, packet %d: %v", name, v, i, err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s, version %d: got %+v, want %+v", name, v, got, want)
				}
			}
			if _, _, _, err := r.Next(); err != io.EOF {
				t.Errorf("%s: at the end: %v", name, err)
			}
		}
	}
}

// paho makes the packet of 3.1.1 that p is.
func paho(p Packet) packets.ControlPacket {
	switch p := p.(type) {
	case *Connect:
		c := packets.NewControlPacket(packets.Connect).(*packets.ConnectPacket)
		c.ProtocolName, c.ProtocolVersion = "MQTT", 4
		c.CleanSession, c.Keepalive, c.ClientIdentifier = p.Clean, p.KeepAlive, p.ClientID
		c.WillFlag, c.WillQos, c.WillRetain, c.WillTopic, c.WillMessage = p.HasWill, p.WillQoS, p.WillRetain,
			p.WillTopic, p.WillPayload
		c.UsernameFlag, c.Username, c.PasswordFlag, c.Password = p.HasUsername, p.Username, p.HasPassword, p.Password
		return c
	case *Connack:
		c := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
		c.SessionPresent, c.ReturnCode = p.SessionPresent, p.Code
		return c
	case *Publish:
		c := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		c.Dup, c.Qos, c.Retain, c.TopicName, c.MessageID, c.Payload = p.Dup, p.QoS, p.Retain, string(p.Topic), p.ID,
			p.Payload
		return c
	case *Ack:
		c := packets.NewControlPacket(byte(p.Kind))
		switch c := c.(type) {
		case *packets.PubackPacket:
			c.MessageID = p.ID
		case *packets.PubrecPacket:
			c.MessageID = p.ID
		case *packets.PubrelPacket:
			c.MessageID = p.ID
		case *packets.PubcompPacket:
			c.MessageID = p.ID
		}
		return c
	case *Subscribe:
		c := packets.NewControlPacket(packets.Subscribe).(*packets.SubscribePacket)
		c.MessageID = p.ID
		for _, f := range p.Filters {
			c.Topics, c.Qoss = append(c.Topics, f.Filter), append(c.Qoss, f.QoS())
		}
		return c
	case *Suback:
		c := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		c.MessageID, c.ReturnCodes = p.ID, p.Codes
		return c
	case *Unsubscribe:
		c := packets.NewControlPacket(packets.Unsubscribe).(*packets.UnsubscribePacket)
		c.MessageID, c.Topics = p.ID, p.Filters
		return c
	case *Unsuback:
		c := packets.NewControlPacket(packets.Unsuback).(*packets.UnsubackPacket)
		c.MessageID = p.ID
		return c
	}
	return packets.NewControlPacket(byte(p.Type()))
}

// What paho writes for a packet is what we write.
func TestAgainstPaho(t *testing.T) {
	seen := make(map[Type]bool)
	for _, p := range samples()[V311] {
		var want bytes.Buffer
		if err := paho(p).Write(&want); err != nil {
			t.Fatal(err)
		}
		if got := p.Append(nil, V311); !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s: we write %x, paho %x", p.Type(), got, want.Bytes())
		}
		seen[p.Type()] = true
	}
	for typ := CONNECT; typ <= DISCONNECT; typ++ {
		if !seen[typ] {
			t.Errorf("%s was not compared", typ)
		}
	}
}

func TestMalformed(t *testing.T) {
	for name, c := range map[string]struct {
		v  Version
		in []byte
	}{
		"type 0":                              {V311, []byte{0x00, 0}},
		"AUTH before version 5":               {V311, []byte{0xf0, 0}},
		"the packet that ends mochi 2.7.9":    {V5, []byte{0x82, 5, 0, 1, 0, 0, 0}},
		"subscribe without filter":            {V311, []byte{0x82, 2, 0, 1}},
		"subscribe id 0":                      {V311, []byte{0x82, 6, 0, 0, 0, 1, 'a', 0}},
		"subscribe flags":                     {V311, []byte{0x80, 6, 0, 1, 0, 1, 'a', 0}},
		"subscribe QoS 3":                     {V311, []byte{0x82, 6, 0, 1, 0, 1, 'a', 3}},
		"subscribe options of version 5":      {V311, []byte{0x82, 6, 0, 1, 0, 1, 'a', 4}},
		"subscribe filter longer than packet": {V311, []byte{0x82, 6, 0, 1, 0xff, 0xff, 'a', 0}},
		"unsubscribe without filter":          {V311, []byte{0xa2, 2, 0, 1}},
		"unsubscribe flags":                   {V311, []byte{0xa0, 5, 0, 1, 0, 1, 'a'}},
		"publish QoS 3":                       {V311, []byte{0x36, 5, 0, 1, 'a', 0, 1}},
		"publish DUP with QoS 0":              {V311, []byte{0x38, 3, 0, 1, 'a'}},
		"publish id 0":                        {V311, []byte{0x32, 5, 0, 1, 'a', 0, 0}},
		"publish without id":                  {V311, []byte{0x32, 3, 0, 1, 'a'}},
		"publish topic with NUL":              {V311, []byte{0x30, 3, 0, 1, 0}},
		"publish topic with NUL after UTF-8":  {V311, []byte{0x30, 5, 0, 3, 0xc3, 0xbc, 0}},
		"publish topic not UTF-8":             {V311, []byte{0x30, 3, 0, 1, 0xff}},
		"publish topic surrogate":             {V311, []byte{0x30, 5, 0, 3, 0xed, 0xa0, 0x80}},
		"publish empty":                       {V311, []byte{0x30, 0}},
		"publish properties too long":         {V5, []byte{0x30, 4, 0, 1, 'a', 9}},
		"publish property length of 5 bytes":  {V5, []byte{0x30, 8, 0, 1, 'a', 0x80, 0x80, 0x80, 0x80, 1}},
		"puback too long":                     {V311, []byte{0x40, 3, 0, 1, 0}},
		"puback flags":                        {V311, []byte{0x42, 2, 0, 1}},
		"pubrel flags":                        {V311, []byte{0x60, 2, 0, 1}},
		"pingreq with body":                   {V311, []byte{0xc0, 1, 0}},
		"disconnect with body":                {V311, []byte{0xe0, 1, 0}},
		"disconnect flags":                    {V311, []byte{0xe1, 0}},
		"connect empty":                       {V311, []byte{0x10, 0}},
		"connect reserved flag":               {V311, []byte("\x10\x0c\x00\x04MQTT\x04\x03\x00\x00\x00\x00")},
		"connect will QoS 3": {V311,
			[]byte("\x10\x12\x00\x04MQTT\x04\x1e\x00\x00\x00\x00\x00\x01a\x00\x01b")},
		"connect will flags without will":     {V311, []byte("\x10\x0c\x00\x04MQTT\x04\x22\x00\x00\x00\x00")},
		"connect password without user":       {V311, []byte("\x10\x0f\x00\x04MQTT\x04\x42\x00\x00\x00\x00\x00\x01p")},
		"connect without will":                {V311, []byte("\x10\x0c\x00\x04MQTT\x04\x06\x00\x00\x00\x00")},
		"connack flags":                       {V311, []byte{0x20, 2, 2, 0}},
		"suback code 3":                       {V311, []byte{0x90, 3, 0, 1, 3}},
		"a property length in too many bytes": {V5, []byte("\x82\x08\x00\x01\x80\x00\x00\x01a\x00")},
		"suback without code":                 {V311, []byte{0x90, 2, 0, 1}},
	} {
		p, err := Decode(c.in[0], c.in[2:], c.v)
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %x decodes to %+v, %v", name, c.in, p, err)
		}
	}
	for name, in := range map[string][]byte{
		"puback with a reason of none":  []byte("\x40\x03\x00\x01\x01"),
		"pubrec with one of suback":     []byte("\x50\x03\x00\x01\x11"),
		"pubrel with one of puback":     []byte("\x62\x04\x00\x01\x10\x00"),
		"pubcomp with one of pubrec":    []byte("\x70\x03\x00\x01\x80"),
		"disconnect with one of puback": []byte("\xe0\x01\x10"),
		"disconnect with one of none":   []byte("\xe0\x01\xff"),
		"retain handling 3":             []byte("\x82\x07\x00\x01\x00\x00\x01a\x30"),
		"QoS 3":                         []byte("\x82\x07\x00\x01\x00\x00\x01a\x03"),
	} {
		if _, err := Decode(in[0], in[2:], V5); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v, want ErrProtocol", name, err)
		}
	}
	for _, in := range []string{"\x10\x0c\x00\x04MQTT\x03\x02\x00\x00\x00\x00",
		"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00"} {
		if _, err := Decode(in[0], []byte(in[2:]), V311); !errors.Is(err, ErrVersion) {
			t.Errorf("%q: %v, want ErrVersion", in, err)
		}
	}
}

func TestReaderLimits(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want error
	}{
		"remaining length of 5 bytes":          {"\x30\xff\xff\xff\xff\x01", ErrMalformed},
		"remaining length of 0 in two bytes":   {"\xc0\x80\x00", ErrMalformed},
		"remaining length of 2 in four bytes":  {"\x40\x82\x80\x80\x00\x00\x01", ErrMalformed},
		"remaining length of 127 in two bytes": {"\x30\xff\x00", ErrMalformed},
		"remaining length of 2^14-1 in three":  {"\x30\xff\xff\x00", ErrMalformed},
		"over the limit":                       {"\x30\x80\x80\x80\x01", ErrTooLarge},
		"one over the limit":                   {"\x30\x7f", ErrTooLarge},
		"nothing":                              {"", io.EOF},
		"half a header":                        {"\x30", io.ErrUnexpectedEOF},
		"half a length":                        {"\x30\xff", io.ErrUnexpectedEOF},
		"half a packet":                        {"\x30\x0a\x00\x01a", io.ErrUnexpectedEOF},
		"half a large packet":                  {"\x30\x7e" + string(make([]byte, 100)), io.ErrUnexpectedEOF},
	} {
		_, _, _, err := NewReader(bytes.NewReader([]byte(c.in)), 16, 128).Next()
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A timeout in the middle of a packet loses nothing.
func TestReaderTimeout(t *testing.T) {
	var stream []byte
	for _, p := range samples()[V311] {
		stream = p.Append(stream, V311)
	}
	r := NewReader(&hesitant{b: stream}, 32, 1000)
	for _, want := range samples()[V311] {
		var first byte
		var body []byte
		for {
			var err error
			if first, body, _, err = r.Next(); err == nil {
				break
			} else if err != iotest.ErrTimeout {
				t.Fatal(err)
			}
		}
		if got, err := Decode(first, body, V311); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v, want %+v", got, err, want)
		}
	}
}

// hesitant times out before each byte.
type hesitant struct {
	b    []byte
	next bool
}

func (h *hesitant) Read(b []byte) (int, error) {
	h.next = !h.next
	if h.next {
		return 0, iotest.ErrTimeout
	}
	n := copy(b[:1], h.b)
	h.b = h.b[n:]
	return n, nil
}

// The buffer grows under load, up to its limit, and shrinks when asked.
func TestReaderGrows(t *testing.T) {
	one := (&Publish{Topic: []byte("a"), Payload: make([]byte, 90)}).Append(nil, V311)
	const n = 2000
	r := NewReader(bytes.NewReader(bytes.Repeat(one, n)), 256, 1000)
	for i := range n {
		if _, body, _, err := r.Next(); err != nil || len(body) != len(one)-2 {
			t.Fatalf("packet %d: %d bytes, %v", i, len(body), err)
		}
	}
	if len(r.buf) != largest {
		t.Errorf("the buffer has %d bytes", len(r.buf))
	}
	r.Shrink()
	if len(r.buf) != 256 {
		t.Errorf("the buffer has %d bytes, shrunk", len(r.buf))
	}
}

// A packet that is announced and not sent takes no memory.
func TestReaderMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		r := NewReader(bytes.NewReader([]byte("\x30\xff\xff\xff\x7f\x00\x01a")), 16, MaxRemaining+5)
		r.Next()
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 {
		t.Errorf("100 announced packets of 256 MiB took %d bytes", got)
	}
}

// Whatever decodes can be written and decodes to the same. Memory stays in
// proportion to the input.
func FuzzDecode(f *testing.F) {
	for v, ps := range samples() {
		for _, p := range ps {
			f.Add(p.Append(nil, v), v == V5)
		}
	}
	f.Add([]byte{0x82, 5, 0, 1, 0, 0, 0}, true)
	f.Fuzz(func(t *testing.T, in []byte, v5 bool) {
		v := V311
		if v5 {
			v = V5
		}
		r := NewReader(bytes.NewReader(in), 16, len(in)+16)
		for {
			first, body, _, err := r.Next()
			if err != nil {
				return
			}
			if cap(body) > 4*len(in)+64 { // the buffer grows fourfold when a read has filled it
				t.Fatalf("a body of %d bytes has room for %d", len(body), cap(body))
			}
			p, err := Decode(first, body, v)
			if err != nil {
				continue
			}
			out := p.Append(nil, v)
			if p.Type() != CONNECT && len(out) > len(body)+6 {
				t.Fatalf("%d bytes became %d", len(body), len(out))
			}
			first2, body2, _, err := NewReader(bytes.NewReader(out), 16, len(out)).Next()
			if err != nil {
				t.Fatalf("%+v -> %x: %v", p, out, err)
			}
			q, err := Decode(first2, body2, v)
			if err != nil || !reflect.DeepEqual(p, q) {
				t.Fatalf("%+v -> %x -> %+v, %v", p, out, q, err)
			}
			if again := q.Append(nil, v); !bytes.Equal(again, out) {
				t.Fatalf("%x, then %x", out, again)
			}
		}
	})
}

func BenchmarkPublishDecode(b *testing.B) {
	in := (&Publish{Topic: []byte("dt/thing-17/bme280"), QoS: 1, ID: 9, Payload: make([]byte, 200)}).Append(nil, V311)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	var p Publish
	for b.Loop() {
		if err := p.Decode(in[0], in[3:], V311); err != nil {
			b.Fatal(err)
		}
	}
}
