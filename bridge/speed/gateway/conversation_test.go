package gateway

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// A talker is a client that checks everything it is sent against the standard,
// and remembers what it should be sent. It is driven from one goroutine, while
// all others of the bubble wait.
type talker struct {
	t  *testing.T
	cv *conversation
	id string
	v  packet.Version

	// Of the session.
	kept   bool // it outlives the connection
	subs   map[string]packet.Filter
	ids    map[string]uint32
	due    []due           // messages that it should get, or has got and not taken
	qos2in map[uint16]bool // PUBREC sent, PUBREL not yet come

	// Of the connection; w is nil without one.
	w         *ear
	deaf      bool // acknowledges nothing
	most      int  // receive maximum
	maxPacket int
	aliasMax  int
	aliases   map[uint16]string
	flights   map[uint16]due  // PUBLISH came and is not acknowledged
	unsent    []packet.Packet // acknowledgements
	mine      map[uint16]byte // its QoS 1 and 2 messages that are not done
	last      uint16          // packet id
	will      *due
	delay     time.Duration
	at        time.Time // when its delayed will goes out
}

// An ear is what came over one connection.
type ear struct {
	*wire

	mu    sync.Mutex // guards what follows
	in    []packet.Packet
	ended bool
	bad   string // what should not have come
}

// A due is a message that a client is to get.
type due struct {
	text    string
	qos     byte
	large   bool
	expires time.Time
}

type conversation struct {
	t        *testing.T
	f        *fixture
	all      []*talker
	n        int
	retained map[string]due
}

const (
	never     = 1 << 20 // seconds of session expiry
	smallest  = 200     // maximum packet size of the client that has one
	largeSize = 400
)

// text is what of a PUBLISH has to be as it should.
func (d due) String() string { return fmt.Sprintf("%s QoS %d", d.text, d.qos) }

// settle lets the server do what it has to, reads and acknowledges until there
// is nothing left.
func (cv *conversation) settle() {
	for {
		synctest.Wait()
		more := false
		for _, k := range cv.all {
			k.read() // of all before the server goes on
		}
		for _, k := range cv.all {
			acks := k.unsent
			k.unsent = nil
			if len(acks) > 0 && k.w != nil {
				more = true
				k.say(acks...)
			}
		}
		if !more {
			break
		}
	}
	for _, k := range cv.all {
		if k.w != nil && !k.deaf && len(k.flights) == 0 {
			k.check()
		}
	}
}

// check fails unless the client has all that it should: what has expired on the
// way may have come.
func (k *talker) check() {
	now := time.Now()
	for _, d := range k.due {
		if d.expires.IsZero() || d.expires.After(now) {
			k.t.Fatalf("%s did not get %s", k.id, d)
		}
	}
	k.due = nil
}

// say sends packets; a connection that the server ends takes no more.
func (k *talker) say(ps ...packet.Packet) {
	for _, p := range ps {
		k.w.nc.SetWriteDeadline(time.Now().Add(time.Second))
		k.w.nc.Write(p.Append(nil, k.v))
	}
}

// listen reads until the connection ends.
func (w *ear) listen(maxPacket int) {
	goodbye := false
	for {
		first, body, _, err := w.rd.Next()
		w.mu.Lock()
		if err != nil {
			w.ended = true
			w.mu.Unlock()
			return
		}
		p, err := packet.Decode(first, slices.Clone(body), w.v)
		size := len(packet.AppendHeader(nil, first, len(body))) + len(body)
		switch {
		case err != nil:
			w.bad = fmt.Sprintf("%x: %v", body, err)
			w.mu.Unlock()
			continue
		case maxPacket > 0 && size > maxPacket:
			w.bad = fmt.Sprintf("%s of %d bytes, want at most %d", p.Type(), size, maxPacket)
		case goodbye:
			w.bad = p.Type().String() + " after DISCONNECT"
		}
		goodbye = p.Type() == packet.DISCONNECT
		w.in = append(w.in, p)
		w.mu.Unlock()
	}
}

// first takes the first packet that came; nil if there is none.
func (w *ear) first() (p packet.Packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.in) > 0 {
		p, w.in = w.in[0], w.in[1:]
	}
	return p
}

// take returns what came since the last call.
func (w *ear) take() (in []packet.Packet, bad string, ended bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	in, w.in = w.in, nil
	return in, w.bad, w.ended
}

