package iotsql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/tidemill/tidemill/bridge/speed/iotsql/protojson"
	"github.com/tidemill/tidemill/bridge/speed/iotsql/protojson/protojsontest"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

const decodeReading = `decode(*, 'proto', 'schemas', 'meter.desc', 'site/meter.proto', 'Reading')`

func TestDecodeProto(t *testing.T) {
	set := protojsontest.Set(t)
	x := stub{answer: set}.services(&failures{})
	s := mustCompileWith(t, x, "SELECT VALUE "+decodeReading)
	s64 := mustCompileWith(t, x, "SELECT VALUE decode(encode(*, 'base64'), 'proto', 'schemas', 'meter.desc', "+
		"'site/meter', 'site.v1.Reading')")
	for _, text := range protojsontest.Readings {
		b, want := protojsontest.Encode(t, text)
		quoted, _ := json.Marshal(b)
		for name, got := range map[string]func() ([]byte, bool, error){
			"raw": func() ([]byte, bool, error) {
				return s.Eval(t.Context(), nil, &Input{Message: message.Message{Payload: b}})
			},
			"base64": func() ([]byte, bool, error) {
				return s64.Eval(t.Context(), nil, &Input{Message: message.Message{Payload: b}})
			},
			"JSON string": func() ([]byte, bool, error) {
				return s.Eval(t.Context(), nil, &Input{Message: message.Message{Payload: quoted}})
			},
		} {
			out, _, err := got()
			if err != nil || !alike(out, want) {
				t.Errorf("%s, %s: %s, %v; want %s", text, name, out, err, want)
			}
		}
	}
	s = mustCompileWith(t, x, "SELECT "+decodeReading+".sensor_id AS id, 1 AS ok WHERE "+decodeReading+
		".count > 9007199254740992")
	b, _ := protojsontest.Encode(t, protojsontest.Readings[1])
	if out, _, err := s.Eval(t.Context(), nil,
		&Input{Message: message.Message{Payload: b}}); string(out) != `{"id":"s1","ok":1}` {
		t.Errorf("%s, %v", out, err)
	}
}

func TestDecodeProtoFaults(t *testing.T) {
	set := protojsontest.Set(t)
	deep := []byte{}
	for range 200 {
		deep = append([]byte{0x6a}, append(protoLen(len(deep)), deep...)...) // inner
	}
	nest := &anypb.Any{}
	for range 200 {
		b, _ := proto.Marshal(nest)
		nest = &anypb.Any{TypeUrl: "x/google.protobuf.Any", Value: b}
	}
	inAny, _ := proto.Marshal(nest)
	inAny = append([]byte{0xa2, 0x01}, append(protoLen(len(inAny)), inAny...)...) // any
	enums := append([]byte{0x5a}, append(protoLen(100_000), make([]byte, 100_000)...)...)
	for _, tt := range []struct{ args, payload, want string }{
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, "\xff", `null`},
		// a map's key twice
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, "\x82\x01\x07\x08\x01\x0d\x00\x00\x00\x00", `null`},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, string(deep), `null`},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, string(inAny), `null`},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, "\x0a\x01\xff", `null`}, // a string that is no UTF-8
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, "\xa2\x01\x03\x0a\x01x", `null`},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, string(enums), errTooLarge.Error()},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, strings.Repeat("\x40\x01", maxOutput/2+1),
			errTooLarge.Error()},
		{`'?', 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, "", `null`},
		{`[1], 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, "", `null`},
		{`a, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, "{}", ``},
		{`*, 'proto', 'b', 'k', 'meter.proto', 'Reading'`, "", ``},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Mode'`, "", ``},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'google.protobuf.Duration'`, "", ``},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', '..'`, "", ``},
		{`*, 'proto', 'b', null, 'site/meter.proto', 'Reading'`, "", ``},
		{`'', 'base64', 'b', 'k', 'site/meter.proto', 'Reading'`, "", ``},
	} {
		var told failures
		s := mustCompileWith(t, stub{answer: set}.services(&told), "SELECT VALUE decode("+tt.args+")")
		out, _, err := s.Eval(t.Context(), nil, &Input{Message: message.Message{Payload: []byte(tt.payload)}})
		if err != nil {
			out = []byte(err.Error())
		}
		if string(out) != tt.want {
			t.Errorf("%s of %.20q: %.80s, want %s", tt.args, tt.payload, out, tt.want)
		}
		if tt.want == "null" && len(told.all) != 1 {
			t.Errorf("%s of %.20q: told %q", tt.args, tt.payload, told.all)
		}
	}
}

