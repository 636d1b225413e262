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

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// meterProto is a file with a field of each kind.
const meterProto = `
name: "site/meter.proto" package: "site.v1" syntax: "proto3"
dependency: ["google/protobuf/any.proto", "google/protobuf/timestamp.proto", "google/protobuf/duration.proto", "google/protobuf/struct.proto", "google/protobuf/wrappers.proto"]
enum_type { name: "Mode" value { name: "OFF" number: 0 } value { name: "ON" number: 1 } }
message_type { name: "Reading"
	field { name: "sensor_id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
	field { name: "temp" number: 2 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
	field { name: "hum" number: 3 type: TYPE_FLOAT label: LABEL_OPTIONAL }
	field { name: "count" number: 4 type: TYPE_INT64 label: LABEL_OPTIONAL }
	field { name: "total" number: 5 type: TYPE_UINT64 label: LABEL_OPTIONAL }
	field { name: "small" number: 6 type: TYPE_SINT32 label: LABEL_OPTIONAL }
	field { name: "flags" number: 7 type: TYPE_FIXED32 label: LABEL_OPTIONAL }
	field { name: "alarm" number: 8 type: TYPE_BOOL label: LABEL_OPTIONAL }
	field { name: "raw" number: 9 type: TYPE_BYTES label: LABEL_OPTIONAL }
	field { name: "mode" number: 10 type: TYPE_ENUM type_name: ".site.v1.Mode" label: LABEL_OPTIONAL }
	field { name: "modes" number: 11 type: TYPE_ENUM type_name: ".site.v1.Mode" label: LABEL_REPEATED }
	field { name: "tags" number: 12 type: TYPE_STRING label: LABEL_REPEATED }
	field { name: "inner" number: 13 type: TYPE_MESSAGE type_name: ".site.v1.Reading" label: LABEL_OPTIONAL }
	field { name: "list" number: 14 type: TYPE_MESSAGE type_name: ".site.v1.Reading" label: LABEL_REPEATED }
	field { name: "by_name" number: 15 type: TYPE_MESSAGE type_name: ".site.v1.Reading.ByNameEntry" label: LABEL_REPEATED }
	field { name: "by_id" number: 16 type: TYPE_MESSAGE type_name: ".site.v1.Reading.ByIdEntry" label: LABEL_REPEATED }
	field { name: "text" number: 17 type: TYPE_STRING oneof_index: 0 label: LABEL_OPTIONAL }
	field { name: "number" number: 18 type: TYPE_INT32 oneof_index: 0 label: LABEL_OPTIONAL }
	field { name: "maybe" number: 19 type: TYPE_INT32 oneof_index: 1 proto3_optional: true label: LABEL_OPTIONAL }
	field { name: "any" number: 20 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL }
	field { name: "at" number: 21 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL }
	field { name: "took" number: 22 type: TYPE_MESSAGE type_name: ".google.protobuf.Duration" label: LABEL_OPTIONAL }
	field { name: "doc" number: 23 type: TYPE_MESSAGE type_name: ".google.protobuf.Struct" label: LABEL_OPTIONAL }
	field { name: "wrapped" number: 24 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" label: LABEL_OPTIONAL }
	nested_type { name: "ByNameEntry" options { map_entry: true }
		field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
		field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".site.v1.Reading" label: LABEL_OPTIONAL } }
	nested_type { name: "ByIdEntry" options { map_entry: true }
		field { name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
		field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
	oneof_decl { name: "choice" } oneof_decl { name: "_maybe" } }`

