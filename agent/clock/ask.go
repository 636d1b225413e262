package clock

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
)

const (
	// goodEnough is the error, in ms, up to which the bridge is not asked again: half
	// of what a good clock may have, so that it stays one.
	goodEnough = telemetry.PlainBound / 2
	// askAgain is the least time between two questions, and between two looks at
	// whether there is one.
	askAgain = 30 * time.Second
	// lateAnswer is how long an answer may take. Half of it is the error that it adds.
	lateAnswer = 2 * time.Minute
)

// A question is what the bridge was asked last.
type question struct {
	nonce string // "" when it is answered
	at    int64  // mono
	best  int64  // the bound that the last answer had
}

// Ask returns a question for the bridge, nil if there is none, and when to look
// again. first says that it is the first on its connection: a question of before is
// not answered any more. Otherwise one is given up after two minutes.
func (c *Clock) Ask(first bool) (request []byte, next time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
	if first {
		c.asked.nonce = ""
	}
	_, bound, known := c.current()
	enough := max(goodEnough, c.asked.best*3/2)
	if c.r.Synced || known && bound <= enough {
		return nil, max(askAgain, time.Duration(enough-bound)*time.Millisecond*1_000_000/PPM)
	}
	if c.asked.nonce != "" && c.mono-c.asked.at < lateAnswer.Milliseconds() {
		return nil, askAgain
	}
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails
	c.asked.nonce, c.asked.at = hex.EncodeToString(raw[:]), c.mono
	request, err := json.Marshal(telemetry.TimeRequest{Nonce: c.asked.nonce})
	if err != nil { // a text of ours
		return nil, askAgain
	}
	return request, askAgain
}

// Answer takes what the bridge says. It came over the connection on which Ask's
// request was sent, so who sent it is known; the nonce says that it was sent after
// the question. from and until are when the certificates of who sent it are valid: a time
// outside is not taken, since by it no certificate of the bridge would be accepted any more,
// and no other time could be learned. What does not fit is left out.
func (c *Clock) Answer(payload []byte, from, until time.Time) {
	var in telemetry.TimeAnswer
	err := json.Unmarshal(payload, &in)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
	trip := c.mono - c.asked.at
	if err != nil || in.Nonce == "" || in.Nonce != c.asked.nonce || in.Error < 0 || in.Error > farthest ||
		in.Time < 0 || in.Time > farthest || trip > lateAnswer.Milliseconds() {
		return
	}
	c.asked.nonce = ""
	middle := c.asked.at + trip/2
	a := anchor{At: middle, Offset: in.Time - middle, Bound: in.Error + trip/2 + drift(trip) + 2}
	if in.Time+a.Bound < from.UnixMilli() || in.Time-a.Bound > until.UnixMilli() {
		c.refuse(fmt.Sprintf("the bridge says that it is %s, and its certificate is valid from %s to %s",
			show(in.Time), show(from.UnixMilli()), show(until.UnixMilli())))
		return
	}
	if lo := c.h.lower(len(c.h.boots)-1, middle); in.Time+a.Bound < lo {
		c.refuse(fmt.Sprintf("the bridge says that it is %s, and %s was known before",
			show(in.Time), show(lo)))
		return
	}
	c.refused, c.asked.best = "", a.Bound
	if !c.r.Synced {
		c.take(a, Bridge)
	}
}

// show is a time in ms as a message has it.
func show(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }

func (c *Clock) refuse(why string) {
	if c.refused == "" {
		c.o.Log.Error("the bridge's time is not taken", "why", why)
	}
	c.refused = why
}
