package device

import (
	"sync"

	"github.com/tidemill/tidemill/shadow"
)

// What waits for Run is bounded in messages and bytes: documents have 8 KB (AWS
// IoT Device Shadow, service quotas), messages up to some times of it with
// their metadata. What does not fit is dropped and the document got anew, which
// says all the dropped messages said.
const (
	maxInbox      = 256
	maxInboxBytes = 512 << 10
)

// An inbox is what callers leave for Run: messages and the connection.
type inbox struct {
	mu       sync.Mutex
	messages []message
	bytes    int
	lost     bool    // some were dropped
	pub      Publish // nil: not connected
	session  uint64  // counts Connected and Disconnected
}

type message struct {
	topic   shadow.Topic
	payload []byte
}

// Topics returns the topics to subscribe to, before Connected is called.
func (d *Device) Topics() []string {
	var out []string
	for _, t := range []struct {
		op   shadow.Op
		kind shadow.Kind
	}{
		{shadow.OpUpdate, shadow.Accepted}, {shadow.OpUpdate, shadow.Rejected}, {shadow.OpUpdate, shadow.Differences},
		{shadow.OpGet, shadow.Accepted}, {shadow.OpGet, shadow.Rejected}, {shadow.OpDelete, shadow.Accepted},
	} {
		out = append(out, d.topic(t.op, t.kind).String())
	}
	return out
}

func (d *Device) topic(op shadow.Op, kind shadow.Kind) shadow.Topic {
	return shadow.Topic{Thing: d.thing, Name: d.name, Op: op, Kind: kind}
}

// Connected starts a reconciliation over pub. Call it on each connection
// after the subscriptions to Topics are acknowledged.
func (d *Device) Connected(pub Publish) { d.connect(pub) }

// Disconnected stops sending until Connected is called again.
func (d *Device) Disconnected() { d.connect(nil) }

func (d *Device) connect(pub Publish) {
	d.box.mu.Lock()
	d.box.pub = pub
	d.box.session++
	d.box.mu.Unlock()
	d.poke()
}

// Receive takes a message; topics of no concern are ignored. It never blocks
// and keeps no reference to payload.
func (d *Device) Receive(topic string, payload []byte) {
	t, ok := shadow.ParseTopic(topic)
	if !ok || t.Thing != d.thing || t.Name != d.name || t.Kind == shadow.Request || t.Kind == shadow.Documents {
		return
	}
	d.box.mu.Lock()
	if len(d.box.messages) < maxInbox && d.box.bytes+len(payload) <= maxInboxBytes {
		d.box.bytes += len(payload)
		d.box.messages = append(d.box.messages, message{t, append([]byte(nil), payload...)})
	} else {
		d.box.lost = true
	}
	d.box.mu.Unlock()
	d.poke()
}
