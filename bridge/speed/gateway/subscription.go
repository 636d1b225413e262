package gateway

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/sessions"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// A subscription is one filter of one session, or of a group of sessions that
// share it, as it stands in the tree.
type subscription struct {
	s     *session // nil: of group
	group *group
	opts  atomic.Uint64
}

// options are those of a filter in SUBSCRIBE: its byte on the wire, with the
// quality of service that was granted, and above it the subscription identifier.
type options uint64

func newOptions(b byte, qos byte, id uint32) options {
	return options(b&^3|qos) | options(id)<<8
}

func (o options) qos() byte               { return byte(o & 3) }
func (o options) noLocal() bool           { return o&4 != 0 }
func (o options) retainAsPublished() bool { return o&8 != 0 }
func (o options) retainHandling() byte    { return byte(o >> 4 & 3) }
func (o options) id() uint32              { return uint32(o >> 8) }

// A group are the sessions that share a filter: each message goes to one.
type group struct {
	filter string // whole, with $share/{name}/
	sub    *subscription

	mu      sync.Mutex // guards what follows
	members []*session
	opts    []options // of each member
	next    int
}

// maySubscribe says why the client may not subscribe to a filter, of which filter
// is the part that names match.
func (c *Client) maySubscribe(whole, filter string) error {
	if err := topic.CheckSubscribe(filter); err != nil {
		return err
	}
	if !unasked(whole) && !c.session.MaySubscribe(whole) {
		return fmt.Errorf("%w: no policy lets %s subscribe to %.256q", ErrNotAuthorized, c.Principal(), whole)
	}
	return nil
}

// subscribe answers a SUBSCRIBE. It returns why the connection ends, or "".
func (c *Client) subscribe(p *packet.Subscribe) string {
	s := c.s
	props, err := c.properties(packet.SUBSCRIBE, p.Properties)
	if err != nil {
		return c.refused(codeOf(err), err)
	}
	id := props.Number(packet.SubscriptionID, 0)
	if id != 0 && c.srv.conf.NoSubscriptionIDs {
		return c.refused(codeNoIdentifiers,
			fmt.Errorf("%w: a subscription identifier, of which CONNACK says that there are none", packet.ErrProtocol))
	}
	codes := make([]byte, len(p.Filters))
	for i := range p.Filters {
		if code, err := c.grant(p.Filters, i, codes); err != nil {
			return c.refused(code, err)
		}
	}
	// Nobody who publishes a retained message waits for the commit below: one
	// that comes meanwhile is delivered by the new subscription, and takes the
	// place of the one that was found.
	c.srv.retainMu.RLock()
	unlock := sync.OnceFunc(c.srv.retainMu.RUnlock)
	defer unlock()
	known := make([]bool, len(codes))
	for i, f := range p.Filters {
		if codes[i] >= packet.SubFailure {
			continue
		}
		var room bool
		if known[i], room = c.srv.subscribe(s, f.Filter, newOptions(f.Options, codes[i], id)); !room {
			codes[i] = c.notGranted(f, codeQuota, over("MaxSubscriptions", c.srv.conf.MaxSubscriptions,
				"another subscription of the session"))
		}
	}
	b := c.changed() // what has to be durable before SUBACK
	retained, took := c.retainedFor(p.Filters, codes, known, id, b)
	unlock()
	if reason := c.save(b); reason != "" {
		return reason
	}
	s.mu.Lock()
	c.appendPacket(&packet.Suback{ID: p.ID, Codes: codes})
	s.mu.Unlock()
	c.sendRetained(retained)
	c.subscribed(p.Filters, codes)
	return c.rest(took)
}

// grant sets the code of one filter of a SUBSCRIBE: the QoS that the client has
// or why it has none. An error, with its reason code, ends the connection.
func (c *Client) grant(filters []packet.Filter, i int, codes []byte) (byte, error) {
	conf, f := &c.srv.conf, filters[i]
	name, filter, ok := topic.CutShare(f.Filter)
	switch {
	case name != "" && newOptions(f.Options, 0, 0).noLocal(): // [MQTT-3.8.3-4]
		return codeProtocol, fmt.Errorf("%w: a shared subscription with No Local", packet.ErrProtocol)
	case !ok || topic.ValidFilter(filter) != nil: // [MQTT-4.7.3-1], [MQTT-4.7.1-2], [MQTT-4.8.2-1, -2]
		err := fmt.Errorf("%w: %.64q is no filter", packet.ErrMalformed, f.Filter)
		if c.version == packet.V311 {
			return codeFilter, err
		}
		codes[i] = c.notGranted(f, codeFilter, err)
		return 0, nil
	case conf.MaxFilters > 0 && i >= conf.MaxFilters:
		codes[i] = c.notGranted(f, codeQuota,
			over("MaxFilters", conf.MaxFilters, "a SUBSCRIBE with %d filters", len(filters)))
		return 0, nil
	}
	if err := conf.withinLimits(f.Filter); err != nil {
		codes[i] = c.notGranted(f, codeQuota, err)
	} else if err := c.maySubscribe(f.Filter, filter); err != nil {
		codes[i] = c.notGranted(f, codeNotAuthorized, err)
	} else {
		codes[i] = min(f.QoS(), byte(conf.MaxQoS))
	}
	return 0, nil
}

