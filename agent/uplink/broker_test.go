package uplink

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// A bubble of testing/synctest starts in 2000, the rest of the tests run now.
var (
	longAgo = time.Date(1995, 1, 1, 0, 0, 0, 0, time.UTC)
	farOff  = time.Date(2095, 1, 1, 0, 0, 0, 0, time.UTC)
)

// An authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: longAgo, NotAfter: farOff, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	a := &authority{cert: cert, key: key, pool: x509.NewCertPool()}
	a.pool.AddCert(cert)
	return a
}

func (a *authority) issue(t *testing.T, name string, from, to time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		DNSNames:  []string{name},
		NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A broker is a stub: each connection runs script, which sees every packet.
type broker struct {
	t      *testing.T
	conf   *tls.Config
	script func(c *conn)
	wg     sync.WaitGroup

	mu    sync.Mutex
	conns int
}

// A conn is one client's connection to the stub.
type conn struct {
	net.Conn
	raw     net.Conn
	n       int // number of the connection, from 1
	connect *packets.ConnectPacket
}

func newBroker(t *testing.T, script func(*conn)) (*broker, *authority) {
	ca := newAuthority(t, "test CA")
	b := &broker{t: t, script: script, conf: &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "broker.test", longAgo, farOff)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.pool, MinVersion: tls.VersionTLS12}}
	return b, ca
}

// serve runs the script on the server's side of raw.
func (b *broker) serve(raw net.Conn) {
	b.wg.Go(func() {
		c := &conn{Conn: tls.Server(raw, b.conf), raw: raw}
		defer raw.Close()
		p, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		c.connect, _ = p.(*packets.ConnectPacket)
		b.mu.Lock()
		b.conns++
		c.n = b.conns
		b.mu.Unlock()
		b.script(c)
	})
}

// dial is an Options.Dial over net.Pipe.
func (b *broker) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	b.serve(server)
	return client, nil
}

// dialTCP is an Options.Dial over the loopback.
func (b *broker) dialTCP(ctx context.Context, network, _ string) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	client, err := (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
	if err != nil {
		return nil, err
	}
	server, err := l.Accept()
	if err != nil {
		return nil, err
	}
	b.serve(server)
	return client, nil
}

func (c *conn) write(p packets.ControlPacket) { _ = p.Write(c) }

func (c *conn) accept(code byte) {
	a := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
	a.ReturnCode = code
	c.write(a)
}

func (c *conn) puback(id uint16) {
	a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
	a.MessageID = id
	c.write(a)
}

// answer reads packets, answers all but PUBLISH as a broker does, and hands
// each PUBLISH to on, until the client goes or on returns false.
func (c *conn) answer(on func(*packets.PublishPacket) bool) {
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.PublishPacket:
			if !on(p) {
				return
			}
		case *packets.SubscribePacket:
			a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			a.MessageID, a.ReturnCodes = p.MessageID, slices.Clone(p.Qoss)
			c.write(a)
		case *packets.PingreqPacket:
			c.write(packets.NewControlPacket(packets.Pingresp))
		case *packets.DisconnectPacket:
			return
		}
	}
}

// options are what a test's uplink needs to talk to b.
func (b *broker) options(t *testing.T, ca *authority) Options {
	cert := ca.issue(t, "press-7", longAgo, farOff)
	return Options{Endpoint: "broker.test:8883", ClientID: "press-7", Topic: "$tidemill/batch", Dial: b.dial,
		TLS: func() (*tls.Config, error) {
			return &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{cert}}, nil
		}}
}

// A fifo is a queue in memory that checks what it is told.
type fifo struct {
	mu    sync.Mutex
	items [][]byte // number i+1
	acked map[uint64]bool
	order []uint64
	more  chan struct{}
	bad   error
}

func newFifo(n int) *fifo {
	f := &fifo{acked: map[uint64]bool{}, more: make(chan struct{})}
	for range n {
		f.add()
	}
	return f
}

func (f *fifo) add() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.items = append(f.items, fmt.Appendf(nil, "%d", len(f.items)+1))
	close(f.more)
	f.more = make(chan struct{})
}

func (f *fifo) Next(ctx context.Context, after uint64) (uint64, []byte, error) {
	for {
		f.mu.Lock()
		if f.bad != nil {
			defer f.mu.Unlock()
			return 0, nil, f.bad
		}
		for i := after; i < uint64(len(f.items)); i++ {
			if !f.acked[i+1] {
				defer f.mu.Unlock()
				return i + 1, f.items[i], nil
			}
		}
		more := f.more
		f.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
}

func (f *fifo) Ack(seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.acked[seq] = true
	f.order = append(f.order, seq)
}

func (f *fifo) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.items) - len(f.acked)
}

// start runs an uplink; stop ends it and the broker and waits for both.
func start(t *testing.T, b *broker, q Queue, o Options) (u *Uplink, stop func()) {
	u = New(q, o)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	return u, sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("Run:", err)
		}
		b.wg.Wait()
	})
}
