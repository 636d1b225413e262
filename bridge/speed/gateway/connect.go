package gateway

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

const readBytes = 1 << 10 // of a connection's read buffer at first

// serve is the life of a connection.
func (c *Client) serve(ctx context.Context) {
	defer c.leave()
	defer context.AfterFunc(ctx, c.stop)()
	if err := c.connect(ctx); err != nil {
		c.debug("connection refused", err)
		c.denied(err)
		if c.s != nil { // a panic after the client was admitted
			c.event(Event{Kind: Connected})
			c.end(ReasonServer)
		}
		c.nc.Close()
		return
	}
	c.event(Event{Kind: Connected})
	if l, ok := c.session.(lasting); ok {
		defer l.Begin(func(reason string) { c.kick(reason) })()
	}
	reason := c.run()
	if kicked := c.reason.Load(); kicked != nil && reason != ReasonClient {
		reason = *kicked // but who said goodbye has no will published
	}
	c.end(reason)
}

// leave is the last act of a connection: what waits for its end may go on, once
// what it waited for itself has ended.
func (c *Client) leave() {
	c.srv.count.add(&c.tally)
	if c.before != nil {
		<-c.before
	}
	s := c.srv
	s.mu.Lock()
	delete(s.conns, c)
	c.slot.Release()
	if s.clients[c.id] == c {
		delete(s.clients, c.id)
	}
	s.mu.Unlock()
	close(c.done)
}

// A refusal is answered with a CONNACK.
type refusal struct {
	code  byte // return code, or of version 5 alone a reason code
	cause error
}

func (r *refusal) Unwrap() error { return r.cause }

func (r *refusal) Error() string { return fmt.Sprintf("return code %d: %v", r.code, r.cause) }

func refuse(code byte, cause error) error { return &refusal{code, cause} }

// connect brings a connection from its first byte to CONNACK.
func (c *Client) connect(ctx context.Context) (err error) {
	reason := ""
	defer func() {
		if reason != "" {
			err = errors.New("panic")
		}
		if err != nil {
			c.srv.count.refused(err)
		}
	}()
	defer c.recovered(&reason)
	state, err := c.handshake(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.srv.conf.ConnectTimeout)
	defer cancel()
	var p packet.Connect
	if err := c.readConnect(ctx, &p); err != nil {
		return err
	}
	c.version, c.asked = p.Version, p.ClientID
	err = c.negotiate(&p)
	if err == nil {
		err = c.authorize(ctx, &p, state)
	}
	if err == nil && c.srv.moved.Load() != nil {
		err = refuse(codeMoved, errMoved)
		if c.srv.movedTo() == "" {
			err = refuse(packet.Unavailable, errMoved)
		}
	}
	if err == nil {
		err = c.admit(ctx, p.Clean)
	}
	if err != nil {
		return c.answer(err)
	}
	c.rd.SetMax(c.srv.conf.MaxPayload + packetRoom)
	c.nc.SetReadDeadline(time.Time{}) // reading will tell if it is closed
	return nil
}

// handshake is that of TLS; its state is nil on a connection without TLS.
func (c *Client) handshake(ctx context.Context) (*tls.ConnectionState, error) {
	t, ok := c.nc.(interface {
		HandshakeContext(context.Context) error
		ConnectionState() tls.ConnectionState
	})
	if !ok {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.srv.conf.HandshakeTimeout)
	defer cancel()
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	state := t.ConnectionState()
	return &state, nil
}

// readConnect reads the first packet, CONNECT, into p until the deadline of ctx. A
// packet that is none is answered where its version can be told.
func (c *Client) readConnect(ctx context.Context, p *packet.Connect) error {
	until, _ := ctx.Deadline()
	c.lastPacket = time.Now()
	if err := c.nc.SetReadDeadline(until); err != nil {
		return err
	}
	select {
	case <-c.gone: // stop may have set its deadline before us
		return errors.New("server is stopping")
	default:
	}
	c.rd = packet.NewReader(countingReader{c}, readBytes, c.srv.conf.MaxConnect)
	first, body, _, err := c.rd.Next()
	if errors.Is(err, packet.ErrTooLarge) {
		return c.tooLarge(err)
	}
	if err != nil {
		return err
	}
	c.tally.packets[first>>4]++
	err = p.Decode(first, body, 0)
	switch {
	case err == nil:
	case errors.Is(err, packet.ErrVersion):
		err = c.answer(refuse(packet.BadVersion, err))
	case p.Version == packet.V5:
		c.version = p.Version
		err = c.answer(refuse(codeOf(err), err))
	}
	return err
}

