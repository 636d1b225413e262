package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/deploy/rig"
)

// TestKillSessions kills the bridge at random instants while clients publish to
// durable sessions whose clients come and go. In the end every message whose
// PUBACK came has reached every session that was subscribed, and the retained
// message of each topic is the last acknowledged one or a later one.
//
// TIDEMILL_TORTURE sets the number of kills (default 6); SEED repeats a run.
func TestKillSessions(t *testing.T) {
	kills, seed := torture(t, 6)
	rnd := rand.New(rand.NewPCG(seed, 0))
	f := newBridge(t, "", nil)
	op := f.newOperator()
	stop := make(chan struct{})
	var publishing, subscribing sync.WaitGroup
	subs := []*subscriber{newSubscriber("sub-1", 1), newSubscriber("sub-2", 1), newSubscriber("sub-3", 2)}
	var pubs []*publisher
	settings := f.settings(op)
	for i, s := range subs {
		s.rnd = rand.New(rand.NewPCG(seed, uint64(i)+10))
		s.settings = settings
		ready := make(chan struct{})
		subscribing.Go(func() { s.run(ready) })
		<-ready
	}
	for i := range 3 {
		p := &publisher{id: fmt.Sprint("pub-", i+1), qos: byte(1 + i%2), settings: settings,
			store: mqtt.NewMemoryStore()}
		pubs = append(pubs, p)
		publishing.Go(func() { p.run(stop) })
	}
	begin := time.Now()
	for i := range kills {
		time.Sleep(time.Duration(50+rnd.IntN(400)) * time.Millisecond)
		f.bridge.Kill()
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
		f.must(f.bridge.Start())
		if rnd.IntN(4) > 0 { // else it is killed again while it starts
			f.must(f.bridge.Ready(f.ctx))
		}
		if i%10 == 9 {
			t.Logf("%d kills", i+1)
		}
	}
	f.must(f.bridge.Ready(f.ctx))
	enough, cancel := context.WithTimeout(f.ctx, 3*patience)
	defer cancel()
	f.must(rig.Until(enough, "enough messages", func() (bool, error) {
		n := int64(0)
		for _, p := range pubs {
			n += p.acked.Load()
		}
		return n >= int64(kills*10), nil
	}))
	t.Logf("%v: the last publishes", time.Since(begin))
	close(stop)
	publishing.Wait()
	t.Logf("%v: the last deliveries", time.Since(begin))
	for _, s := range subs {
		s.stay.Store(true)
	}
	complete := func() bool {
		for _, s := range subs {
			for _, p := range pubs {
				if s.missing(p) > 0 {
					return false
				}
			}
		}
		return true
	}
	for end := time.Now().Add(3 * patience); !complete() && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	for _, s := range subs {
		close(s.stop)
	}
	subscribing.Wait()

	acked, missing, twice, wrong := 0, 0, 0, 0
	kept := f.retained(op, len(pubs))
	for _, p := range pubs {
		done := int(p.acked.Load())
		acked += done
		for _, s := range subs {
			missing += s.missing(p)
		}
		if n, err := strconv.Atoi(kept["kept/"+p.id]); err != nil || n < done {
			t.Errorf("kept/%s is %q, %d was acknowledged", p.id, kept["kept/"+p.id], done)
			wrong++
		}
	}
	for _, s := range subs {
		for _, n := range s.got {
			twice += n - 1
		}
		for _, err := range s.wrong {
			t.Errorf("%s: %v", s.id, err)
		}
	}
	t.Logf("kills: %d; published and acknowledged: %d by %d clients, to %d durable sessions, which were away %d "+
		"times and lost %d connections",
		kills, acked, len(pubs), len(subs), subs[0].left+subs[1].left+subs[2].left, subs[0].lost+subs[1].lost+
			subs[2].lost)
	t.Logf("missing: %d; given more than once: %d; retained messages wrong: %d", missing, twice, wrong)
	if missing > 0 {
		t.Errorf("%d acknowledged messages are missing", missing)
	}
	f.must(f.bridge.Stop(patience))
	if log, err := os.ReadFile(f.bridge.Log); err != nil || strings.Contains(string(log), "panic while serving") {
		t.Errorf("the bridge's log tells of a panic: %v", err)
	}
}

// settings are those of a client of identity i with a session that stays.
func (f *fleet) settings(i identity) func(id string) *mqtt.ClientOptions {
	f.t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(i.dir, "cert.pem"), filepath.Join(i.dir, "key.pem"))
	f.must(err)
	pem, err := os.ReadFile(filepath.Join(i.dir, "ca.pem"))
	f.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return func(id string) *mqtt.ClientOptions {
		return mqtt.NewClientOptions().AddBroker("ssl://" + f.bridge.MQTT).SetClientID(id).SetProtocolVersion(4).
			SetCleanSession(false).SetAutoReconnect(false).SetConnectTimeout(5 * time.Second).
			SetTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots})
	}
}