// notGranted counts a filter that the client may not have, and returns its code
// in SUBACK: version 3.1.1 has one for all reasons.
func (c *Client) notGranted(f packet.Filter, code byte, why error) byte {
	if of, _ := topic.Lookup(f.Filter); !of.Probed {
		c.denied(why)
	}
	if c.version == packet.V5 {
		return code
	}
	return packet.SubFailure
}

// subscribed tells of the filters that a SUBSCRIBE granted.
func (c *Client) subscribed(filters []packet.Filter, codes []byte) {
	if c.srv.hooks.Events == nil {
		return
	}
	var granted []string
	for i, f := range filters {
		if codes[i] < packet.SubFailure {
			granted = append(granted, f.Filter)
		}
	}
	if granted != nil {
		c.event(Event{Kind: Subscribed, Filters: granted})
	}
}

// retainedFor finds and stages the retained messages for a SUBSCRIBE; known are
// the subscriptions that there were before. It stops when the client has no room
// for more: a short packet may ask for every message again and again.
func (c *Client) retainedFor(filters []packet.Filter, codes []byte, known []bool, id uint32,
	b *streams.Batch) (all []outbound, took time.Duration) {
	conf, s := &c.srv.conf, c.s
	var ids []uint32
	if id != 0 {
		ids = []uint32{id}
	}
	now, full := time.Now(), false
	loose := 0 // bytes of QoS 0, which are counted nowhere before they are sent
	for i, f := range filters {
		o := newOptions(f.Options, codes[i], id)
		if full {
			break
		}
		if group, _, _ := topic.CutShare(f.Filter); codes[i] >= packet.SubFailure || group != "" ||
			o.retainHandling() == 2 || o.retainHandling() == 1 && known[i] ||
			conf.ExactRetained && topic.ValidName(f.Filter) != nil {
			continue
		}
		c.srv.retained.match(f.Filter, func(m *message.Message) bool {
			if conf.StrictHash && !topic.MatchRule(f.Filter, m.Topic) {
				return true
			}
			if !s.mayReceive(m.Topic, now) {
				c.srv.count.droppedPolicy.Add(1)
				return true
			}
			o := outbound{m: m, qos: min(codes[i], m.QoS), retain: true, ids: ids, first: true}
			switch {
			case o.qos == 0 && loose > 0 && loose+o.size() > conf.OutBytes/2:
				c.srv.count.droppedQoS0.Add(1)
				full = true
			case s.stage(&o, b):
				all = append(all, o)
				if o.qos == 0 {
					loose += o.size()
				}
			default:
				full = c.fits(&o)
			}
			return !full
		})
	}
	return all, time.Since(now)
}

// sendRetained sends what was found for a SUBSCRIBE, but for what is not the
// last of its topic any more.
func (c *Client) sendRetained(all []outbound) {
	c.srv.retainMu.RLock()
	defer c.srv.retainMu.RUnlock()
	for _, o := range all {
		if c.srv.retained.is(o.m) {
			c.s.sendStaged(o)
		} else {
			c.s.withdraw(o)
		}
	}
}

// rest keeps a client that made much work from being read for as long as that
// took.
func (c *Client) rest(took time.Duration) string {
	if took < 10*time.Millisecond {
		return ""
	}
	c.flush()
	pause := time.NewTimer(took)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-c.gone:
		return ReasonShutdown // or what kick said
	}
	c.lastPacket = time.Now()
	return ""
}

// changed returns a batch with the session as it is now, nil if it is not
// durable.
func (c *Client) changed() *streams.Batch {
	if !c.s.durable.Load() {
		return nil
	}
	b := c.srv.batch()
	c.srv.store.Session(b, c.s.id)
	return b
}

// save makes b durable, if there is one.
func (c *Client) save(b *streams.Batch) (reason string) {
	if b == nil {
		return ""
	}
	if err := c.srv.store.CommitWait(context.Background(), b, nil); err != nil {
		c.debug("session was not stored", err)
		return ReasonServer
	}
	return ""
}

