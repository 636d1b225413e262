package uplink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// filtersPerSubscribe is the most filters that AWS IoT Core takes in one
// SUBSCRIBE.
const filtersPerSubscribe = 8

// handOver is how long the MQTT client may hold up a Publish call. It does so
// only when the connection is lost in the middle of one.
const handOver = 2 * time.Second

// endOfQueue is how long a draining session waits for another batch before
// it takes the queue for empty.
const endOfQueue = 100 * time.Millisecond

// A session is one connection.
type session struct {
	u      *Uplink
	link   *link
	client mqtt.Client
	turn   chan struct{} // held by who publishes: keeps calls in order
	slots  chan struct{} // one for each flight: the in-flight window
	lost   chan struct{} // closed when the client's goroutines have ended
	gone   func()        // closes lost
	timed  bool          // the bridge tells the time, and takes batches with one
}

// A flight is a PUBLISH on its way.
type flight struct {
	tok   mqtt.Token // nil: there was nothing to send
	seq   uint64
	last  bool // of the batch
	topic string
}

// session makes one connection and serves it to its end. It returns when the
// broker accepted the connection, zero if it did not, and what ended it.
func (u *Uplink) session(ctx context.Context) (connected time.Time, err error) {
	l, err := u.connect(ctx)
	if failed, ok := errors.AsType[*handshakeError](err); ok && u.o.Retry != nil && u.o.Retry(failed.error) {
		l, err = u.connect(ctx)
	}
	if err != nil {
		return time.Time{}, err
	}
	var wg sync.WaitGroup
	wg.Go(l.run)
	s := &session{u: u, link: l, turn: make(chan struct{}, 1), slots: make(chan struct{}, u.o.Inflight),
		lost: make(chan struct{})}
	s.gone = sync.OnceFunc(func() { close(s.lost) })
	defer func() {
		l.fail(errClosed)
		wg.Wait()
		if !connected.IsZero() {
			// The client's goroutines end with the link; this is the last of them.
			select {
			case <-s.lost:
			case <-time.After(handOver):
			}
		}
	}()
	if err := s.handshake(ctx); err != nil {
		return time.Time{}, err
	}
	connected = time.Now()
	if err = s.serve(ctx); err != nil {
		l.learn()
	}
	return connected, err
}

// connect dials and shakes hands up to TLS, if there is any.
func (u *Uplink) connect(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, u.o.ConnectTimeout)
	defer cancel()
	conf, err := u.o.TLS()
	if err != nil {
		return nil, &linkError{Kind: KindIdentity, Text: "the files of this device's identity cannot be used", Err: err}
	}
	u.certified = false
	if conf == nil { // plain TCP was asked for
		raw, err := u.o.Dial(ctx, "tcp", u.o.Endpoint)
		if err != nil {
			return nil, err
		}
		return newLink(raw, raw, u.o.AckTimeout, u.stretch), nil
	}
	conf = conf.Clone()
	if conf.ServerName == "" {
		conf.ServerName = u.o.ServerName
	}
	if len(conf.Certificates) == 1 && conf.GetClientCertificate == nil {
		// Go would keep the certificate back from a server that does not list
		// its CA; sent, the server can at least say what it has against it.
		own := &conf.Certificates[0]
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	u.certified = conf.GetClientCertificate != nil || len(conf.Certificates) > 0
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	raw, err := u.o.Dial(ctx, "tcp", u.o.Endpoint)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, conf)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &handshakeError{err}
	}
	l := newLink(conn, raw, u.o.AckTimeout, u.stretch)
	l.certified, l.secure = u.certified, true
	l.from, l.until = validity(conn.ConnectionState().VerifiedChains)
	return l, nil
}

