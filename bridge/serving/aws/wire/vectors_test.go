package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/tidemill/tidemill/deploy/conformance"
)

// TestEventVectors holds frames that another program made against the encoder
// that subscriptions use.
func TestEventVectors(t *testing.T) {
	n := 0
	for _, line := range conformance.Kind(t, "streams-hash.jsonl", "eventstream") {
		var v struct {
			Name, Payload, Hex string
			Headers            [][2]string
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
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
	t.Logf("eventstream: %d of %d", n, n)
}
