package wire

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
)

// TestEventVectors holds frames that another program made against the encoder
// that subscriptions use.
func TestEventVectors(t *testing.T) {
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
		m := eventstream.Message{Payload: []byte(v.Payload)}
		for _, h := range v.Headers {
			m.Headers = append(m.Headers, eventstream.Header{Name: h[0], Value: eventstream.StringValue(h[1])})
		}
		var got bytes.Buffer
		if err := eventstream.NewEncoder().Encode(&got, m); err != nil || hex.EncodeToString(got.Bytes()) != v.Hex {
			t.Errorf("%s: %x %v", v.Name, got.Bytes(), err)
		}
	}
	if n == 0 {
		t.Fatal("no vectors of this kind")
	}
	t.Logf("eventstream: %d of %d", n, n)
}
