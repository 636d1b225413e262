package gateway

import (
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Retained keeps the last retained message of each topic. Its methods may be
// called from several goroutines; the gateway calls Set for one message at a
// time and never beside Match. Neither should wait for a disk.
type Retained interface {
	// Set keeps m in place of what its topic had; an empty payload forgets the
	// topic [MQTT-3.3.1-10]. It returns false if there is no room.
	Set(m *Message) bool
	// Match calls found for the messages whose topic matches filter, which may
	// have wildcards.
	Match(filter string, found func(*Message))
}

// NewRetained returns a Retained in memory that holds at most so many messages
// and bytes of topic and payload. Beyond that new topics are refused, and a topic
// whose new message does not fit is forgotten, since the old one is no longer
// true.
func NewRetained(messages, bytes int) Retained {
	return &retained{byTopic: make(map[string]*Message), maxMessages: messages, maxBytes: bytes}
}

type retained struct {
	maxMessages, maxBytes int

	mu      sync.RWMutex // guards what follows
	byTopic map[string]*Message
	bytes   int
}

func (r *retained) Set(m *Message) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, n := r.byTopic[m.Topic], len(r.byTopic)+1
	bytes := r.bytes + len(m.Topic) + len(m.Payload)
	if old != nil {
		bytes -= len(old.Topic) + len(old.Payload)
		n--
	}
	if len(m.Payload) == 0 {
		if old != nil {
			delete(r.byTopic, m.Topic)
			r.bytes = bytes - len(m.Topic)
		}
		return true
	}
	if n > r.maxMessages || bytes > r.maxBytes {
		if old != nil {
			delete(r.byTopic, m.Topic)
			r.bytes -= len(old.Topic) + len(old.Payload)
		}
		return false
	}
	r.byTopic[m.Topic], r.bytes = m, bytes
	return true
}

// Match looks a plain filter up and tries every topic for one with wildcards,
// which is why the number of messages is bounded.
func (r *retained) Match(filter string, found func(*Message)) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := time.Now()
	if topic.ValidName(filter) == nil {
		if m := r.byTopic[filter]; m != nil && !m.expired(now) {
			found(m)
		}
		return
	}
	for t, m := range r.byTopic {
		if !m.expired(now) && topic.Match(filter, t) {
			found(m)
		}
	}
}
