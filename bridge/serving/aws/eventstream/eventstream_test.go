package eventstream

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// TestVectors holds frames that another program made.
func TestVectors(t *testing.T) {
	dir := cmp.Or(os.Getenv("TIDEMILL_VECTORS"), "../../../../../shared/conformance")
	f, err := os.Open(filepath.Join(dir, "streams-hash.jsonl"))
	if err != nil {
		t.Skipf("no vectors: %v (set TIDEMILL_VECTORS to their folder)", err)
	}
	defer f.Close()
	lines, n := bufio.NewScanner(f), 0
	for lines.Buffer(nil, 16<<20); lines.Scan(); {
		var v struct {
			Kind, Name, Payload, Hex string
			Headers                  [][2]string
		}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil || v.Kind != "eventstream" {
			continue
		}
		n++
		m := Message{Payload: []byte(v.Payload)}
		for _, h := range v.Headers {
			m.Headers = append(m.Headers, Header{h[0], h[1]})
		}
		got := Encode(m)
		if hex.EncodeToString(got) != v.Hex {
			t.Errorf("%s: %x", v.Name, got)
		}
		back, rest, err := Decode(got)
		if err != nil || len(rest) != 0 || !reflect.DeepEqual(back, m) {
			t.Errorf("%s: %v %v", v.Name, back, err)
		}
		for i := range got { // no bit may change, and nothing be missing
			got[i] ^= 0x10
			if _, _, err := Decode(got); !errors.Is(err, ErrMessage) {
				t.Errorf("%s: byte %d changed: %v", v.Name, i, err)
			}
			got[i] ^= 0x10
			if _, _, err := Decode(got[:i]); !errors.Is(err, ErrMessage) {
				t.Errorf("%s: only %d bytes: %v", v.Name, i, err)
			}
		}
	}
	if n == 0 {
		t.Fatal("no vectors of this kind")
	}
	t.Logf("eventstream: %d of %d", n, n)
}

// Whatever Decode accepts, Encode writes back byte for byte.
func FuzzDecode(f *testing.F) {
	f.Add(Encode(Message{Payload: []byte("{}")}))
	f.Add(append(Encode(Message{Headers: []Header{{":message-type", "event"}, {"x", ""}}}), 1, 2))
	f.Fuzz(func(t *testing.T, in []byte) {
		m, rest, err := Decode(in)
		if err != nil {
			return
		}
		if out := append(Encode(m), rest...); !bytes.Equal(out, in) {
			t.Fatalf("%x -> %v -> %x", in, m, out)
		}
	})
}