func protoLen(n int) []byte {
	var b []byte
	for ; n > 127; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

// A shelf has one object in versions.
type shelf struct {
	mu    sync.Mutex
	set   []byte
	tag   string
	err   error
	wait  time.Duration
	asked atomic.Int64
	known []string
}

func (s *shelf) put(set []byte, tag string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set, s.tag, s.err = set, tag, err
}

func (s *shelf) DescriptorSet(_ context.Context, _, _, known string) ([]byte, string, error) {
	s.asked.Add(1)
	time.Sleep(s.wait)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append(s.known, known)
	if known != "" && known == s.tag {
		return nil, s.tag, nil
	}
	return s.set, s.tag, s.err
}

// A descriptor set is asked for at most every schemaRefresh; a version that
// can't be had or read leaves a sign with Failed.
func TestSchemaRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told failures
		at := &shelf{}
		x := &Services{Protobuf: at, Failed: told.add}
		s := mustCompileWith(t, x, "SELECT VALUE get_or_default("+decodeReading+", 'none')")
		step := func(what, want string, asked int64, fails string) {
			t.Helper()
			told.all = nil
			before := at.asked.Load()
			for range 3 {
				out, _, err := s.Eval(t.Context(), nil, &Input{Message: message.Message{Payload: []byte("\x20\x05")}})
				if string(out) != want || err != nil {
					t.Errorf("%s: %s, %v; want %s", what, out, err, want)
				}
			}
			if n := at.asked.Load() - before; n != asked {
				t.Errorf("%s: asked %d times, want %d", what, n, asked)
			}
			if all := strings.Join(told.all, "\n"); !strings.Contains(all, fails) || (fails == "") != (all == "") {
				t.Errorf("%s: told %q, want %q", what, all, fails)
			}
		}
		step("nothing there", `"none"`, 1, errNoSchema.Error())
		at.put(protojsontest.Set(t), "1", nil)
		step("too early", `"none"`, 0, errNoSchema.Error())
		time.Sleep(schemaRefresh)
		step("there", `{"count":"5"}`, 1, "")
		time.Sleep(schemaRefresh)
		step("unchanged", `{"count":"5"}`, 1, "")
		at.put(nil, "", errors.New("disk"))
		time.Sleep(schemaRefresh)
		step("out of reach", `{"count":"5"}`, 1, "disk")
		at.put([]byte{0xff}, "2", nil)
		time.Sleep(schemaRefresh)
		step("broken", `"none"`, 1, "meter.desc of bucket schemas")
		at.put(make([]byte, protojson.MaxSchema+1), "3", nil)
		time.Sleep(schemaRefresh)
		step("too long", `"none"`, 1, "limit")
		at.put(nil, "", errors.New("disk"))
		time.Sleep(schemaRefresh)
		at.put(protojsontest.Set(t), "4", nil)
		step("back", `{"count":"5"}`, 1, "")
		if got, want := fmt.Sprint(at.known), "[  1 1 1 2 3]"; got != want {
			t.Errorf("known %s, want %s", got, want)
		}
	})
}

// Many goroutines ask once; while a newer version is asked for they go on
// with what there is.
func TestSchemaShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := &shelf{set: protojsontest.Set(t), tag: "1", wait: callLimit / 2}
		x := &Services{Protobuf: at}
		s := mustCompileWith(t, x, "SELECT VALUE "+decodeReading)
		all := func() (longest time.Duration, waited int) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			for range 20 {
				wg.Go(func() {
					start := time.Now()
					out, _, err := s.Eval(t.Context(), nil,
						&Input{Message: message.Message{Payload: []byte("\x20\x05")}})
					if string(out) != `{"count":"5"}` || err != nil {
						t.Errorf("%s, %v", out, err)
					}
					mu.Lock()
					defer mu.Unlock()
					if took := time.Since(start); took > 0 {
						waited++
						longest = max(longest, took)
					}
				})
			}
			wg.Wait()
			return longest, waited
		}
		if longest, waited := all(); longest != at.wait || waited != 20 || at.asked.Load() != 1 {
			t.Errorf("first: %d waited up to %v, asked %d times", waited, longest, at.asked.Load())
		}
		time.Sleep(schemaRefresh)
		if _, waited := all(); waited != 1 || at.asked.Load() != 2 {
			t.Errorf("refresh: %d waited, asked %d times", waited, at.asked.Load())
		}
	})
}

// What statements name is bounded by the cache, not by the messages.
func TestSchemasBounded(t *testing.T) {
	x := stub{answer: protojsontest.Set(t)}.services(&failures{})
	s := mustCompileWith(t, x, "SELECT VALUE decode('', 'proto', 'b', k, 'site/meter.proto', 'Reading')")
	for i := range 3 * maxSchemas {
		if out, _, err := s.Eval(t.Context(), nil,
			&Input{Message: message.Message{Payload: fmt.Appendf(nil, `{"k": %d}`, i)}}); string(out) != "{}" ||
			err != nil {
			t.Fatalf("%s, %v", out, err)
		}
	}
	if n := len(x.schemas.all); n != maxSchemas {
		t.Errorf("%d are kept, want %d", n, maxSchemas)
	}
}

func BenchmarkDecodeProto(b *testing.B) {
	payload, _ := protojsontest.Encode(b, protojsontest.Readings[1])
	s := mustCompileWith(b, stub{answer: protojsontest.Set(b)}.services(&failures{}), "SELECT "+decodeReading+
		" AS r, topic() AS t")
	m := &Input{Message: message.Message{Topic: "dt/1", Payload: payload}}
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	var out []byte
	for b.Loop() {
		out, _, _ = s.Eval(b.Context(), out[:0], m)
	}
}
