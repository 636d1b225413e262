package uplink

import (
	"context"
	"time"
)

// askTime asks a bridge that tells the time whenever Options.Time wants to know, until
// the link is down or ctx ends. Over plain TCP nobody knows who answers.
func (s *session) askTime(ctx context.Context) {
	if !s.timed || !s.link.secure {
		return
	}
	for first := true; ; first = false {
		request, next := s.u.o.Time.Ask(first)
		if request != nil {
			if _, err := s.publish(ctx, s.u.o.TimeTopic, false, request); err != nil {
				return
			}
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-s.link.down:
		case <-ctx.Done():
		}
		timer.Stop()
		if s.link.why() != nil || ctx.Err() != nil {
			return
		}
	}
}
