package device

import (
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// refusedAgain is how long the log is silent about refusals of the same topics.
const refusedAgain = time.Hour

// refusals gathers what the bridge says that its policy refused. Such readings
// are acknowledged, for sending them again would not help; so somebody has to be
// told.
type refusals struct {
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	total  uint64
	topics []string // of the last notice
	last   time.Time
	logged time.Time
}

// notice takes a message on telemetry.RefusedTopic.
func (r *refusals) notice(payload []byte) {
	var in telemetry.Refused
	if err := json.Unmarshal(payload, &in); err != nil || in.Readings <= 0 || in.Readings > telemetry.MaxReadings ||
		len(in.Topics) > telemetry.MaxRefused {
		r.log.Warn("the bridge's notice of refused readings cannot be read", "err", err)
		return
	}
	topics := make([]string, len(in.Topics))
	for i, t := range in.Topics {
		topics[i] = t.Topic
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(topics, r.topics) || now.Sub(r.logged) >= refusedAgain {
		r.logged = now
		r.log.Error("the bridge's policy refuses readings of this device, they are lost", "readings", in.Readings,
			"topics", topics)
	}
	r.total += uint64(in.Readings)
	r.topics, r.last = topics, now
}

// status returns nil if nothing was refused.
func (r *refusals) status() *RefusedStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.total == 0 {
		return nil
	}
	return &RefusedStatus{Readings: r.total, Topics: r.topics, Last: r.last}
}
