package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An outsideCA signs server certificates that the bridge did not make.
type outsideCA struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newOutsideCA(t *testing.T) *outsideCA {
	t.Helper()
	ca := &outsideCA{t: t}
	var err error
	if ca.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "outside"}, IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(1000 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return ca
}

// write puts a certificate for names with its chain into f, valid until end, and
// returns it.
func (ca *outsideCA) write(f Files, end time.Time, names ...string) *x509.Certificate {
	ca.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial(), DNSNames: names,
		NotBefore: end.Add(-500 * time.Hour), NotAfter: end}, ca.cert, key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	keyPEM, err := encodeKey(key)
	if err == nil {
		err = errors.Join(os.WriteFile(f.Cert, append(encodeCert(der), encodeCert(ca.cert.Raw)...), 0o644),
			os.WriteFile(f.Key, keyPEM, 0o600))
	}
	leaf, e := x509.ParseCertificate(der)
	if err = errors.Join(err, e); err != nil {
		ca.t.Fatal(err)
	}
	return leaf
}

// shown returns the certificate that a listener shows to a client now.
func shown(t *testing.T, c *tls.Config) *x509.Certificate {
	t.Helper()
	pair, err := c.GetCertificate(&tls.ClientHelloInfo{ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// A certificate of files is served on its listener alone, is read again without an
// end to connections, and what is wrong leaves the one before.
func TestServedFiles(t *testing.T) {
	dir := t.TempDir()
	f := Files{filepath.Join(dir, "own.pem"), filepath.Join(dir, "own-key.pem")}
	ca, end := newOutsideCA(t), time.Now().Add(400*time.Hour)
	first := ca.write(f, end, "localhost")
	p := open(t, filepath.Join(dir, "pki"), Options{MQTT: f, ServerNames: []string{"bridge.example.org"}})
	mqtt, https := p.MQTTConfig(), p.HTTPSConfig()
	if !shown(t, mqtt).Equal(first) || !shown(t, https).Equal(p.server.Leaf) {
		t.Error("not the certificate of the file on the device listener alone")
	}
	if !p.Serves("localhost") || p.Serves("bridge.example.org") {
		t.Error("Serves does not go by the certificate of the file")
	}
	if want := append(p.CA(), encodeCert(ca.cert.Raw)...); !bytes.Equal(p.Trusted(), want) {
		t.Errorf("devices are to trust %s", p.Trusted())
	}

	client, server := connected(t, ca, p, mqtt)
	log := slog.New(slog.DiscardHandler)
	second := ca.write(f, end, "localhost")
	if err := p.ReloadServed(log); err != nil || !shown(t, mqtt).Equal(second) {
		t.Errorf("not the new certificate: %v", err)
	}
	if err := os.WriteFile(f.Cert, []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.ReloadServed(log); err == nil || !strings.Contains(err.Error(), "mqtt.cert: "+f.Cert) ||
		!shown(t, mqtt).Equal(second) {
		t.Errorf("a torn file: %v", err)
	}
	go func() { _, _ = server.Write([]byte("x")) }()
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Errorf("the connection of before: %v", err)
	}
}

// Without the CA at the end of its file, devices cannot be given it, and that is said.
func TestServedFilesWithoutTheirCA(t *testing.T) {
	dir := t.TempDir()
	f := Files{filepath.Join(dir, "own.pem"), filepath.Join(dir, "own-key.pem")}
	ca := newOutsideCA(t)
	leaf := ca.write(f, time.Now().Add(400*time.Hour), "localhost")
	for _, c := range []struct {
		text      []byte
		untrusted string
		warned    int
	}{{append(encodeCert(leaf.Raw), encodeCert(ca.cert.Raw)...), "", 0}, {encodeCert(leaf.Raw), f.Cert, 1}} {
		if err := os.WriteFile(f.Cert, c.text, 0o644); err != nil {
			t.Fatal(err)
		}
		p := open(t, filepath.Join(dir, "pki"), Options{MQTT: f, HTTPS: f})
		var log bytes.Buffer
		for _, s := range p.served() {
			s.warn(nil, slog.New(slog.NewTextHandler(&log, nil)))
		}
		if p.Untrusted() != c.untrusted || strings.Count(log.String(), "does not end with its CA") != c.warned {
			t.Errorf("untrusted %q, want %q; %s", p.Untrusted(), c.untrusted, &log)
		}
		if c.untrusted != "" && !bytes.Equal(p.Trusted(), p.CA()) {
			t.Errorf("devices are to trust %s", p.Trusted())
		}
	}
}

// connected is a connection of a device over the loopback.
func connected(t *testing.T, ca *outsideCA, p *PKI, conf *tls.Config) (client, server net.Conn) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.(*tls.Conn).Handshake()
		}
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	device, err := p.Issue("dev")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(device.CertPEM, device.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	if client, err = tls.Dial("tcp", l.Addr().String(),
		&tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{pair}}); err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// A start is refused with files that no client would take.
func TestServedFilesRefused(t *testing.T) {
	ca := newOutsideCA(t)
	good := time.Now().Add(400 * time.Hour)
	for name, test := range map[string]struct {
		do   func(f Files)
		want string
	}{
		"expired":  {func(f Files) { ca.write(f, time.Now().Add(-time.Hour), "localhost") }, "expired on"},
		"not yet":  {func(f Files) { ca.write(f, time.Now().Add(501*time.Hour), "localhost") }, "not valid before"},
		"no names": {func(f Files) { ca.write(f, good) }, "names no host"},
		"missing":  {func(Files) {}, "no such file"},
		"another key": {func(f Files) {
			ca.write(f, good, "a")
			ca.write(Files{f.Cert + ".other", f.Key}, good, "a")
		}, "does not match"},
		"key for others": {func(f Files) {
			ca.write(f, good, "localhost")
			if err := os.Chmod(f.Key, 0o644); err != nil {
				t.Error(err)
			}
		}, "chmod 600"},
	} {
		dir := t.TempDir()
		f := Files{filepath.Join(dir, "own.pem"), filepath.Join(dir, "own-key.pem")}
		test.do(f)
		if _, err := Open(filepath.Join(dir, "pki"), Options{HTTPS: f}); err == nil ||
			!strings.Contains(err.Error(), "https.cert: ") ||
			!strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
		if err := CheckFiles(f); err == nil {
			t.Errorf("%s: the check passes", name)
		}
	}
}

// Files that change are served by themselves, a wrong one is told once, and so is
// a name of the configuration that the certificate does not have.
func TestServedFilesWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := Files{filepath.Join(dir, "own.pem"), filepath.Join(dir, "own-key.pem")}
		ca := newOutsideCA(t)
		end := time.Now().Add(400 * time.Hour)
		ca.write(f, end, "*.plant.example")
		p := open(t, filepath.Join(dir, "pki"),
			Options{MQTT: f, ServerNames: []string{"a.plant.example", "*.plant.example", "b.other.example"}})
		conf := p.MQTTConfig()
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, nil))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.WatchServed(ctx, log) }()
		pass := func() { time.Sleep(4*lookEvery + lookEvery/2); synctest.Wait() }
		pass()
		second := ca.write(f, end, "a.plant.example", "*.plant.example", "b.other.example")
		pass()
		if !shown(t, conf).Equal(second) {
			t.Error("the new certificate is not served")
		}
		if err := os.WriteFile(f.Cert, []byte("torn"), 0o644); err != nil {
			t.Fatal(err)
		}
		pass()
		if !shown(t, conf).Equal(second) {
			t.Error("a torn file took the certificate away")
		}
		third := ca.write(f, end, "a.plant.example", "*.plant.example", "b.other.example")
		pass()
		if !shown(t, conf).Equal(third) {
			t.Error("the certificate after a torn one is not served")
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for want, n := range map[string]int{"a new server certificate is served": 2,
			"is not served, the one before stays": 1,
			"not for a name":                      1, "name=b.other.example": 1} {
			if got := strings.Count(text.String(), want); got != n {
				t.Errorf("%q is logged %d times, want %d:\n%s", want, got, n, &text)
			}
		}
	})
}
