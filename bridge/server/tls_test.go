package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// knock does a TLS handshake and a CONNECT and returns the CONNACK code, or the
// error that ended it before.
func (b *bridge) knock(conf *tls.Config, clientID string) (code byte, resumed bool, err error) {
	return b.knockAt(b.MQTTAddr(), conf, clientID)
}

func (b *bridge) knockAt(addr net.Addr, conf *tls.Config, clientID string) (code byte, resumed bool, err error) {
	c, err := tls.Dial("tcp", addr.String(), conf)
	if err != nil {
		return 0, false, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	hello := packet.Connect{Version: packet.V311, Clean: true, ClientID: clientID}
	if _, err := c.Write(hello.Append(nil, packet.V311)); err != nil {
		return 0, false, err
	}
	var answer [4]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return 0, false, err
	}
	return answer[3], c.ConnectionState().DidResume, nil
}

// A resumed session is judged as a new one is: by the certificate it began
// with, and by what the registry says now.
func TestResumedAndRevoked(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			b := start(t, configure(t))
			id := b.thing("dev", "")
			conf := id.tls(t)
			conf.MaxVersion = version
			conf.ClientSessionCache = tls.NewLRUClientSessionCache(8)
			for i, want := range []struct {
				code    byte
				resumed bool
			}{{0, false}, {0, true}, {0, true}, {4, true}} {
				if i == 2 { // the keys of tickets outlive the process
					if err := errors.Join(b.stop(), b.Close()); err != nil {
						t.Fatal(err)
					}
					b = start(t, b.cfg)
				}
				if i == 3 {
					b.must("POST", "/v1/certificates/"+id.CertificateID, `{"status":"REVOKED"}`, nil)
				}
				code, resumed, err := b.knock(conf, "dev")
				if err != nil || code != want.code || resumed != want.resumed {
					t.Errorf("%d: code %d, resumed %v, %v; want %+v", i, code, resumed, err, want)
				}
			}
		})
	}
}

// A session that was begun on one port is judged as well when it is resumed on
// the other; one without a certificate is none to the port that needs one.
func TestResumedElsewhere(t *testing.T) {
	for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		b := start(t, configure(t))
		id := b.thing("dev", "")
		conf := id.tls(t)
		conf.MaxVersion, conf.NextProtos, conf.ClientSessionCache = version, []string{"x-amzn-mqtt-ca"},
			tls.NewLRUClientSessionCache(8)
		for _, want := range []byte{0, 4} {
			for i, addr := range []net.Addr{b.MQTTAddr(), b.https.Addr(), b.MQTTAddr(), b.https.Addr()} {
				if code, resumed, err := b.knockAt(addr, conf, "dev"); err != nil || code != want ||
					resumed != (i > 0 || want > 0) {
					t.Errorf("%s: %d: code %d, resumed %v, %v; want %d", name, i, code, resumed, err, want)
				}
			}
			b.must("POST", "/v1/certificates/"+id.CertificateID, `{"status":"REVOKED"}`, nil)
		}
		bare := &tls.Config{RootCAs: b.roots(), ServerName: "localhost", MaxVersion: version,
			NextProtos: []string{"x-amzn-mqtt-ca"}, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
		if code, _, err := b.knockAt(b.https.Addr(), bare, "dev"); err != nil || code != 5 {
			t.Errorf("%s: without a certificate: code %d, %v", name, code, err)
		}
		if code, resumed, err := b.knock(bare, "dev"); err == nil {
			t.Errorf("%s: without a certificate: code %d, resumed %v", name, code, resumed)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	}
}

func TestHandshakesRefused(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("dev", "")
	if code, _, err := b.knock(id.tls(t), "dev"); err != nil || code != 0 {
		t.Fatalf("code %d, %v", code, err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	expired := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "expired"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, expired, expired, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	// registered and active all the same
	b.provision(t, "expired", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	for name, change := range map[string]func(*tls.Config){
		"no certificate": func(c *tls.Config) { c.Certificates = nil },
		"expired certificate": func(c *tls.Config) {
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
		},
		"TLS 1.1":          func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"another protocol": func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} },
		"no forward secrecy": func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12,
				[]uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_128_CBC_SHA}
		},
	} {
		conf := id.tls(t)
		change(conf)
		if code, _, err := b.knock(conf, "expired"); err == nil {
			t.Errorf("%s: CONNACK %d", name, code)
		}
	}
	for _, proto := range []string{"x-amzn-mqtt-ca", "mqtt"} {
		conf := id.tls(t)
		conf.NextProtos = []string{proto}
		if code, _, err := b.knock(conf, "dev"); err != nil || code != 0 {
			t.Errorf("ALPN %s: %d, %v", proto, code, err)
		}
	}
}