// tooLarge answers a CONNECT of more than MaxConnect bytes, of which no more is
// read than who is to be answered. Version 3.1.1 has no return code for it: the
// server is "unavailable".
func (c *Client) tooLarge(err error) error {
	const opening = "\x00\x04MQTT"
	b := string(c.rd.Front(len(opening) + 1))
	level, ok := strings.CutPrefix(b, opening)
	switch {
	case !ok || level == "" || !c.rd.Opens(packet.CONNECT):
		return err
	case level[0] == byte(packet.V5):
		c.version = packet.V5
		err = c.answer(refuse(codeTooLarge, err))
	case level[0] == byte(packet.V311):
		err = c.answer(refuse(packet.Unavailable, err))
	default:
		err = c.answer(refuse(packet.BadVersion, err))
	}
	c.linger()
	return err
}

// answer sends the CONNACK of a refusal and returns it.
func (c *Client) answer(err error) error {
	if r := (*refusal)(nil); errors.As(err, &r) {
		ack := packet.Connack{Code: r.code}
		if c.version == packet.V5 && int(r.code) < len(returnCodes) {
			ack.Code = returnCodes[r.code]
		} else if c.version == packet.V311 && int(r.code) >= len(returnCodes) {
			ack.Code = packet.Unavailable // it has no word for it
		}
		if c.version == packet.V5 {
			ack.Properties = c.reference(r.code)
		}
		c.writeBy = time.Now().Add(5 * time.Second)
		c.nc.SetWriteDeadline(c.writeBy)
		c.nc.Write(ack.Append(nil, c.version)) // the connection ends anyway
	}
	return err
}

// authorize checks the CONNECT and asks policy.
func (c *Client) authorize(ctx context.Context, p *packet.Connect, state *tls.ConnectionState) error {
	conf := &c.srv.conf
	switch {
	case p.ClientID == "" && !p.Clean && c.version == packet.V311: // [MQTT-3.1.3-8]
		return refuse(packet.BadIdentifier, errors.New("no client id and CleanSession 0"))
	case p.ClientID == "":
		p.ClientID = "auto-" + strings.ToLower(rand.Text())
		c.v5.assigned = true
	case len(p.ClientID) > conf.MaxClientID || p.ClientID[0] == '$':
		return refuse(packet.BadIdentifier, errors.New("client id too long or reserved"))
	}
	req := &Connect{
		ClientID: p.ClientID, Username: p.Username, Password: append([]byte(nil), p.Password...),
		CleanSession: c.v5.expiry == 0, KeepAlive: time.Duration(p.KeepAlive) * time.Second,
		Protocol: byte(p.Version), TLS: state, Remote: c.nc.RemoteAddr(), Via: c.via,
	}
	var err error
	if req.Will, err = c.willOf(p); err != nil {
		return err
	}
	if err := c.judge(ctx, req); err != nil {
		return err
	}
	c.keepAlive = req.KeepAlive
	if c.keepAlive > 0 {
		c.keepAlive = max(c.keepAlive, conf.KeepAliveMin)
	}
	if limit := conf.KeepAliveMax; limit > 0 && (c.keepAlive == 0 || c.keepAlive > limit) {
		c.keepAlive = limit
	}
	c.v5.keepAlive = c.keepAlive != req.KeepAlive
	return nil
}

// willOf is the will of a CONNECT, nil for none, or why it may not be.
func (c *Client) willOf(p *packet.Connect) (*message.Message, error) {
	if !p.HasWill {
		return nil, nil
	}
	conf := &c.srv.conf
	m := &message.Message{Topic: p.WillTopic, Payload: append([]byte(nil), p.WillPayload...), QoS: p.WillQoS,
		Retain: p.WillRetain}
	code, why := codeTopic, conf.validName(p.WillTopic)
	switch {
	case why != nil:
	case int(p.WillQoS) > conf.MaxQoS:
		code, why = codeQoS, over("MaxQoS", conf.MaxQoS, "QoS %d", p.WillQoS)
	case len(p.WillPayload) > conf.MaxPayload:
		code, why = codeTooLarge, over("MaxPayload", conf.MaxPayload, "a payload of %d bytes", len(p.WillPayload))
	}
	if why != nil && c.version == packet.V311 {
		return nil, fmt.Errorf("%w: will: %w", packet.ErrMalformed, why)
	} else if why != nil {
		return nil, refuse(code, fmt.Errorf("will: %w", why))
	}
	return m, c.willProperties(m, p.WillProperties)
}

