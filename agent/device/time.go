package device

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/budget"
	"github.com/tidemill/tidemill/agent/clock"
	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/health"
	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/agent/telemetry"
)

// ClockOptions are the options of a clock for a configuration: a tool that connects
// as this device judges certificates as the agent does.
func ClockOptions(cfg config.Config) clock.Options {
	return clock.Options{Dir: cfg.DataDir, Floors: floors(cfg), Window: time.Duration(cfg.Clock.CertWindow)}
}

// floors are times before which it cannot be: that of the program, and those from
// which on the certificates are valid that somebody has put on this device.
func floors(cfg config.Config) []time.Time {
	all := []time.Time{clock.Built()}
	files := []string{cfg.Uplink.CA}
	if cfg.Uplink.Security == config.MutualTLS {
		files = append(files, cfg.Uplink.Cert)
	}
	if cfg.Provision.Template != "" {
		files = append(files, cfg.Provision.ClaimCert)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the uplink says so, or it is none
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				all = append(all, cert.NotBefore)
			}
		}
	}
	return all
}

// withTime returns conf whose configurations judge certificates by the agent's time.
func withTime(conf func() (*tls.Config, error), now func() time.Time) func() (*tls.Config, error) {
	return func() (*tls.Config, error) {
		c, err := conf()
		if c == nil || err != nil {
			return c, err
		}
		c = c.Clone()
		c.Time = now
		return c, nil
	}
}

// stamp says at a flush what the times are; it also notes that one was tried, for the
// watchdog.
func (a *Agent) stamp() spool.Stamp {
	a.flushed.Store(int64(time.Since(a.started)))
	s := a.clock.Stamp()
	out := spool.Stamp{Timed: true, Offset: s.Offset, Bound: s.Bound, PPM: clock.PPM}
	if s.Known {
		out.Clock, out.Now = telemetry.ClockSynced, s.Now
	}
	return out
}

// now is the time as far as it is known, for what is told to others.
func (a *Agent) now() time.Time { return a.clock.Status().Now }

// A timedQueue is the spool to the uplink: what goes out has the best that is known
// of its time, and waits for that for a while. It holds up what is behind it, so
// that order is kept.
type timedQueue struct {
	spool *spool.Spool
	clock *clock.Clock
	wait  time.Duration
	meter *budget.Meter // nil: batches are sent whatever is left of the budget

	mu      sync.Mutex
	until   time.Time // when waiting ends; zero: there was no connection yet
	waiting bool
}

// Next implements uplink.Queue.
func (q *timedQueue) Next(ctx context.Context, after uint64) (seq uint64, payload []byte, err error) {
	q.mu.Lock()
	if q.until.IsZero() { // the uplink is connected for the first time
		q.until = time.Now().Add(q.wait)
	}
	until := q.until
	q.mu.Unlock()
	if err := affordable(ctx, q.meter); err != nil {
		return 0, nil, err
	}
	seq, payload, err = q.spool.Next(ctx, after)
	if err != nil {
		return seq, payload, err
	}
	limit := time.NewTimer(time.Until(until))
	defer limit.Stop()
	defer q.note(false)
	for over := false; ; {
		changed := q.clock.Changed() // before the look
		out, known := q.clock.Fix(payload)
		if known || over || !time.Now().Before(until) {
			return seq, out, nil
		}
		q.note(true)
		select {
		case <-changed:
		case <-limit.C:
			over = true
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
}

func (q *timedQueue) note(waiting bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = waiting
}

// Ack implements uplink.Queue.
func (q *timedQueue) Ack(seq uint64) {
	q.spool.Ack(seq)
	q.clock.Sent(seq)
}

// state says whether a batch waits for the time, and until when one would.
func (q *timedQueue) state() (waiting bool, until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting, q.until
}

// TimeSettled says that nothing waits for the time: it is known, or was waited for
// in vain.
func (a *Agent) TimeSettled() bool {
	if a.clock.Status().Known {
		return true
	}
	_, until := a.queue.state()
	return !until.IsZero() && !time.Now().Before(until)
}

// TimeStatus is the clock's part. Times are RFC 3339.
type TimeStatus struct {
	Known  bool         `json:"known"`
	Source clock.Source `json:"source,omitempty"` // kernel, bridge
	Now    time.Time    `json:"now"`              // as far as it is known, else a guess
	// Error is how far Now is off at most, in seconds; while it is not known it is so
	// much earlier at most, and nothing says how much later.
	Error  float64 `json:"error_seconds"`
	Offset float64 `json:"offset_seconds"` // Now less the system's clock
	// Waiting are batches that wait for the time to be known, until Until at most.
	Waiting uint64    `json:"batches_waiting"`
	Until   time.Time `json:"waiting_until,omitzero"` // by the system's clock
	Refused string    `json:"refused,omitempty"`      // why the bridge's time is not taken
}

func (a *Agent) timeStatus(batches uint64) (st TimeStatus, kernel telemetry.Clock) {
	c := a.clock.Status()
	st = TimeStatus{Known: c.Known, Source: c.Source, Now: c.Now, Error: c.Error.Seconds(), Offset: c.Offset.Seconds(),
		Refused: c.Refused}
	if waiting, until := a.queue.state(); waiting {
		st.Waiting, st.Until = batches, until
	}
	return st, c.Kernel
}

func (a *Agent) timeMetrics(m *health.Metrics, t *TimeStatus) {
	m.One("tidemill_agent_time_known", "gauge", "1 if the agent knows the time, by the kernel or the bridge.",
		flag(t.Known))
	m.One("tidemill_agent_time_error_seconds", "gauge", "How far off the agent's time is at most, while it is known.",
		t.Error)
	m.One("tidemill_agent_time_offset_seconds", "gauge", "The agent's time less the system's clock.", t.Offset)
	m.One("tidemill_agent_batches_waiting_for_time", "gauge", "Batches that are not sent until the time is known.",
		float64(t.Waiting))
}