// validity is the time in which all certificates of a chain are valid; of several chains,
// of the one that is valid for the longest.
func validity(chains [][]*x509.Certificate) (from, until time.Time) {
	for _, chain := range chains {
		begin, end := chain[0].NotBefore, chain[0].NotAfter
		for _, c := range chain[1:] {
			if c.NotBefore.After(begin) {
				begin = c.NotBefore
			}
			if c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
		if end.After(until) {
			from, until = begin, end
		}
	}
	return from, until
}

// A handshakeError is why TLS did not come about.
type handshakeError struct{ error }

func (e *handshakeError) Unwrap() error { return e.error }

// handshake does CONNECT and CONNACK.
func (s *session) handshake(ctx context.Context) error {
	u, l := s.u, s.link
	o := mqtt.NewClientOptions().
		AddBroker("tcp://" + u.o.Endpoint). // only a label: the connection stands
		SetClientID(u.o.ClientID).
		SetProtocolVersion(4).
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetStore(noStore{}).
		SetOrderMatters(true).
		SetKeepAlive(u.stretch.most).
		SetPingTimeout(min(u.o.KeepAlive, u.o.AckTimeout)).
		SetConnectTimeout(u.o.ConnectTimeout).
		SetWriteTimeout(handOver).
		SetConnectionLostHandler(func(mqtt.Client, error) { s.gone() }).
		SetDefaultPublishHandler(s.receive)
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return l, nil })
	if u.o.PresenceTopic != "" {
		o.SetBinaryWill(u.o.PresenceTopic, u.o.Presence(false), 1, true)
	}
	if u.o.User != "" {
		password, err := u.o.Password()
		if err != nil {
			return &linkError{Kind: KindIdentity, Text: "the password of this device cannot be used", Err: err}
		}
		o.SetUsername(u.o.User).SetPassword(password)
	}
	s.client = mqtt.NewClient(o)
	tok := s.client.Connect()
	timer := time.NewTimer(u.o.ConnectTimeout)
	defer timer.Stop()
	select {
	case <-tok.Done():
	case <-timer.C:
		l.fail(context.DeadlineExceeded)
	case <-ctx.Done():
		l.fail(ctx.Err())
	}
	<-tok.Done()
	// The client takes return codes it does not know for success.
	code, ok, alien := l.connack()
	if ok && code != packets.Accepted {
		return refused(code, &u.o, l.certified)
	}
	if err := tok.Error(); err != nil {
		if why := l.why(); !alien && why != nil && why != errClosed {
			return why
		}
		return &linkError{Kind: KindProtocol, Text: u.o.Endpoint + " does not answer as an MQTT broker", Err: err}
	}
	return nil
}

// receive takes a message to whom it is for.
func (s *session) receive(_ mqtt.Client, m mqtt.Message) {
	u := s.u
	switch {
	case u.o.NoticeTopic != "" && m.Topic() == u.o.NoticeTopic:
		u.o.Notice(m.Payload())
	case u.o.TimeAnswerTopic != "" && m.Topic() == u.o.TimeAnswerTopic:
		u.o.Time.Answer(m.Payload(), s.link.from, s.link.until)
	case u.o.Peer != nil:
		u.o.Peer.Receive(m.Topic(), m.Payload())
	}
}

// serve works on an accepted connection until it is lost or ctx is done and
// the queue drained.
func (s *session) serve(ctx context.Context) error {
	u, l := s.u, s.link
	// What is under way at ctx's end has Drain to be done.
	drain, stopDrain := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDrain()
	unwatch := context.AfterFunc(ctx, func() {
		select {
		case <-time.After(u.o.Drain):
			stopDrain()
		case <-drain.Done():
		}
	})
	defer unwatch()
	if err := s.greet(drain); err != nil {
		return err
	}
	u.mu.Lock()
	u.logged = ""
	u.status.State, u.status.Since = Online, time.Now()
	u.status.Connects++
	u.mu.Unlock()
	u.log.Info("connected", "endpoint", u.o.Endpoint, "client_id", u.o.ClientID)
	if p := u.o.Peer; p != nil {
		p.Connected(s.publishWait)
		defer p.Disconnected()
	}

	// The sender stops at ctx's end, but then empties the queue first; the
	// drain bounds that, and the link's end stops it at once.
	window := make(chan flight, u.o.Inflight)
	sent := make(chan error, 1)
	go func() {
		err := s.send(ctx, drain, window)
		close(window)
		sent <- err
	}()

	var asks sync.WaitGroup
	asks.Go(func() { s.askTime(drain) })
	asks.Go(func() { s.ping(drain) })
	err := s.settle(drain, window)
	if err != errDrained {
		l.fail(err)
	}
	stopDrain()
	asks.Wait()
	if queue := <-sent; err == errDrained && ctx.Err() == nil {
		err = &queueError{queue}
	}
	u.update(func(st *Status) { st.Inflight = 0 })
	if err == errDrained {
		s.goodbye()
		s.gone() // the client does not call back after its own disconnect
		return nil
	}
	if l.why() == errClosed {
		return s.stalled("ping")
	}
	return err
}