// read looks at what came.
func (k *talker) read() {
	if k.w == nil {
		return
	}
	in, bad, ended := k.w.take()
	if bad != "" || ended {
		k.t.Fatalf("%s got %q, and the end: %v", k.id, bad, ended)
	}
	for _, p := range in {
		switch p := p.(type) {
		case *packet.Publish:
			k.parse(packet.PUBLISH, p.Properties)
			k.publish(p)
		case *packet.Ack:
			k.parse(p.Kind, p.Properties)
			k.ack(p)
		case *packet.Suback:
			k.parse(packet.SUBACK, p.Properties)
		case *packet.Unsuback:
			k.parse(packet.UNSUBACK, p.Properties)
		case *packet.Ping:
		default:
			k.t.Fatalf("%s: %s %+v", k.id, p.Type(), p)
		}
	}
}

func (k *talker) parse(kind packet.Type, b []byte) *packet.Properties {
	p := new(packet.Properties)
	if err := p.Parse(kind, b); err != nil {
		k.t.Fatalf("%s: %s: %v", k.id, kind, err)
	}
	return p
}

func (k *talker) publish(p *packet.Publish) {
	props := k.parse(packet.PUBLISH, p.Properties)
	name := string(p.Topic)
	if props.Has(packet.TopicAlias) {
		alias := uint16(props.Number(packet.TopicAlias, 0))
		if alias == 0 || int(alias) > k.aliasMax {
			k.t.Fatalf("%s: alias %d, want at most %d", k.id, alias, k.aliasMax)
		}
		if name == "" {
			name = k.aliases[alias]
		}
		k.aliases[alias] = name
	}
	if name == "" {
		k.t.Fatalf("%s: PUBLISH without a topic", k.id)
	}
	var ids []int
	packet.Each(p.Properties, func(id packet.Property, value, _ []byte) bool {
		if id == packet.SubscriptionID {
			ids = append(ids, int(value[0]))
		}
		return true
	})
	slices.Sort(ids)
	d := due{text: describe(name, string(p.Payload), p.Retain, ids, props.Forward), qos: p.QoS}
	if p.QoS == 0 {
		k.take(d)
		return
	}
	if old, ok := k.flights[p.ID]; ok {
		k.t.Fatalf("%s: packet id %d of %s is in use for %s", k.id, p.ID, d, old)
	}
	k.flights[p.ID] = d
	if k.most > 0 && len(k.flights)+len(k.qos2in) > k.most {
		k.t.Fatalf("%s: %d messages at a time, want at most %d", k.id, len(k.flights)+len(k.qos2in), k.most)
	}
	if k.deaf {
		return
	}
	kind := packet.PUBACK
	if p.QoS == 2 {
		if p.Dup && k.qos2in[p.ID] {
			k.t.Fatalf("%s: PUBLISH %d after PUBREC", k.id, p.ID)
		}
		kind = packet.PUBREC
		k.qos2in[p.ID] = true
	}
	delete(k.flights, p.ID)
	k.take(d)
	k.unsent = append(k.unsent, ackOf(kind, p.ID))
}

// take notes that the client has a message for good: of several that look the
// same the one that lives longest.
func (k *talker) take(d due) {
	i := -1
	for j, e := range k.due {
		if e.text == d.text && e.qos == d.qos &&
			(i < 0 || !k.due[i].expires.IsZero() && (e.expires.IsZero() || e.expires.After(k.due[i].expires))) {
			i = j
		}
	}
	if i < 0 {
		k.t.Fatalf("%s got %s, and should get %v", k.id, d, k.due)
	}
	k.due = slices.Delete(k.due, i, i+1)
}

func (k *talker) ack(p *packet.Ack) {
	if p.Kind == packet.PUBREL {
		if !k.qos2in[p.ID] {
			k.t.Fatalf("%s: PUBREL %d of nothing", k.id, p.ID)
		}
		delete(k.qos2in, p.ID)
		k.unsent = append(k.unsent, ackOf(packet.PUBCOMP, p.ID))
		return
	}
	state := map[packet.Type]byte{packet.PUBACK: 1, packet.PUBREC: 2, packet.PUBCOMP: 3}[p.Kind]
	if k.mine[p.ID] != state || p.Reason != 0 {
		k.t.Fatalf("%s: %s %d reason %x, in state %d", k.id, p.Kind, p.ID, p.Reason, k.mine[p.ID])
	}
	if p.Kind == packet.PUBREC {
		k.mine[p.ID] = 3
		k.unsent = append(k.unsent, ackOf(packet.PUBREL, p.ID))
		return
	}
	delete(k.mine, p.ID)
}

