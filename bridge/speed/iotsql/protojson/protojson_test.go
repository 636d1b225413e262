package protojson

import (
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	library "google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/tidemill/tidemill/bridge/speed/iotsql/protojson/protojsontest"
)

// maxJSON is what the tests let a message become.
const maxJSON = 128 << 10

// alike says whether two texts are the same JSON, numbers by their value.
func alike(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func TestAgainstLibrary(t *testing.T) {
	s, err := Parse(protojsontest.Set(t))
	if err != nil {
		t.Fatal(err)
	}
	md, err := s.Message("site/meter", "Reading")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range protojsontest.Readings {
		b, want := protojsontest.Encode(t, text)
		got, err := s.Append([]byte("before"), md, b, maxJSON)
		if err != nil || string(got[:6]) != "before" || !alike(got[6:], want) {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
		if len(b) < 5 {
			continue
		}
		if got, err := s.Append([]byte("before"), md, b, len(b)/2); !errors.Is(err, ErrTooLarge) ||
			string(got) != "before" {
			t.Errorf("%s: %s, %v; want nothing and ErrTooLarge", text, got, err)
		}
	}
}

// FuzzAppend takes any descriptor set and message. With the set of the tests
// the result is the library's.
func FuzzAppend(f *testing.F) {
	set := protojsontest.Set(f)
	for _, text := range protojsontest.Readings {
		b, _ := protojsontest.Encode(f, text)
		f.Add([]byte(nil), b, "site/meter.proto", "Reading")
		f.Add(set, b, "site/meter.proto", "Reading")
	}
	own, err := Parse(set)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, foreign, b []byte, file, name string) {
		s := own
		if len(foreign) > 0 {
			var err error
			if s, err = Parse(foreign); err != nil {
				return
			}
		}
		md, err := s.Message(file, name)
		if err != nil {
			return
		}
		out, err := s.Append(nil, md, b, maxJSON)
		if err == nil && !json.Valid(out) {
			t.Fatalf("%q of %x", out, b)
		}
		if err != nil || len(foreign) > 0 {
			return
		}
		m, err := unmarshal(md, b, maxNesting)
		if err != nil {
			t.Fatal(err)
		}
		want, err := library.MarshalOptions{UseProtoNames: true,
			Resolver: dynamicpb.NewTypes(s.files)}.Marshal(m.Interface())
		if err != nil || !alike(out, want) {
			t.Fatalf("%s, the library has %s, %v", out, want, err)
		}
	})
}
