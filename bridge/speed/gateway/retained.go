package gateway

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Retained keeps the last retained message of each topic. Its methods may be
// called from several goroutines.
type Retained struct {
	most, each usage // of all, and of one owner

	mu      sync.RWMutex // guards what follows
	byTopic map[string]retainedMessage
	tree    branch // the same messages
	all     usage
	owners  map[string]usage
}

// A retainedMessage is one, and when it came.
type retainedMessage struct {
	m  *message.Message
	at time.Time
}

func newRetained(most, each usage) *Retained {
	return &Retained{byTopic: make(map[string]retainedMessage), owners: make(map[string]usage), most: most, each: each}
}

// retainedSize counts the branches of unusually deep topics, too: they can take
// far more memory than the text.
func retainedSize(m *message.Message) int {
	deep := max(0, min(topic.Levels(m.Topic), deepest+1)-4)
	return len(m.Topic) + len(m.Payload) + len(m.Properties) + 64*deep
}

// set keeps m in place of what its topic had; an empty payload forgets the topic
// [MQTT-3.3.1-10]. It returns false if there is no room. Beyond the limits, those
// of all and of m's owner, new
// topics are refused, and a topic whose new message does not fit is forgotten,
// since the old one is no longer true; but what another owner retained stays,
// whatever somebody without room says there.
func (r *Retained) set(m *message.Message, at time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	room := r.fits(m)
	if old, ok := r.byTopic[m.Topic]; ok && !room && old.m.Owner != m.Owner {
		return false
	}
	r.forget(m.Topic)
	if len(m.Payload) == 0 || !room {
		return room
	}
	r.byTopic[m.Topic] = retainedMessage{m, at}
	r.tree.set(m)
	r.count(m, 1)
	return true
}

// room says whether set would keep m.
func (r *Retained) room(m *message.Message) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.fits(m)
}

// fits is room; mu is held.
func (r *Retained) fits(m *message.Message) bool {
	if len(m.Payload) == 0 {
		return true
	}
	all, own := r.all, r.owners[m.Owner]
	if old, ok := r.byTopic[m.Topic]; ok {
		all.add(old.m, -1)
		if old.m.Owner == m.Owner {
			own.add(old.m, -1)
		}
	}
	all.add(m, 1)
	own.add(m, 1)
	return all.within(r.most) && (m.Owner == "" || own.within(r.each))
}

// add counts m n times.
func (u *usage) add(m *message.Message, n int) {
	u.messages += n
	u.bytes += n * retainedSize(m)
}

// count counts m n times among all and its owner's. mu is held.
func (r *Retained) count(m *message.Message, n int) {
	r.all.add(m, n)
	own := r.owners[m.Owner]
	if own.add(m, n); own.messages == 0 {
		delete(r.owners, m.Owner)
	} else {
		r.owners[m.Owner] = own
	}
}

// forget takes what a topic has away. mu is held.
func (r *Retained) forget(name string) {
	if k, ok := r.byTopic[name]; ok {
		delete(r.byTopic, name)
		r.tree.remove(name, 0)
		r.count(k.m, -1)
	}
}

// match calls found for the messages whose topic matches filter, which may have
// wildcards, until it returns false.
func (r *Retained) match(filter string, found func(*message.Message) bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	now := time.Now()
	if topic.ValidName(filter) == nil {
		if k, ok := r.byTopic[filter]; ok && !k.m.Expired(now) {
			found(k.m)
		}
		return
	}
	r.tree.match(filter, 0, func(m *message.Message) bool {
		return m.Expired(now) || !topic.Match(filter, m.Topic) || found(m)
	})
}

// is says whether m is what its topic has.
func (r *Retained) is(m *message.Message) bool {
	k, _ := r.get(m.Topic)
	return k.m == m
}

// get returns what is kept for a topic, if it has expired too.
func (r *Retained) get(name string) (retainedMessage, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, ok := r.byTopic[name]
	return k, ok
}

// Get returns the message of a topic and when it came.
func (r *Retained) Get(name string) (m *message.Message, at time.Time, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, ok := r.byTopic[name]
	if !ok || k.m.Expired(time.Now()) {
		return nil, time.Time{}, false
	}
	return k.m, k.at, true
}

// List calls f for the messages in the order of their topics, from the first
// topic after the given one, until f returns false.
func (r *Retained) List(after string, f func(m *message.Message, at time.Time) bool) {
	r.mu.RLock()
	var all []retainedMessage
	now := time.Now()
	for t, k := range r.byTopic {
		if t > after && !k.m.Expired(now) {
			all = append(all, k)
		}
	}
	r.mu.RUnlock()
	slices.SortFunc(all, func(a, b retainedMessage) int { return strings.Compare(a.m.Topic, b.m.Topic) })
	for _, k := range all {
		if !f(k.m, k.at) {
			return
		}
	}
}

// Count is how many messages there are, and their bytes.
func (r *Retained) Count() (n, bytes int) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.all.messages, r.all.bytes
}

// sweep forgets what has expired and returns the topics.
func (r *Retained) sweep(now time.Time) (topics []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t, k := range r.byTopic {
		if k.m.Expired(now) {
			r.forget(t)
			topics = append(topics, t)
		}
	}
	return topics
}