// judge asks policy, again while somebody is disconnected meanwhile, and lets the
// client in.
func (c *Client) judge(ctx context.Context, req *Connect) error {
	s := c.srv
	for {
		// A Disconnect while policy is asked may be the reason why the answer
		// is not true any more, and does not see this connection yet.
		s.mu.Lock()
		before := s.disconnects
		s.mu.Unlock()
		session, err := s.hooks.Authorizer.Connect(ctx, req)
		switch {
		case err == nil:
		case errors.Is(err, ErrNotAuthorized):
			return refuse(packet.NotAuthorized, err)
		case errors.Is(err, ErrBadCredentials):
			return refuse(packet.BadCredentials, err)
		case errors.Is(err, ErrIdentifier):
			return refuse(packet.BadIdentifier, err)
		default:
			return refuse(packet.Unavailable, err)
		}
		if w := req.Will; w != nil {
			if err := mayLeave(session, w); err != nil {
				return refuse(packet.NotAuthorized, err)
			}
		}
		s.mu.Lock()
		current := s.disconnects == before
		if current {
			c.id, c.session, c.will, c.since = req.ClientID, session, req.Will, time.Now()
			c.authorized = true
			c.polite.Store(c.version == packet.V5)
			c.slot.Authenticated(session.Principal())
		}
		s.mu.Unlock()
		if current {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return refuse(packet.Unavailable, err)
		}
	}
}

// admit takes the client id over from an earlier connection, and gives the
// connection its session.
func (c *Client) admit(ctx context.Context, clean bool) error {
	if err := c.takeOver(ctx); err != nil {
		return err
	}
	s := c.srv
	c.owner = ownerOf(c.session)
	s.mu.Lock()
	if err := c.mayAdopt(clean); err != nil {
		s.mu.Unlock()
		return err
	}
	resumed, ended := s.sessions[c.id], (*session)(nil)
	if resumed != nil && (clean || resumed.expired(time.Now()) || !s.mayResume(resumed, c.owner)) {
		resumed, ended = nil, resumed
	}
	var x *session
	var will *delayedWill
	if resumed != nil {
		x = resumed
		s.unschedule(x)
		x.takeWill() // its client is back in time
		s.own(x, c.owner, true)
		x.expiry = c.v5.expiry
	} else {
		if err := c.roomForAnother(ended); err != nil {
			s.mu.Unlock()
			return err
		}
		x, will = c.startSession(ended)
	}
	if s.store != nil && x.expiry > 0 {
		x.durable.Store(true)
	}
	s.mu.Unlock()
	will.publish()
	if err := s.keep(ctx, x, ended); err != nil {
		if resumed == nil {
			s.left(x, 0)
		} else {
			s.left(x, c.v5.expiry)
		}
		return refuse(packet.Unavailable, err)
	}
	c.written = sync.NewCond(&x.mu)
	x.attach(c, resumed != nil)
	return nil
}

// takeOver makes c the connection of its client id. The earlier one is closed
// [MQTT-3.1.4-2], and waited for: what it accepted, and its will, have been
// handed to the router before the first packet of this one is.
func (c *Client) takeOver(ctx context.Context) error {
	s := c.srv
	s.mu.Lock()
	old := s.clients[c.id]
	s.clients[c.id] = c
	s.mu.Unlock()
	if old == nil {
		return nil
	}
	s.count.takeovers.Add(1)
	old.heir.Store(c)
	old.kick(ReasonDuplicate)
	c.before = old.done
	select {
	case <-old.done:
		return nil
	case <-ctx.Done():
		return refuse(packet.Unavailable, errors.New("the earlier connection does not end"))
	case <-c.gone:
		return errors.New("taken over or stopped in its turn")
	}
}

