package delivery

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// A sink that never answers holds an attempt for its time, and is then asked again.
func TestAttemptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLine(Retry{First: time.Second, Most: time.Second}, slog.New(slog.DiscardHandler), nil)
		began, tries := time.Now(), 0
		err := l.Do(t.Context(), &Job{Items: 1,
			Send: func(ctx context.Context, _ []int) ([]sink.Refusal, error) {
				if tries++; tries > 1 {
					return nil, nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			},
			Settle: func(context.Context, int, []sink.Refusal) error { return nil }})
		took := time.Since(began)
		if err != nil || tries != 2 || took < attemptTime || took > attemptTime+2*time.Second {
			t.Errorf("%d tries in %v: %v", tries, took, err)
		}
	})
}