func describe(name, payload string, retain bool, ids []int, forward []byte) string {
	return fmt.Sprintf("%s %s retain=%v %v %q", name, payload[:min(len(payload), 12)], retain, ids, forward)
}

// deliver adds a message to what everybody should get.
func (cv *conversation) deliver(from *talker, name, payload string, qos byte, retain bool, forward []byte,
	expires time.Time) {
	d := due{qos: qos, large: len(payload) >= largeSize, expires: expires}
	if retain {
		if payload == "" {
			delete(cv.retained, name)
		} else {
			d.text = payload + "|" + string(forward)
			cv.retained[name] = d
		}
	}
	for _, k := range cv.all {
		var ids []int
		granted, flag := -1, false
		for f, o := range k.subs {
			if !topic.Match(f, name) || k.v == packet.V5 && o.Options&4 != 0 && from == k {
				continue
			}
			granted = max(granted, int(min(o.QoS(), qos)))
			flag = flag || retain && k.v == packet.V5 && o.Options&8 != 0
			if id := k.ids[f]; id > 0 {
				ids = append(ids, int(id))
			}
		}
		slices.Sort(ids)
		if granted < 0 {
			continue
		}
		k.owe(due{describe(name, payload, flag, ids, k.sees(forward)), byte(granted), d.large, expires})
	}
}

func (k *talker) sees(forward []byte) []byte {
	if k.v == packet.V311 {
		return nil
	}
	return forward
}

// owe adds a message unless it does not fit or is not kept.
func (k *talker) owe(d due) {
	if d.large && k.id == "small" || d.qos == 0 && k.w == nil {
		return
	}
	k.due = append(k.due, d)
}

// forget is the end of the session.
func (k *talker) forget() {
	k.subs, k.ids, k.due = make(map[string]packet.Filter), make(map[string]uint32), nil
	k.qos2in, k.mine = make(map[uint16]bool), make(map[uint16]byte)
	k.kept = false
}

// leave is the end of the connection; said says that the client wants no will.
func (k *talker) leave(said bool) {
	k.w.nc.Close()
	k.w = nil
	for i := range k.due { // QoS 0 is not kept; the others come again
		if k.due[i].qos == 0 {
			k.t.Fatalf("%s did not get %s", k.id, k.due[i])
		}
	}
	will := k.will
	k.will = nil
	if said {
		will = nil
	}
	switch {
	case will == nil:
	case k.delay > 0 && k.kept:
		k.will, k.at = will, time.Now().Add(k.delay)
	default:
		k.cv.deliver(k, "w/"+k.id, will.text, 1, false, nil, time.Time{})
	}
	if !k.kept {
		k.forget()
	}
}

