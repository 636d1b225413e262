package sensor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/deploy/await"
	"github.com/tidemill/tidemill/hal"
)

// A call that hangs is left behind at its context's end, keeps others out, and
// releases what it used when it ends after close.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		released := 0
		c := calls{release: func() error { released++; return nil }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		hang := make(chan struct{})
		if err := c.do(ctx, func() error { <-hang; return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("hangs: %v", err)
		}
		if err := c.do(t.Context(), func() error { return nil }); !errors.Is(err, ErrBusy) {
			t.Errorf("still hangs: %v", err)
		}
		if err := c.close(); err != nil || released != 0 {
			t.Errorf("close: %v, released %d times while a call runs", err, released)
		}
		close(hang)
		synctest.Wait()
		if released != 1 {
			t.Errorf("released %d times", released)
		}
		if err := c.do(t.Context(), func() error { return nil }); !errors.Is(err, os.ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if err := c.close(); err != nil || released != 1 {
			t.Errorf("closed twice: %v, %d", err, released)
		}
	})
	c := calls{release: func() error { return nil }}
	if err := c.do(t.Context(), func() error { panic("oh") }); err == nil || !strings.Contains(err.Error(), "oh") {
		t.Errorf("panic: %v", err)
	}
	if err := c.do(t.Context(), func() error { return nil }); err != nil {
		t.Errorf("after a panic: %v", err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if err := c.do(ended, func() error { t.Error("runs"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

// A program that outlasts its reading writes nothing that the reading returns: this
// test is for the race detector.
func TestCommandOutlasts(t *testing.T) {
	m := newOptions(map[string]any{}).mapping()
	c := &commandRun{program: program{argv: []string{"/bin/sh", "-c", "trap '' TERM; sleep 0.3; echo a=1"}, dir: "/"},
		mapping: m, end: make(chan struct{})}
	c.calls.release = func() error { return nil }
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if got, err := c.members(ctx); !errors.Is(err, context.DeadlineExceeded) || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	await.True(t, "the program ends", func() bool {
		c.calls.mu.Lock()
		defer c.calls.mu.Unlock()
		return !c.calls.running
	})
}

// Every kind of error is found through what wraps it.
func TestKinds(t *testing.T) {
	for _, k := range kinds {
		if got := KindOf(fmt.Errorf("chip: %w: details", k.err)); got != k.name {
			t.Errorf("%v is %q, want %q", k.err, got, k.name)
		}
	}
	if got := KindOf(errors.New("else")); got != "" {
		t.Errorf("another error is %q", got)
	}
	if got := KindOf(fmt.Errorf("%w: %w", ErrNotReady, hal.ErrNoDevice)); got != "not_ready" {
		t.Errorf("a read that was refused is %q", got)
	}
}

// What await waits for comes, comes late, or fails; a reading's end is told in
// time.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		w := &wire{ctx: ctx}
		looks := 0
		if err := w.await("x", time.Millisecond, time.Minute, func() (bool, error) {
			looks++
			return looks == 5, nil
		}); err != nil || looks != 5 {
			t.Errorf("%d looks: %v", looks, err)
		}
		oops := errors.New("oops")
		fails := func() (bool, error) { return false, oops }
		if err := w.await("x", time.Millisecond, time.Minute, fails); err != oops {
			t.Errorf("error: %v", err)
		}
		began := time.Now()
		never := func() (bool, error) { return false, nil }
		if err := w.await("no tea", time.Millisecond, 100*time.Millisecond, never); !errors.Is(err, ErrNotReady) ||
			!strings.Contains(err.Error(), "no tea") || time.Since(began) > 100*time.Millisecond {
			t.Errorf("limit: %v after %v", err, time.Since(began))
		}
		if err := w.await("no tea", time.Millisecond, time.Hour, never); !errors.Is(err, ErrNotReady) ||
			ctx.Err() != nil {
			t.Errorf("reading's end: %v", err)
		}
	})
}

func TestSmallParts(t *testing.T) {
	for want, in := range map[string][]uint16{"0x76 or 0x77": {0x76, 0x77}, "0x48 to 0x4f": span(0x48, 0x4F),
		"0x10": {0x10}, "0x23 or 0x5c": {0x23, 0x5C}} {
		if got := hexList(in); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, c := range []struct {
		b    []byte
		want bool
	}{{[]byte{0, 0}, true}, {[]byte{0xFF, 0xFF}, true}, {[]byte{0xFF, 0}, false}, {[]byte{1, 1}, false}} {
		if got := uniform(c.b); got != c.want {
			t.Errorf("uniform(%x) is %v", c.b, got)
		}
	}
}
