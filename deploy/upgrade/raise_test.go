package upgrade

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/nightly"
)

// A start that raises the formats of older data is killed at an instant of chance. The
// next one, of the same program, has everything.
func TestRaiseKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs both programs")
	}
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for range nightly.Or(2, 30) {
		h := newHeir(t, bin, "testdata/94f415d.json")
		h.inheritsAfter(func() {
			h.must(h.bridge.Start())
			time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
			h.bridge.Kill()
		})
	}
}
