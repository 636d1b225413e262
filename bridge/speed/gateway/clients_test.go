package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/mqtttest"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/deploy/await"
)

// authority signs certificates for one test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	der, key := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "test CA"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	a.key = key
	a.cert, _ = x509.ParseCertificate(der)
	a.pool.AddCert(a.cert)
	return a
}

// sign makes a certificate; the first one signs itself.
func (a *authority) sign(c *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

func (a *authority) leaf(name string) tls.Certificate {
	der, key := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// files writes the CA, the certificate and its key as PEM.
func (a *authority) files(c tls.Certificate) (ca, cert, key string) {
	a.t.Helper()
	dir := a.t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		a.t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			a.t.Fatal(err)
		}
		return path
	}
	return write("ca.pem", "CERTIFICATE", a.cert.Raw), write("cert.pem", "CERTIFICATE", c.Certificate[0]),
		write("key.pem", "PRIVATE KEY", der)
}

// startTLS runs a server that asks for client certificates and knows a client by
// its certificate's common name.
func startTLS(t *testing.T, conf Config, a *authority) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := startOn(t, conf, nil, tls.NewListener(l, &tls.Config{
		Certificates: []tls.Certificate{a.leaf("server")}, ClientAuth: tls.RequireAndVerifyClientCert,
		ClientCAs:  a.pool,
		NextProtos: []string{"x-amzn-mqtt-ca", "mqtt"},
	}))
	f.addr = l.Addr().String()
	f.policy.connect = func(c *Connect) error {
		if c.TLS == nil || len(c.TLS.PeerCertificates) == 0 ||
			!strings.HasPrefix(c.ClientID, c.TLS.PeerCertificates[0].Subject.CommonName) {
			return ErrNotAuthorized
		}
		return nil
	}
	return f
}

// paho over mutual TLS: every QoS, wildcards, retained messages, wills,
// persistent sessions and reconnection.
func TestPaho(t *testing.T) {
	a := newAuthority(t)
	f := startTLS(t, Config{}, a)
	client := func(id string, set func(*mqtt.ClientOptions)) mqtt.Client {
		t.Helper()
		o := mqtt.NewClientOptions().AddBroker("ssl://" +
			f.addr).SetClientID(id).SetConnectRetry(false).SetAutoReconnect(false).
			SetTLSConfig(&tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.leaf("dev")}})
		if set != nil {
			set(o)
		}
		c := mqtt.NewClient(o)
		wait(t, c.Connect())
		t.Cleanup(func() { c.Disconnect(0) })
		return c
	}
	var mu sync.Mutex
	var got []string
	note := func(_ mqtt.Client, m mqtt.Message) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, fmt.Sprintf("%s %s %d %v", m.Topic(), m.Payload(), m.Qos(), m.Retained()))
	}
	have := func(n int) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return len(got) >= n }
	}

	p := client("dev-p", nil)
	wait(t, p.Publish("r/x", 1, true, "kept"))
	s := client("dev-s", func(o *mqtt.ClientOptions) { o.SetCleanSession(false).SetDefaultPublishHandler(note) })
	wait(t, s.SubscribeMultiple(map[string]byte{"q/+": 2, "r/#": 1}, note))
	await.True(t, "the retained message", have(1))
	for qos := range 3 {
		wait(t, p.Publish(fmt.Sprintf("q/%d", qos), byte(qos), false, "live"))
	}
	await.True(t, "three messages", have(4))
	await.True(t, "their acknowledgements", func() bool { return f.Stats().QueueBytes == 0 })
	s.Disconnect(0)
	await.True(t, "s is away", func() bool { return f.Stats().Clients == 1 })
	wait(t, p.Publish("q/3", 1, false, strings.Repeat("x", 100000)))
	wait(t, p.Publish("q/4", 2, false, "missed"))
	s = client("dev-s", func(o *mqtt.ClientOptions) { o.SetCleanSession(false).SetDefaultPublishHandler(note) })
	await.True(t, "what was missed", have(6))
	wait(t, s.Unsubscribe("q/+"))

	// A will, of a client that another one replaces.
	lost := make(chan error, 1)
	client("dev-w", func(o *mqtt.ClientOptions) {
		o.SetWill("r/will", "gone", 1, false).SetConnectionLostHandler(func(_ mqtt.Client, err error) { lost <- err })
	})
	w := client("dev-w", nil)
	<-lost
	await.True(t, "the will", have(7))
	w.Disconnect(0)
	want := []string{"r/x kept 1 true", "q/0 live 0 false", "q/1 live 1 false", "q/2 live 2 false",
		"q/3 " + strings.Repeat("x", 100000) + " 1 false", "q/4 missed 2 false", "r/will gone 1 false"}
	mu.Lock()
	if !slices.Equal(got, want) {
		t.Errorf("got %.300q\nwant %.300q", got, want)
	}
	mu.Unlock()

	// Many at once, from several goroutines.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 250 {
				if tok := p.Publish("many", byte(i%3), false, "x"); !tok.WaitTimeout(patience) || tok.Error() != nil {
					t.Errorf("publish %d: %v", i, tok.Error())
				}
			}
		})
	}
	wg.Wait()

	// Another name than the certificate's; no certificate.
	bad := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + f.addr).SetClientID("other").
		SetTLSConfig(&tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.leaf("dev")}}))
	if tok := bad.Connect(); !tok.WaitTimeout(patience) || tok.Error() == nil {
		t.Errorf("a wrong name: %v", tok.Error())
	}
	if f.Stats().Refused[packet.NotAuthorized] == 0 {
		t.Error("the refusal was not counted")
	}
	if nc, err := tls.Dial("tcp", f.addr, &tls.Config{RootCAs: a.pool}); err == nil {
		nc.SetDeadline(time.Now().Add(patience))
		if _, err := nc.Read(make([]byte, 1)); err == nil {
			t.Error("a client without certificate was served")
		}
		nc.Close()
	}
}