// greet subscribes and says that the device is online.
func (s *session) greet(ctx context.Context) error {
	u := s.u
	if err := s.meetBridge(ctx); err != nil {
		return err
	}
	var filters []string
	if u.o.Peer != nil {
		filters = u.o.Peer.Topics()
	}
	for len(filters) > 0 {
		n := min(len(filters), filtersPerSubscribe)
		want := make(map[string]byte, n)
		for _, f := range filters[:n] {
			want[f] = 1
		}
		filters = filters[n:]
		codes, err := s.subscribe(ctx, want, "SUBSCRIBE")
		if err != nil {
			return err
		}
		if len(codes) < n {
			return &linkError{Kind: KindProtocol,
				Text: fmt.Sprintf("%s answers a SUBSCRIBE with %d codes, %d filters were asked for", u.o.Endpoint,
					len(codes), n)}
		}
		for f, code := range codes {
			if code == refusedFilter {
				u.log.Warn("subscription refused by the broker's policy", "topic", f)
			}
		}
	}
	if u.o.PresenceTopic == "" {
		return nil
	}
	tok, err := s.publish(ctx, u.o.PresenceTopic, true, u.o.Presence(true))
	if err != nil {
		return err
	}
	return s.wait(ctx, tok, "PUBLISH to "+u.o.PresenceTopic)
}

// subscribe asks for want, filters and their QoS, and returns the codes of those
// that were answered. what is the packet in words.
func (s *session) subscribe(ctx context.Context, want map[string]byte, what string) (codes map[string]byte, err error) {
	s.link.bound.Expect(len(want))
	tok := s.client.SubscribeMultiple(want, nil)
	if err := s.wait(ctx, tok, what); err != nil {
		return nil, err
	}
	return tok.(*mqtt.SubscribeToken).Result(), nil
}

// goodbye tells the broker that the device goes on purpose.
func (s *session) goodbye() {
	if t := s.u.o.PresenceTopic; t != "" {
		ctx, cancel := context.WithTimeout(context.Background(), handOver)
		if tok, err := s.publish(ctx, t, true, s.u.o.Presence(false)); err == nil {
			select {
			case <-tok.Done():
			case <-ctx.Done():
			case <-s.link.down:
			}
		}
		cancel()
	}
	s.client.Disconnect(uint(handOver / time.Millisecond))
}

// wait waits for the answer to one packet; the link fails without one.
func (s *session) wait(ctx context.Context, tok mqtt.Token, what string) error {
	timer := time.NewTimer(s.u.o.AckTimeout)
	defer timer.Stop()
	select {
	case <-tok.Done():
		err := tok.Error()
		if err != nil && s.link.why() != nil { // the client saw the end first
			return s.ended(what)
		}
		return err
	case <-s.link.down:
		return s.ended(what)
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		err := s.stalled(what)
		s.link.fail(err)
		return err
	}
}

// why says what ended the link.
func (s *session) why() error {
	return classify(s.link.why(), s.u.o.Endpoint, s.u.o.ServerName, s.link.certified)
}

// ended says what ended the link; what is a packet that was not answered.
func (s *session) ended(what string) error {
	e := classify(s.link.why(), s.u.o.Endpoint, s.u.o.ServerName, s.link.certified)
	if e.Kind != KindClosed {
		return e
	}
	return &linkError{Kind: KindClosed, Text: fmt.Sprintf(
		"%s closed the connection with a %s unanswered (its policy may not allow it)", s.u.o.Endpoint, what),
		Err: e.Err}
}

func (s *session) stalled(what string) error {
	return &linkError{Kind: KindStalled,
		Text: fmt.Sprintf("%s did not acknowledge a %s within %v", s.u.o.Endpoint, what,
			s.u.o.AckTimeout)}
}

// publish hands a PUBLISH with QoS 1 to the client. Calls are sent in the
// order in which they got their turn.
func (s *session) publish(ctx context.Context, topic string, retain bool, payload []byte) (mqtt.Token, error) {
	select {
	case s.turn <- struct{}{}:
	case <-s.link.down:
		return nil, s.link.why()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.turn }()
	for s.link.full() {
		select {
		case <-s.link.room:
		case <-s.link.down:
			return nil, s.link.why()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	tok := s.client.Publish(topic, 1, retain, payload)
	select {
	case <-tok.Done():
		// Refused by the client, as after a hand-over that took too long. No
		// later batch may go out in its place: the bridge would take this one
		// for a copy when it came again.
		if err := tok.Error(); err != nil {
			s.link.fail(err)
			return nil, s.link.why()
		}
	default:
	}
	return tok, nil
}

// publishWait is the Publish that a Peer gets.
func (s *session) publishWait(ctx context.Context, topic string, payload []byte) error {
	tok, err := s.publish(ctx, topic, false, payload)
	if err != nil {
		return fmt.Errorf("uplink: publish to %s: %w", topic, err)
	}
	if err := s.wait(ctx, tok, "PUBLISH to "+topic); err != nil {
		return fmt.Errorf("uplink: publish to %s: %w", topic, err)
	}
	return nil
}

// noStore keeps the MQTT client from keeping messages: whatever has to be
// sent again comes from the queue.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