func (c *Client) unsubscribe(p *packet.Unsubscribe) string {
	if _, err := c.properties(packet.UNSUBSCRIBE, p.Properties); err != nil {
		return c.refused(codeOf(err), err)
	}
	s, codes := c.s, make([]byte, len(p.Filters))
	for i, f := range p.Filters {
		if !c.srv.unsubscribe(s, f) {
			codes[i] = codeNoSubscription
		}
	}
	if reason := c.save(c.changed()); reason != "" {
		return reason
	}
	s.mu.Lock()
	c.appendPacket(&packet.Unsuback{ID: p.ID, Codes: codes})
	s.mu.Unlock()
	c.event(Event{Kind: Unsubscribed, Filters: p.Filters})
	return ""
}

// subscribe gives s a subscription, or its new options if it is known. It
// returns room false when s has too many.
func (srv *Subscribers) subscribe(s *session, filter string, o options) (known, room bool) {
	s.mu.Lock()
	sub := s.subs[filter]
	known = sub != nil
	if !known && len(s.subs) >= srv.conf.MaxSubscriptions {
		s.mu.Unlock()
		return false, false
	}
	if !known {
		sub = &subscription{s: s}
		s.subs[filter] = sub
	}
	sub.opts.Store(uint64(o))
	s.mu.Unlock()
	name, inner, _ := topic.CutShare(filter)
	switch {
	case name != "":
		srv.join(s, filter, inner, o)
	case !known: // otherwise messages flow on [MQTT-3.8.4-3]
		srv.subs.Add(filter, sub)
	}
	return known, true
}

// unsubscribe says whether there was such a subscription.
func (srv *Subscribers) unsubscribe(s *session, filter string) bool {
	s.mu.Lock()
	sub := s.subs[filter]
	delete(s.subs, filter)
	s.mu.Unlock()
	if sub == nil {
		return false
	}
	srv.drop(s, filter, sub)
	return true
}

// drop takes a subscription out of the tree or its group.
func (srv *Subscribers) drop(s *session, filter string, sub *subscription) {
	if name, inner, _ := topic.CutShare(filter); name != "" {
		srv.leave(s, filter, inner)
		return
	}
	srv.subs.Remove(filter, func(v *subscription) bool { return v == sub })
}

// join makes s a member of a group, which is made when it is the first.
func (srv *Subscribers) join(s *session, filter, inner string, o options) {
	srv.groupMu.Lock()
	defer srv.groupMu.Unlock()
	g := srv.groups[filter]
	if g == nil {
		g = &group{filter: filter}
		g.sub = &subscription{group: g}
		srv.groups[filter] = g
		srv.subs.Add(inner, g.sub)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.members, s); i >= 0 {
		g.opts[i] = o
		return
	}
	g.members, g.opts = append(g.members, s), append(g.opts, o)
}

// leave takes s out of a group, which goes with its last member.
func (srv *Subscribers) leave(s *session, filter, inner string) {
	srv.groupMu.Lock()
	defer srv.groupMu.Unlock()
	g := srv.groups[filter]
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.members, s); i >= 0 {
		g.members, g.opts = slices.Delete(g.members, i, i+1), slices.Delete(g.opts, i, i+1)
	}
	if len(g.members) == 0 {
		delete(srv.groups, filter)
		srv.subs.Remove(inner, func(v *subscription) bool { return v == g.sub })
	}
}

// pick returns the member that a message goes to: the next of those that are
// connected and have room, else the next that is away and kept; nil if nobody
// may have it.
func (g *group) pick(m *message.Message, now time.Time) (*session, options) {
	g.mu.Lock()
	members, opts, from := slices.Clone(g.members), slices.Clone(g.opts), g.next
	g.next++
	g.mu.Unlock()
	second := -1
	for i := range members {
		i = (from + i) % len(members)
		s := members[i]
		there, room, over := s.takes(outbound{m: m}.size())
		switch {
		case over, !there && (second >= 0 || min(opts[i].qos(), m.QoS) == 0), !s.mayReceive(m.Topic, now):
		case there && room:
			return s, opts[i]
		default:
			second = i
		}
	}
	if second < 0 {
		return nil, 0
	}
	return members[second], opts[second]
}

// A fanout is the list of sessions that one message goes to; it is reused.
type fanout struct {
	to     []target
	groups []*group
	add    func(*subscription) // appends to to and groups
}

type target struct {
	s *session
	o options
}