// connect opens a connection, in place of one that there may be.
func (k *talker) connect(a, b byte) {
	cv := k.cv
	p := &packet.Connect{Version: k.v, ClientID: k.id, Clean: a&1 != 0}
	keep := a&2 != 0
	if k.v == packet.V311 {
		keep = !p.Clean
	}
	aliasMax, most, maxPacket := 0, 0, 0
	if k.v == packet.V5 {
		if keep {
			p.Properties = number(packet.SessionExpiry, never)
		}
		if aliasMax = int(b & 3); aliasMax > 0 {
			p.Properties = packet.AppendNumber(p.Properties, packet.TopicAliasMaximum, uint32(aliasMax))
		}
		if most = int(b >> 2 & 3); most > 0 {
			p.Properties = packet.AppendNumber(p.Properties, packet.ReceiveMaximum, uint32(most))
		}
		if k.id == "small" {
			maxPacket = smallest
			p.Properties = packet.AppendNumber(p.Properties, packet.MaximumPacketSize, smallest)
		}
	}
	var will *due
	delay := time.Duration(0)
	if a&4 != 0 {
		cv.n++
		p.HasWill, p.WillTopic, p.WillQoS, p.WillPayload = true, "w/"+k.id, 1, fmt.Appendf(nil, "%d", cv.n)
		will = &due{text: string(p.WillPayload)}
		if k.v == packet.V5 && a&8 != 0 {
			delay = 4 * time.Second
			p.WillProperties = number(packet.WillDelay, 4)
		}
	}
	if k.w != nil {
		if !k.kept || p.Clean { // the session ends: what is on the way goes with it
			k.due = nil
		}
		k.leaveTaken(p.Clean)
	} else if k.will != nil { // delayed
		if will := k.will; p.Clean {
			k.will = nil
			cv.deliver(k, "w/"+k.id, will.text, 1, false, nil, time.Time{})
		}
		k.will = nil
	}
	present := k.kept && !p.Clean
	if !present {
		k.forget()
	}
	k.kept, k.will, k.delay = keep, will, delay
	k.deaf, k.unsent = a&16 != 0, nil
	k.most, k.maxPacket, k.aliasMax = most, maxPacket, aliasMax
	k.aliases, k.flights = make(map[uint16]string), make(map[uint16]due)
	k.w = &ear{wire: cv.f.dial(k.t)}
	k.w.v = k.v
	go k.w.listen(maxPacket)
	k.say(p)
	synctest.Wait()
	first := k.w.first()
	ack, ok := first.(*packet.Connack)
	if !ok || ack.Code != 0 || ack.SessionPresent != present {
		k.t.Fatalf("%s: %+v, want CONNACK with session present %v", k.id, first, present)
	}
	// What was not done is sent again [MQTT-4.4.0-1].
	for id, state := range k.mine {
		if state == 3 {
			k.say(ackOf(packet.PUBREL, id))
		}
	}
}

// leaveTaken is leave for a connection that the next one takes over.
func (k *talker) leaveTaken(clean bool) {
	k.w = nil // what it is sent from now on is not looked at
	k.due = slices.DeleteFunc(k.due, func(d due) bool { return d.qos == 0 })
	will, delay := k.will, k.delay
	k.will = nil
	if will != nil && (delay == 0 || !k.kept || clean) {
		k.cv.deliver(k, "w/"+k.id, will.text, 1, false, nil, time.Time{})
	}
	if !k.kept {
		k.forget()
	}
}

var (
	conversationTopics  = []string{"a", "a/b", "a/c", "b", "w/x"}
	conversationFilters = []string{"a", "a/b", "a/#", "+", "#", "+/b", "w/#", "b"}
)