// retained reads the retained messages below kept/.
func (f *fleet) retained(op identity, n int) map[string]string {
	f.t.Helper()
	c := f.connect(op)
	c.subscribe("kept/#")
	got := make(map[string]string)
	for range n {
		m := c.next(f.ctx, "retained message", func(m mqtt.Message) bool { return m.Retained() })
		got[m.Topic()] = string(m.Payload())
	}
	return got
}

// A publisher publishes 1, 2, 3, … and repeats each until it is acknowledged.
type publisher struct {
	id       string
	qos      byte
	settings func(string) *mqtt.ClientOptions
	store    mqtt.Store
	acked    atomic.Int64 // a multiple of 10
}

func (p *publisher) run(stop <-chan struct{}) {
	var c mqtt.Client
	var lost chan struct{}
	defer func() { c.Disconnect(0) }()
	for {
		if c == nil || !c.IsConnected() {
			ended := make(chan struct{})
			lost = ended
			// One store for all its connections: a client that forgets its packet
			// ids may not say that it has a session.
			c = mqtt.NewClient(p.settings(p.id).SetStore(p.store).SetConnectionLostHandler(func(mqtt.Client, error) {
				close(ended)
			}))
			if tok := c.Connect(); !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
				time.Sleep(20 * time.Millisecond)
				continue
			}
		}
		select {
		case <-stop:
			return
		default:
		}
		// Ten at a time; the last of them is retained on another topic, too.
		var toks []mqtt.Token
		done := int(p.acked.Load())
		for n := done + 1; n <= done+10; n++ {
			toks = append(toks, c.Publish("t/"+p.id, p.qos, false, strconv.Itoa(n)))
		}
		toks = append(toks, c.Publish("kept/"+p.id, p.qos, true, strconv.Itoa(done+10)))
		ok := true
		for _, tok := range toks {
			select {
			case <-tok.Done():
				ok = ok && tok.Error() == nil
			case <-lost:
				ok = false
			case <-time.After(5 * time.Second): // Paho forgets a token now and then
				ok = false
			}
			if !ok {
				break
			}
		}
		if ok {
			p.acked.Add(10)
		} else {
			c.Disconnect(0)
		}
	}
}

// A subscriber has a durable session and is away now and then.
type subscriber struct {
	id       string
	qos      byte
	settings func(string) *mqtt.ClientOptions
	rnd      *rand.Rand
	stay     atomic.Bool
	stop     chan struct{}

	mu         sync.Mutex // guards what follows
	got        map[string]int
	wrong      []error
	left, lost int
}

func newSubscriber(id string, qos byte) *subscriber {
	return &subscriber{id: id, qos: qos, stop: make(chan struct{}), got: make(map[string]int)}
}

// missing is how many of p's acknowledged messages have not come.
func (s *subscriber) missing(p *publisher) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range int(p.acked.Load()) {
		if s.got[p.id+" "+strconv.Itoa(i+1)] == 0 {
			n++
		}
	}
	return n
}

func (s *subscriber) take(_ mqtt.Client, m mqtt.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got[strings.TrimPrefix(m.Topic(), "t/")+" "+string(m.Payload())]++
}

func (s *subscriber) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong = append(s.wrong, err)
}

func (s *subscriber) run(ready chan struct{}) {
	for subscribed := false; ; {
		lost := make(chan struct{})
		c := mqtt.NewClient(s.settings(s.id).SetDefaultPublishHandler(s.take).
			SetConnectionLostHandler(func(mqtt.Client, error) { close(lost) }))
		tok := c.Connect()
		if !tok.WaitTimeout(5*time.Second) || tok.Error() != nil {
			select {
			case <-s.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			continue
		}
		if present := tok.(*mqtt.ConnectToken).SessionPresent(); present != subscribed {
			s.fail(fmt.Errorf("session present: %v, want %v", present, subscribed))
		}
		if !subscribed {
			tok := c.Subscribe("t/#", s.qos, nil)
			if !tok.WaitTimeout(patience) || tok.Error() != nil {
				s.fail(errors.New("no SUBACK"))
			}
			subscribed = true
			close(ready)
		}
		leave := time.Duration(20+s.rnd.IntN(300)) * time.Millisecond
		if s.stay.Load() {
			leave = time.Hour
		}
		for stay := true; stay; {
			select {
			case <-lost:
				s.mu.Lock()
				s.lost++
				s.mu.Unlock()
				stay = false
			case <-time.After(leave):
				s.mu.Lock()
				s.left++
				s.mu.Unlock()
				stay = false
			case <-s.stop:
				c.Disconnect(100)
				return
			}
		}
		c.Disconnect(0)
		if !s.stay.Load() {
			time.Sleep(time.Duration(s.rnd.IntN(200)) * time.Millisecond)
		}
	}
}