func newFanout() *fanout {
	f := new(fanout)
	f.add = func(sub *subscription) {
		if sub.group != nil {
			f.groups = append(f.groups, sub.group)
			return
		}
		f.to = append(f.to, target{sub.s, options(sub.opts.Load())})
	}
	return f
}

func (f *fanout) reset() {
	clear(f.to)
	clear(f.groups)
	f.to, f.groups = f.to[:0], f.groups[:0]
}

// fan sends m to the targets: to a client with several matching subscriptions
// once, with the highest quality of service that they grant. What is to be
// durable first goes into b, and is returned, or everything if all is put off.
func (s *Subscribers) fan(m *message.Message, f *fanout, b *streams.Batch, all bool) (waiting staged) {
	send := func(to *session, o outbound) {
		// QoS 2 goes out when it is durable: its publisher sends it again after
		// a crash, as a new message.
		if !all && (b == nil || m.QoS < 2 && (o.qos == 0 || !to.durable.Load())) {
			to.send(o)
		} else if to.stage(&o, b) {
			waiting = append(waiting, delivery{to, o})
		}
	}
	if len(f.to) > 1 {
		slices.SortFunc(f.to, func(a, b target) int {
			return cmp.Or(cmp.Compare(a.s.serial, b.s.serial), cmp.Compare(b.o.qos(), a.o.qos()))
		})
	}
	var now time.Time
	if s.conf.PermissionCache > 0 {
		now = time.Now()
	}
	for i := 0; i < len(f.to); {
		t := f.to[i]
		o, any := outbound{m: m}, false
		for ; i < len(f.to) && f.to[i].s == t.s; i++ {
			opts := f.to[i].o
			// [MQTT-3.8.3-3]; a rule is another publisher
			if opts.noLocal() && m.ClientID == t.s.id && m.ClientID != "" && m.Hops == 0 {
				continue
			}
			any = true
			o.qos = max(o.qos, min(opts.qos(), m.QoS))
			o.retain = o.retain || m.Retain && opts.retainAsPublished() // [MQTT-3.3.1-13]
			if id := opts.id(); id != 0 {                               // [MQTT-3.3.4-3, -4]
				o.ids = append(o.ids, id)
			}
		}
		if !any {
			continue
		}
		if !t.s.mayReceive(m.Topic, now) {
			s.count.droppedPolicy.Add(1)
			continue
		}
		send(t.s, o)
	}
	for _, g := range f.groups {
		if to, opts := g.pick(m, now); to != nil {
			send(to, g.outbound(m, opts))
		} else {
			s.count.droppedShared.Add(1)
		}
	}
	return waiting
}

// staged is what waits for its batch.
type staged []delivery

func (all staged) send() {
	for _, d := range all {
		d.s.sendStaged(d.o)
	}
}

// giveBack ends what its batch did not make durable, but for what is in the batch:
// if the store failed, that may be there at the next start.
func (all staged) giveBack() {
	for _, d := range all {
		d.s.release(&d.o)
	}
}

// A delivery is an outbound that waits for its batch.
type delivery struct {
	s *session
	o outbound
}

// outbound is m for a member with these options.
func (g *group) outbound(m *message.Message, opts options) outbound {
	o := outbound{m: m, qos: min(opts.qos(), m.QoS), retain: m.Retain && opts.retainAsPublished(), group: g.filter}
	if id := opts.id(); id != 0 {
		o.ids = []uint32{id}
	}
	return o
}

// another stages for another member what one of its group took and did not
// acknowledge before its session ended (MQTT 5, 4.8.2). ok is false if nobody
// takes it.
func (srv *Subscribers) another(o *outbound, b sessions.Changes) (d delivery, ok bool) {
	if o.group == "" {
		return d, false
	}
	srv.groupMu.Lock()
	g := srv.groups[o.group]
	srv.groupMu.Unlock()
	if g != nil {
		var opts options
		if d.s, opts = g.pick(o.m, time.Now()); d.s != nil {
			d.o = g.outbound(o.m, opts)
			ok = d.s.stage(&d.o, b)
		}
	}
	if !ok {
		srv.count.droppedShared.Add(1)
	}
	return d, ok
}

// handOver gives o, which is of a session that ended meanwhile, to another member
// of its group. It goes out when it is durable; until then o has to be.
func (srv *Subscribers) handOver(o *outbound) {
	var to sessions.Changes
	if srv.store != nil {
		to = srv.store
	}
	switch d, ok := srv.another(o, to); {
	case !ok:
	case srv.store == nil:
		d.s.sendStaged(d.o)
	default:
		srv.store.After(func() { d.s.sendStaged(d.o) })
	}
}