// step does one thing that four bytes say.
func (cv *conversation) step(op [4]byte) {
	k := cv.all[int(op[0]&0x0f)%len(cv.all)]
	kind := int(op[0]>>4) % 12
	if k.w == nil && kind < 10 {
		kind = 11
	}
	switch kind {
	case 0, 1, 2, 3, 4: // publish
		cv.n++
		name, qos, retain := conversationTopics[int(op[1])%len(conversationTopics)], op[2]%3, op[2]&0x10 != 0
		payload := fmt.Sprintf("%d.", cv.n)
		p := &packet.Publish{Topic: []byte(name), QoS: qos, Retain: retain}
		if op[2]&0x20 != 0 {
			payload += strings.Repeat("x", largeSize)
		} else if op[2]&0xc0 == 0xc0 {
			payload = ""
		}
		p.Payload = []byte(payload)
		var forward []byte
		var expires time.Time
		aliased := false
		if k.v == packet.V5 {
			if op[3]&1 != 0 {
				forward = join(number(packet.PayloadFormat, 1), packet.AppendUser(nil, "k", "v"),
					text(packet.ResponseTopic, "r"))
			}
			p.Properties = slices.Clone(forward)
			if op[3]&2 != 0 {
				expires = time.Now().Add(5 * time.Second)
				p.Properties = packet.AppendNumber(p.Properties, packet.MessageExpiry, 5)
			}
			if op[3]&4 != 0 {
				p.Properties = packet.AppendNumber(p.Properties, packet.TopicAlias,
					uint32(op[1])%uint32(len(conversationTopics))+1)
				aliased = op[3]&8 != 0
			}
		}
		if qos > 0 {
			for k.last++; k.last == 0 || k.mine[k.last] != 0; k.last++ {
			}
			p.ID = k.last
			k.mine[p.ID] = qos
		}
		cv.deliver(k, name, payload, qos, retain, forward, expires)
		k.say(p)
		if aliased { // again, by the alias alone
			cv.n++
			payload := fmt.Sprintf("%d.", cv.n)
			cv.deliver(k, name, payload, 0, false, nil, time.Time{})
			k.say(&packet.Publish{Payload: []byte(payload),
				Properties: number(packet.TopicAlias, uint32(op[1])%uint32(len(conversationTopics))+1)})
		}
	case 5, 6: // subscribe
		f := packet.Filter{Filter: conversationFilters[int(op[1])%len(conversationFilters)], Options: op[2] % 3}
		p := &packet.Subscribe{ID: 1000}
		id := uint32(0)
		if k.v == packet.V5 {
			f.Options |= op[2]&(4|8) | op[2]>>4%3<<4
			if id = uint32(op[3] % 100); id > 0 {
				p.Properties = number(packet.SubscriptionID, id)
			}
		}
		p.Filters = []packet.Filter{f}
		_, known := k.subs[f.Filter]
		k.subs[f.Filter], k.ids[f.Filter] = f, id
		if h := f.Options >> 4; h == 0 || h == 1 && !known {
			for name, d := range cv.retained {
				if !topic.Match(f.Filter, name) || !d.expires.IsZero() && !d.expires.After(time.Now()) {
					continue
				}
				payload, forward, _ := strings.Cut(d.text, "|")
				var ids []int
				if id > 0 {
					ids = []int{int(id)}
				}
				k.owe(due{describe(name, payload, true, ids, k.sees([]byte(forward))), min(d.qos, f.QoS()), d.large,
					d.expires})
			}
		}
		k.say(p)
	case 7: // unsubscribe
		f := conversationFilters[int(op[1])%len(conversationFilters)]
		delete(k.subs, f)
		delete(k.ids, f)
		k.say(&packet.Unsubscribe{ID: 1000, Filters: []string{f}})
	case 8: // goodbye
		p := disconnect(0)
		if k.v == packet.V5 && op[1]&1 != 0 {
			p.Reason = 4
		}
		k.say(p)
		synctest.Wait()
		k.leave(p.Reason == 0)
	case 9: // lost
		k.leave(false)
	case 10: // time passes
		cv.settle()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		for _, k := range cv.all {
			if k.w == nil && k.will != nil && !k.at.After(time.Now()) {
				will := k.will
				k.will = nil
				cv.deliver(k, "w/"+k.id, will.text, 1, false, nil, time.Time{})
			}
		}
	case 11:
		k.connect(op[1], op[2])
	}
	cv.settle()
}

func converse(t *testing.T, in []byte) {
	synctest.Test(t, func(t *testing.T) {
		cv := &conversation{t: t, f: startPipes(t, Config{}, nil), retained: make(map[string]due)}
		for i, id := range []string{"five", "small", "three"} {
			k := &talker{t: t, cv: cv, id: id, v: packet.V5}
			if i == 2 {
				k.v = packet.V311
			}
			k.forget()
			cv.all = append(cv.all, k)
		}
		for len(in) >= 4 {
			cv.step([4]byte(in))
			in = in[4:]
		}
		for _, k := range cv.all { // in the end everybody listens and has all
			k.connect(2, 0)
			cv.settle()
		}
		for _, k := range cv.all {
			k.say(disconnect(0))
			synctest.Wait()
			k.w.nc.Close()
		}
		synctest.Wait()
		if st := cv.f.Stats(); st.Panics != 0 || st.Clients != 0 || st.QueueBytes != 0 {
			t.Errorf("%+v", st)
		}
		cv.f.stop()
	})
}

// Three clients, of both versions, talk at random: everything that each is sent
// is well formed and allowed, and is what the subscriptions say.
func TestConversations(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 200 {
		in := make([]byte, 4*(1+r.IntN(120)))
		for j := range in {
			in[j] = byte(r.Uint32())
		}
		if !t.Run(fmt.Sprintf("seed=%d/%d", seed, i), func(t *testing.T) { converse(t, in) }) {
			t.Logf("%x", in)
			return
		}
	}
}

func FuzzConversations(f *testing.F) {
	f.Add([]byte{0xb0, 2, 0, 0, 0x50, 4, 2, 0, 0x00, 1, 1, 3})
	f.Fuzz(func(t *testing.T, in []byte) { converse(t, in[:min(len(in), 400)]) })
}
