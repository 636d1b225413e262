package mqtttest

import (
	"encoding/json"
	"testing"
	"time"
)

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond} {
		if got := h.quantile(q); got < want || got > want*5/4 {
			t.Errorf("quantile %v is %v, want %v to a quarter", q, got, want)
		}
	}
}

func TestPayload(t *testing.T) {
	for _, n := range []int{1, 10, 60, 200} {
		p := payload(n)
		if len(p) != n || !json.Valid(p) {
			t.Errorf("%d bytes: %s", n, p)
		}
	}
}