func wait(t *testing.T, tok mqtt.Token) {
	t.Helper()
	if !tok.WaitTimeout(patience) {
		t.Fatal("no answer")
	}
	if err := tok.Error(); err != nil {
		t.Fatal(err)
	}
}

// mosquitto's own clients over mutual TLS.
func TestMosquittoClients(t *testing.T) {
	pubPath, subPath := installed(t, "mosquitto_pub", "mosquitto-clients"),
		installed(t, "mosquitto_sub", "mosquitto-clients")
	a := newAuthority(t)
	f := startTLS(t, Config{}, a)
	ca, cert, key := a.files(a.leaf("m"))
	host, port, _ := net.SplitHostPort(f.addr)
	run := func(path string, args ...string) *exec.Cmd {
		cmd := exec.Command(path, append([]string{"-h", host, "-p", port, "--cafile", ca, "--cert", cert, "--key", key,
			"-V", "311"}, args...)...)
		cmd.Stderr = os.Stderr
		return cmd
	}
	for qos := range 3 {
		q := fmt.Sprint(qos)
		sub := run(subPath, "-i", "m-sub", "-q", q, "-t", "m/+/x", "-t", "m/#", "-C", "3", "-W", "60", "-F",
			"%t %q %r %p")
		var out strings.Builder
		sub.Stdout = &out
		if err := sub.Start(); err != nil {
			t.Fatal(err)
		}
		await.True(t, "mosquitto_sub subscribed", func() bool { return f.Stats().Subscriptions == 2 })
		for i, args := range [][]string{{"-t", "m/1/x", "-m", "one"}, {"-t", "m", "-n"},
			{"-t", "m/2", "-m", "kept", "-r"}} {
			if err := run(pubPath, append(args, "-i", fmt.Sprintf("m-pub-%d", i), "-q", q)...).Run(); err != nil {
				t.Fatalf("mosquitto_pub: %v", err)
			}
		}
		if err := sub.Wait(); err != nil {
			t.Fatalf("mosquitto_sub: %v", err)
		}
		want := fmt.Sprintf("m/1/x %d 0 one\nm %d 0 \nm/2 %d 0 kept\n", qos, qos, qos)
		if out.String() != want {
			t.Errorf("QoS %d: got %q, want %q", qos, out.String(), want)
		}
		await.True(t, "mosquitto_sub is gone", func() bool { return f.Stats().Subscriptions == 0 })
		got, err := run(subPath, "-i", "m-late", "-t", "m/+", "-C", "1", "-W", "60", "-F", "%r %p").Output()
		if err != nil || string(got) != "1 kept\n" {
			t.Errorf("retained: %q, %v", got, err)
		}
		f.Deliver(&message.Message{Topic: "m/2", Retain: true}, nil)
	}
	// Many lines through one connection.
	sub := run(subPath, "-i", "m-sub", "-q", "1", "-t", "lines", "-C", "2000", "-W", "60")
	var lines, out strings.Builder
	sub.Stdout = &out
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	await.True(t, "mosquitto_sub subscribed", func() bool { return f.Stats().Subscriptions == 1 })
	for i := range 2000 {
		fmt.Fprintln(&lines, i)
	}
	p := run(pubPath, "-i", "m-pub", "-q", "1", "-t", "lines", "-l")
	p.Stdin = strings.NewReader(lines.String())
	if err := p.Run(); err != nil {
		t.Fatal(err)
	}
	if err := sub.Wait(); err != nil || out.String() != lines.String() {
		t.Errorf("2000 lines: %v, %d bytes of %d", err, out.Len(), lines.Len())
	}
	if b, err := exec.Command(pubPath, "-h", host, "-p", port, "--cafile", ca, "--cert", cert, "--key", key, "-V", "5",
		"-i", "m-5", "-t", "m", "-q", "2", "-m", "five").CombinedOutput(); err != nil {
		t.Errorf("version 5: %v: %s", err, b)
	}
}

// The load generator, over TLS, with all messages delivered.
func TestLoad(t *testing.T) {
	a := newAuthority(t)
	f := startTLS(t, Config{Log: slog.New(slog.DiscardHandler), OutBytes: 64 << 20}, a)
	r, err := mqtttest.Run(t.Context(), mqtttest.Options{Addr: f.addr,
		TLS:     &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.leaf("load")}},
		Clients: 5, InFlight: 10, Duration: 200 * time.Millisecond, Subscribers: 1, QoS: 1})
	if err != nil || r.Acked == 0 || r.Acked != r.Sent {
		t.Fatalf("%+v, %v", r, err)
	}
	if st := f.Stats(); st.DroppedQueue != 0 || st.PacketsIn[packet.PUBLISH] != r.Sent {
		t.Errorf("%+v, %+v", r, st)
	}
	t.Logf("%+v", r)
}
