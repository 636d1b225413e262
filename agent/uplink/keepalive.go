package uplink

import (
	"context"
	"sync"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// forgetAfter is how long a silence that was too long is remembered: the device may
// have come to another network, or the link broke for another cause.
const forgetAfter = 24 * time.Hour

// pingRequest is the packet that keeps a connection alive (MQTT 3.1.1, 3.12).
var pingRequest = []byte{packets.Pingreq << 4, 0}

// A stretch finds out how long a connection may be silent: a NAT on the way forgets one
// that is for too long, and says so to neither end. CONNECT announces most, within which
// (by half more) the broker wants to hear of the device. Pings come earlier: each time
// that one is answered after a silence the next silence may be longer by half.
type stretch struct {
	least, most time.Duration

	mu    sync.Mutex // guards the rest
	gap   time.Duration
	good  time.Duration // the longest silence after which the link still stood
	bad   time.Duration // the shortest after which it did not; 0: none
	badAt time.Time
}

func newStretch(least, most time.Duration) *stretch {
	return &stretch{least: least, most: max(least, most), gap: least, good: least}
}

// now is how long the link may be silent until a ping.
func (s *stretch) now() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gap
}

// held says that the link stood after a silence.
func (s *stretch) held(silence time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if silence < s.gap {
		return
	}
	if s.bad > 0 && time.Since(s.badAt) > forgetAfter {
		s.bad = 0
	}
	s.good = max(s.good, s.gap)
	if next := min(s.gap*3/2, s.most); s.bad == 0 || next < s.bad {
		s.gap = next
	}
}

// lost says that the link was gone after a silence. Of one of least nothing is learned.
func (s *stretch) lost(silence time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if silence <= s.least || s.gap == s.least {
		return
	}
	s.bad, s.badAt = silence, time.Now()
	if s.good >= silence {
		s.good = s.least
	}
	s.gap = s.good
}

// ping asks whether the link stands once it was silent for the stretch's time. At its
// most the MQTT client does that itself.
func (s *session) ping(ctx context.Context) {
	u, l := s.u, s.link
	for u.stretch.most > u.stretch.least {
		gap := u.stretch.now()
		wait := gap - l.silent()
		if gap == u.stretch.most {
			wait = gap
		} else if wait <= 0 {
			if _, err := l.Write(pingRequest); err != nil {
				return
			}
			wait = u.o.AckTimeout
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-l.down:
		case <-ctx.Done():
		}
		timer.Stop()
		if l.why() != nil || ctx.Err() != nil {
			return
		}
		if l.unanswered() >= u.o.AckTimeout {
			l.fail(s.stalled("ping"))
			return
		}
	}
}

// A traffic is when a link was used. The link's mu guards it.
type traffic struct {
	last    time.Time     // something was written or read
	asked   time.Time     // the first write since the last read; zero: there is none
	silence time.Duration // before asked
}

func (t *traffic) wrote(now time.Time) {
	if t.asked.IsZero() {
		t.asked, t.silence = now, now.Sub(t.last)
	}
	t.last = now
}

// read returns the silence before the writes that what is read may answer, 0 for none.
func (t *traffic) read(now time.Time) (silence time.Duration) {
	if !t.asked.IsZero() {
		silence = t.silence
	}
	t.last, t.asked = now, time.Time{}
	return silence
}

// silent is since when the link was not used.
func (l *link) silent() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.used.last)
}

// unanswered is since when something was written and nothing read, 0 if it was.
func (l *link) unanswered() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used.asked.IsZero() {
		return 0
	}
	return time.Since(l.used.asked)
}

// learn tells the stretch after which silence a link was lost.
func (l *link) learn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.used.asked.IsZero() {
		l.stretch.lost(l.used.silence)
	}
}
