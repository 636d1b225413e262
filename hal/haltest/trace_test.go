package haltest

import (
	"bytes"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sim"
)

func TestRecordAndPlay(t *testing.T) {
	b := sim.New(sim.Options{Seed: 3})
	wire, err := b.I2C(sim.DefaultBus)
	if err != nil {
		t.Fatal(err)
	}
	rec := NewRecorder(wire)
	id := make([]byte, 1)
	if err := rec.Tx(0x76, []byte{0xD0}, id); err != nil || id[0] != 0x60 {
		t.Fatalf("%x, %v", id, err)
	}
	if err := rec.Tx(0x10, []byte{1}, nil); !errors.Is(err, hal.ErrNoDevice) {
		t.Fatal(err)
	}
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	if err := rec.Tx(0x76, nil, id); !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}

	var text bytes.Buffer
	if _, err := rec.Trace().WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	tr, err := ReadTrace(strings.NewReader("# a comment\n\n" + text.String()))
	if err != nil || !reflect.DeepEqual(tr, rec.Trace()) {
		t.Fatalf("%v\nread back as %+v, %v", text.String(), tr, err)
	}

	p := NewPlayer(tr)
	if err := p.Tx(0x76, []byte{0xD1}, id); err == nil || p.Left() != 3 {
		t.Errorf("another register: %v, %d left", err, p.Left())
	}
	if err := p.Tx(0x76, []byte{0xD0}, make([]byte, 2)); err == nil {
		t.Error("another length")
	}
	id[0] = 0
	if err := p.Tx(0x76, []byte{0xD0}, id); err != nil || id[0] != 0x60 {
		t.Errorf("%x, %v", id, err)
	}
	if err := p.Tx(0x10, []byte{1}, nil); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("no acknowledge plays as %v", err)
	}
	if err := p.Tx(0x76, nil, id); err == nil || errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("another error plays as %v", err)
	}
	if err := p.Tx(0x76, nil, id); err == nil || p.Left() != 0 {
		t.Errorf("beyond the end: %v", err)
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
}

func TestReadTraceErrors(t *testing.T) {
	for _, bad := range []string{"76", "76 d0", "76 d 60", "76 d0 6g", "400 d0 60", "x d0 60", "76 d0 60 oh",
		"76 d0 60 !", "76 d0 60 !! "} {
		if tr, err := ReadTrace(strings.NewReader("76 d0 60\n" + bad)); err == nil ||
			!strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v, %v", bad, tr, err)
		}
	}
}

// What ReadTrace accepts is written so that it reads the same again.
func FuzzTrace(f *testing.F) {
	f.Add("76 d0 60\n76 f72e -\n77 d0 00 !! no acknowledge\n")
	f.Add("# x\n3ff - - ! a  b\n")
	f.Fuzz(func(t *testing.T, in string) {
		tr, err := ReadTrace(strings.NewReader(in))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if _, err := tr.WriteTo(&out); err != nil {
			t.Fatal(err)
		}
		again, err := ReadTrace(&out)
		if err != nil || !reflect.DeepEqual(again, tr) {
			t.Errorf("%q read as %+v, then %+v, %v", in, tr, again, err)
		}
	})
}
