package gateway

import (
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Answer sends m to one connection and to nobody else, if its session has a
// subscription for m's topic, not a shared one, and may receive from it. It
// returns whether m was sent.
//
// It goes out with quality of service 0, whatever was granted, so that it is
// neither stored nor sent to a later connection of the same client id, which may
// be another device that shares a claim certificate with this one. A client that
// loses its connection meanwhile asks again.
func (s *Subscribers) Answer(c *Client, m *message.Message) bool {
	to := c.s
	if to == nil || !to.mayReceive(m.Topic, time.Now()) {
		return false
	}
	o := outbound{m: m}
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.c != c || !to.wants(m.Topic, &o) || !to.admits(&o) {
		return false
	}
	to.put(o)
	return true
}

// wants says whether a subscription matches t, and adds the identifiers of those
// that do to o. s.mu is held.
func (s *session) wants(t string, o *outbound) (any bool) {
	match := topic.Match
	if s.srv.conf.StrictHash {
		match = topic.MatchRule
	}
	for filter, sub := range s.subs {
		if name, _, _ := topic.CutShare(filter); name != "" || !match(filter, t) {
			continue
		}
		any = true
		if id := options(sub.opts.Load()).id(); id != 0 { // [MQTT-3.3.4-3, -4]
			o.ids = append(o.ids, id)
		}
	}
	return any
}