// mayAdopt refuses a client whose session was stored before sessions had owners,
// if Hooks.Adopts does. s.mu is held.
func (c *Client) mayAdopt(clean bool) error {
	s := c.srv
	x := s.sessions[c.id]
	if x == nil || x.owner != "" || x.expired(time.Now()) || s.conf.SharedSessions {
		return nil
	}
	if s.hooks.Adopts != nil && !s.hooks.Adopts(c.session, c.id) {
		return refuse(packet.NotAuthorized, ErrOlderSession)
	}
	if !clean {
		s.conf.Log.Info("a session that was stored before sessions had owners is its first client's now", "client",
			c.id, "principal", c.owner)
	}
	return nil
}

// roomForAnother refuses a new session over the limit of all sessions or of its
// owner's durable ones; it takes the place of ended, if that is not nil. s.mu is
// held.
func (c *Client) roomForAnother(ended *session) error {
	s := c.srv
	if ended == nil && len(s.sessions) >= s.conf.MaxSessions {
		return refuse(packet.Unavailable, errors.New("too many sessions"))
	}
	if c.v5.expiry > 0 && !s.roomForSession(c.owner, ended) {
		return refuse(codeQuota, errSessions(c.owner))
	}
	return nil
}

// startSession starts a session in place of ended, which may be nil, and returns
// it with the will that ended had still to publish. s.mu is held.
func (c *Client) startSession(ended *session) (x *session, will *delayedWill) {
	s := c.srv
	if ended != nil {
		s.unschedule(ended)
		will = ended.takeWill()
		s.remove(ended)
	}
	x = s.newSession(c.id, c.owner)
	x.expiry = c.v5.expiry
	s.enter(x)
	return x, will
}

// newSession makes a session; s.mu is held, or nobody else has s.
func (s *Subscribers) newSession(id, owner string) *session {
	s.serial++
	return &session{srv: s, id: id, owner: owner, serial: s.serial, life: newLife(),
		subs: make(map[string]*subscription)}
}

// ErrOlderSession keeps what waits for a thing from all others with its client id.
var ErrOlderSession = fmt.Errorf(
	"%w: the session of this client id was stored before sessions had owners, and is that of the thing of this name",
	ErrNotAuthorized)

// mayResume says whether the session is the owner's. One that was stored before
// sessions had owners is whose that comes first, of those that Hooks.Adopts lets.
// s.mu is held.
func (s *Subscribers) mayResume(x *session, owner string) bool {
	return x.owner == owner || x.owner == "" || s.conf.SharedSessions
}

// ownerOf is who owns what outlives the connection of a client.
func ownerOf(s Session) string {
	if o, ok := s.(owned); ok {
		return o.Owner()
	}
	return s.Principal()
}

// keep discards the session that ended, if any, and makes the client's durable
// if it is to outlive the connection; both before CONNACK says so. A session
// that is resumed has a record, but that would let it expire as if its client
// had not come back.
func (s *Subscribers) keep(ctx context.Context, x, ended *session) error {
	b, then := s.batch(), func() {}
	if ended != nil {
		then = ended.discard(b)
	}
	if b != nil && x.durable.Load() {
		s.store.Session(b, x.id)
	}
	if b == nil || b.Bytes() == 0 {
		then()
		return nil
	}
	return s.store.CommitWait(ctx, b, then)
}

