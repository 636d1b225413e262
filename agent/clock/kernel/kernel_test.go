package kernel

import (
	"testing"
	"time"
)

// The clocks go on, together, and only a clock that is held has a bound.
func TestRead(t *testing.T) {
	a := Read()
	for range 100 {
		b := Read()
		if b.Boot < a.Boot || a.Boot <= 0 {
			t.Fatalf("from %v to %v", a.Boot, b.Boot)
		}
		if apart := b.Wall.Sub(a.Wall) - (b.Boot - a.Boot); apart.Abs() > time.Second {
			t.Fatalf("the clocks are apart by %v", apart)
		}
		if !b.Synced && b.MaxError != 0 {
			t.Fatalf("%+v", b)
		}
	}
	if off := time.Since(a.Wall); off < 0 || off > time.Minute {
		t.Errorf("the wall clock is %v off", off)
	}
	t.Logf("%+v, boot %q", Read(), BootID())
}
