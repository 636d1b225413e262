package server

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Stores that do not open hold nobody who wants to end, and one that opened too
// late is closed.
func TestOpeningEnds(t *testing.T) {
	cfg := configure(t)
	for _, tc := range []struct {
		name  string
		grace time.Duration
		open  bool // in the end
	}{{"never", time.Millisecond, false}, {"late", time.Hour, true}} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			release, left := make(chan struct{}), make(chan struct{})
			go func() {
				cancel()
				if tc.open {
					close(release)
				}
			}()
			s, err := opening(ctx, tc.grace, func() (*Server, error) {
				defer close(left)
				<-ctx.Done()
				<-release
				if !tc.open {
					return nil, errSick
				}
				b, err := reopen(t, cfg)
				return b.Server, err
			})
			if s != nil || !errors.Is(err, context.Canceled) {
				t.Errorf("%v, %v", s, err)
			}
			if !tc.open {
				close(release)
			}
			<-left
		})
	}
	b, err := reopen(t, cfg) // nobody holds it
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}