// end closes the connection, publishes its will and parts it from its session.
func (c *Client) end(reason string) {
	s, conf := c.s, &c.srv.conf
	code := c.goodbye(reason)
	switch kicked := c.reason.Load(); {
	case reason == ReasonLost || reason == ReasonKeepAlive && code == 0:
		raw(c.nc).Close() // nobody hears us, and TLS would wait to say goodbye
	case kicked == nil || reason == ReasonShutdown || code != 0:
		if kicked != nil && reason != ReasonShutdown {
			// Its rights may have ended: it hears why, and no more messages.
			// A CONNACK that has not been written yet comes before it: there is
			// no DISCONNECT without one [MQTT-3.14.0-1].
			s.mu.Lock()
			c.out = c.out[:c.greeting]
			clear(c.outPackets[:])
			if c.greeting > 0 {
				c.outPackets[packet.CONNACK] = 1
			}
			s.mu.Unlock()
		}
		c.finish(reason == ReasonShutdown, code)
		if reason == ReasonProtocol && code != 0 {
			c.linger()
		}
	}
	s.mu.Lock()
	c.closed = true
	s.mu.Unlock()
	if c.reason.CompareAndSwap(nil, &reason) {
		close(c.gone)
	}
	c.nc.Close() // not kick: TLS should say goodbye
	s.mu.Lock()
	for c.writing {
		c.written.Wait()
	}
	putBuf(c.out, c.outFrom)
	c.out, c.outFrom = nil, nil
	s.mu.Unlock()
	will := c.will
	if reason == ReasonClient && !c.withWill {
		will = nil
	}
	if will != nil && !c.srv.delay(s, c, will) {
		c.route(will)
	}
	s.detach()
	c.srv.left(s, c.v5.expiry)
	c.srv.count.disconnected(reason)
	conf.Log.LogAttrs(ctxBackground, levelDebug, "disconnected", attr("client", c.id), attr("reason", reason))
	c.event(Event{Kind: Disconnected, Reason: reason, Heir: c.heir.Load()})
}

// finish writes what is left for the client, if it takes it in DrainTimeout; all
// says to wait for what it was promised, too. A code that is not 0 is told last.
func (c *Client) finish(all bool, code byte) {
	timeout := c.srv.conf.DrainTimeout
	cut := time.AfterFunc(timeout, func() { raw(c.nc).Close() })
	defer cut.Stop()
	late := time.NewTimer(timeout)
	defer late.Stop()
	mu := &c.s.mu
	for all {
		mu.Lock()
		c.draining = true
		left := c.acks.len()
		mu.Unlock()
		if left == 0 {
			break
		}
		c.flush()
		select {
		case <-c.room4more:
			continue
		case <-late.C:
		}
		break
	}
	if code != 0 {
		mu.Lock()
		c.appendPacket(&packet.Disconnect{Kind: packet.DISCONNECT, Reason: code, Properties: c.reference(code)})
		mu.Unlock()
	}
	c.flush()
	mu.Lock()
	for c.writing {
		c.written.Wait()
	}
	mu.Unlock()
}

// linger reads what the client still sends, for DrainTimeout at most: closing a
// connection with bytes unread would take the DISCONNECT away from it.
func (c *Client) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil || c.nc.SetReadDeadline(time.Now().Add(c.srv.conf.DrainTimeout)) != nil {
		return
	}
	const most = 1 << 20
	_, _ = io.CopyN(io.Discard, c.nc, most) // its end is the connection's
}

// mayLeave says whether a client may have will published: when it connects, and
// again when the will goes out, since its rights may have ended between.
func mayLeave(s Session, will *message.Message) error {
	if err := topic.CheckPublish(will.Topic, topic.ByWill, will.Retain); err != nil {
		return fmt.Errorf("will: %w", err)
	}
	if !s.MayPublish(will.Topic, will.Retain) {
		return fmt.Errorf("will: policy does not let %s publish to %q, retained %t", s.Principal(), will.Topic,
			will.Retain)
	}
	return nil
}

// route hands the will to the router, if the client may still publish it; a
// router that panics ends nothing more.
func (c *Client) route(will *message.Message) {
	reason := ""
	defer c.recovered(&reason)
	if err := mayLeave(c.session, will); err != nil {
		c.srv.count.refusedWills.Add(1)
		c.srv.conf.Log.Warn("will is not published", "client", c.id, "principal", c.Principal(), "err", err)
		return
	}
	m := *will // shared with nobody yet, but Connect has it
	c.sign(&m, time.Now())
	if c.v5.willExpiry > 0 {
		m.Expires = time.Now().Add(c.v5.willExpiry)
	}
	c.srv.hooks.Router.Route(Publish{Message: &m, Client: c, Will: true, Done: func(err error) {
		if err != nil {
			c.srv.count.routeErrors.Add(1)
			c.srv.conf.Log.Warn("will was not taken", "client", c.id, "err", err)
		}
	}})
}

func (c *Client) event(e Event) {
	if hook := c.srv.hooks.Events; hook != nil {
		reason := ""
		defer c.recovered(&reason)
		e.Client, e.Time = c, time.Now()
		hook(e)
	}
}