func meterSet(t testing.TB) []byte {
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(meterProto), &file); err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, fd := range []protoreflect.FileDescriptor{
		anypb.File_google_protobuf_any_proto, timestamppb.File_google_protobuf_timestamp_proto, durationpb.File_google_protobuf_duration_proto,
		structpb.File_google_protobuf_struct_proto, wrapperspb.File_google_protobuf_wrappers_proto,
	} {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	set.File = append(set.File, &file)
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const decodeReading = `decode(*, 'proto', 'schemas', 'meter.desc', 'site/meter.proto', 'Reading')`

// readings are messages as text.
var readings = []string{
	``,
	`sensor_id: "s1" temp: 21.5 hum: 0.1 count: 9007199254740993 total: 18446744073709551615 small: -1 flags: 7 alarm: true raw: "\x00\xff" mode: ON`,
	`modes: [ON, OFF, ON] tags: ["a", "", "\"\\\n\t\001é"]`,
	`inner { sensor_id: "i" inner {} } list { temp: 1 } list {}`,
	`by_name { key: "b" value { temp: 2 } } by_name { key: "a" value {} } by_id { key: 10 value: "ten" } by_id { key: -2 value: "" }`,
	`text: "" maybe: 0`, `number: 0`,
	`temp: nan hum: inf list { temp: -inf } list { temp: 1e300 } list { temp: 1e-300 } list { hum: 16777216 } list { temp: 1e20 }`,
	`at { seconds: 1481825251 nanos: 155000000 } took { seconds: -3 nanos: -500000000 } wrapped { value: 0 }`,
	`doc { fields { key: "k" value { list_value { values { number_value: 1 } values { null_value: NULL_VALUE } values { struct_value {} } } } } }`,
	`any { [type.googleapis.com/site.v1.Reading] { sensor_id: "in" any { [type.googleapis.com/google.protobuf.Duration] { seconds: 1 } } } }`,
	`any {}`,
}

func encodeReading(t testing.TB, text string) (*schema, *dynamicpb.Message, []byte) {
	files, err := parseSchema(meterSet(t))
	if err != nil {
		t.Fatal(err)
	}
	s := &schema{files: files}
	md, err := s.message("site/meter.proto", "Reading")
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage(md)
	if err := (prototext.UnmarshalOptions{Resolver: dynamicpb.NewTypes(files)}).Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return s, m, b
}

// oracle is what package protojson makes of a message.
func oracle(s *schema, m proto.Message) ([]byte, error) {
	return protojson.MarshalOptions{UseProtoNames: true, Resolver: dynamicpb.NewTypes(s.files)}.Marshal(m)
}

func TestDecodeProto(t *testing.T) {
	set := meterSet(t)
	x := stub{answer: set}.services(&failures{})
	s := mustCompileWith(t, x, "SELECT VALUE "+decodeReading)
	s64 := mustCompileWith(t, x, "SELECT VALUE decode(encode(*, 'base64'), 'proto', 'schemas', 'meter.desc', 'site/meter', 'site.v1.Reading')")
	for _, text := range readings {
		schema, m, b := encodeReading(t, text)
		want, err := oracle(schema, m)
		if err != nil {
			t.Fatal(err)
		}
		quoted, _ := json.Marshal(b)
		for name, got := range map[string]func() ([]byte, bool, error){
			"raw":         func() ([]byte, bool, error) { return s.Eval(t.Context(), nil, &Message{Payload: b}) },
			"base64":      func() ([]byte, bool, error) { return s64.Eval(t.Context(), nil, &Message{Payload: b}) },
			"JSON string": func() ([]byte, bool, error) { return s.Eval(t.Context(), nil, &Message{Payload: quoted}) },
		} {
			out, _, err := got()
			if err != nil || !alike(out, want) {
				t.Errorf("%s, %s: %s, %v; want %s", text, name, out, err, want)
			}
		}
	}
	s = mustCompileWith(t, x, "SELECT "+decodeReading+".sensor_id AS id, 1 AS ok WHERE "+decodeReading+".count > 9007199254740992")
	_, _, b := encodeReading(t, readings[1])
	if out, _, err := s.Eval(t.Context(), nil, &Message{Payload: b}); string(out) != `{"id":"s1","ok":1}` {
		t.Errorf("%s, %v", out, err)
	}
}

func TestDecodeProtoFaults(t *testing.T) {
	set := meterSet(t)
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
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, "\x82\x01\x07\x08\x01\x0d\x00\x00\x00\x00", `null`}, // a map's key twice
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, string(deep), `null`},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, string(inAny), `null`},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, "\x0a\x01\xff", `null`}, // a string that is no UTF-8
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, "\xa2\x01\x03\x0a\x01x", `null`},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, string(enums), ErrTooLarge.Error()},
		{`*, 'proto', 'b', 'k', 'site/meter.proto', 'Reading'`, strings.Repeat("\x40\x01", MaxOutput/2+1), ErrTooLarge.Error()},
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
		out, _, err := s.Eval(t.Context(), nil, &Message{Payload: []byte(tt.payload)})
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
				out, _, err := s.Eval(t.Context(), nil, &Message{Payload: []byte("\x20\x05")})
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
		at.put(meterSet(t), "1", nil)
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
		at.put(make([]byte, maxSchema+1), "3", nil)
		time.Sleep(schemaRefresh)
		step("too long", `"none"`, 1, "limit")
		at.put(nil, "", errors.New("disk"))
		time.Sleep(schemaRefresh)
		at.put(meterSet(t), "4", nil)
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
		at := &shelf{set: meterSet(t), tag: "1", wait: callLimit / 2}
		x := &Services{Protobuf: at}
		s := mustCompileWith(t, x, "SELECT VALUE "+decodeReading)
		all := func() (longest time.Duration, waited int) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			for range 20 {
				wg.Go(func() {
					start := time.Now()
					out, _, err := s.Eval(t.Context(), nil, &Message{Payload: []byte("\x20\x05")})
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
	x := stub{answer: meterSet(t)}.services(&failures{})
	s := mustCompileWith(t, x, "SELECT VALUE decode('', 'proto', 'b', k, 'site/meter.proto', 'Reading')")
	for i := range 3 * maxSchemas {
		if out, _, err := s.Eval(t.Context(), nil, &Message{Payload: fmt.Appendf(nil, `{"k": %d}`, i)}); string(out) != "{}" || err != nil {
			t.Fatalf("%s, %v", out, err)
		}
	}
	if n := len(x.schemas.all); n != maxSchemas {
		t.Errorf("%d are kept, want %d", n, maxSchemas)
	}
}

// FuzzProto gives decode any descriptor set and message. With the set of the
// tests the result is protojson's.
func FuzzProto(f *testing.F) {
	set := meterSet(f)
	for _, text := range readings {
		_, _, b := encodeReading(f, text)
		f.Add([]byte(nil), b, "site/meter.proto", "Reading")
		f.Add(set, b, "site/meter.proto", "Reading")
	}
	files, err := parseSchema(set)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, foreign, b []byte, file, name string) {
		mine := &schema{files: files}
		if len(foreign) > 0 {
			files, err := parseSchema(foreign)
			if err != nil {
				return
			}
			mine = &schema{files: files}
		}
		md, err := mine.message(file, name)
		if err != nil {
			return
		}
		var told failures
		fr := newFrame(t.Context(), &program{services: &Services{Failed: told.add}}, &Message{})
		defer fr.release()
		v := fr.fromProto(mine, md, b)
		out := fr.appendJSON(nil, v)
		if fr.err == nil && !json.Valid(out) {
			t.Fatalf("%q of %x", out, b)
		}
		if len(out) > MaxOutput {
			t.Fatalf("%d bytes", len(out))
		}
		if len(foreign) > 0 || len(told.all) > 0 || fr.err != nil {
			return
		}
		m, err := unmarshalProto(md, b, maxProtoNesting)
		if err != nil {
			t.Fatal(err)
		}
		want, err := oracle(mine, m.Interface())
		if err != nil {
			t.Fatalf("%s, protojson: %v", out, err)
		}
		if !alike(out, want) {
			t.Fatalf("%s, protojson has %s", out, want)
		}
	})
}

func BenchmarkDecodeProto(b *testing.B) {
	_, _, payload := encodeReading(b, readings[1])
	s := mustCompileWith(b, stub{answer: meterSet(b)}.services(&failures{}), "SELECT "+decodeReading+" AS r, topic() AS t")
	m := &Message{Topic: "dt/1", Payload: payload}
	b.ReportAllocs()
	b.SetBytes(int64(len(payload)))
	var out []byte
	for b.Loop() {
		out, _, _ = s.Eval(b.Context(), out[:0], m)
	}
}
