package uplink

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

func TestKindsOfFailure(t *testing.T) {
	other := newAuthority(t, "other CA")
	connack := func(code byte) func(*conn) { return func(c *conn) { c.accept(code); _, _ = c.Read(make([]byte, 1)) } }
	dialError := func(err error) func(*Options, *broker) {
		return func(o *Options, _ *broker) {
			o.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, err }
		}
	}
	serverCert := func(c tls.Certificate) func(*Options, *broker) {
		return func(_ *Options, b *broker) { b.conf.Certificates = []tls.Certificate{c} }
	}
	// bare is a device without a certificate, at a broker that wants none.
	bare := func(user string) func(*Options, *broker) {
		return func(o *Options, b *broker) {
			b.conf.ClientAuth = tls.NoClientCert
			f := o.TLS
			o.TLS = func() (*tls.Config, error) { c, err := f(); c.Certificates = nil; return c, err }
			o.User, o.Password = user, func() (string, error) { return "x", nil }
		}
	}
	for _, c := range []struct {
		name   string
		script func(*conn)
		set    func(*Options, *broker)
		setCA  func(*Options, *broker, *authority)
		kind   Kind
		text   string
	}{
		{name: "DNS", set: dialError(&net.DNSError{Err: "no such host", Name: "broker.test", IsNotFound: true}),
			kind: KindDNS, text: "broker.test"},
		{name: "TCP refused", set: dialError(&net.OpError{Op: "dial",
			Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}), kind: KindRefused, text: "nothing listens"},
		{name: "no route", set: dialError(&net.OpError{Op: "dial",
			Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}), kind: KindUnreachable},
		{name: "dial times out", set: func(o *Options, _ *broker) {
			o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }
		}, kind: KindTimeout},
		{name: "own key", set: func(o *Options, _ *broker) {
			o.TLS = func() (*tls.Config, error) { return nil, errors.New("open key.pem: no such file") }
		}, kind: KindIdentity, text: "key.pem"},
		{name: "wrong CA", set: serverCert(other.issue(t, "broker.test", longAgo, farOff)), kind: KindServerCA,
			text: "uplink.ca"},
		{name: "server expired", setCA: func(o *Options, b *broker, ca *authority) {
			serverCert(ca.issue(t, "broker.test", longAgo, longAgo.AddDate(1, 0, 0)))(o, b)
		}, kind: KindServerExpired},
		{name: "server not yet valid", setCA: func(o *Options, b *broker, ca *authority) {
			serverCert(ca.issue(t, "broker.test", farOff.AddDate(-1, 0, 0), farOff))(o, b)
		}, kind: KindServerEarly, text: "clock"},
		{name: "server name", setCA: func(o *Options, b *broker, ca *authority) {
			serverCert(ca.issue(t, "elsewhere.test", longAgo, farOff))(o, b)
		}, kind: KindServerName, text: `"broker.test"`},
		{name: "our certificate refused, TLS 1.3", set: func(_ *Options, b *broker) {
			b.conf.ClientCAs = other.pool
		}, kind: KindClientCert, text: "uplink.cert"},
		{name: "our certificate refused, TLS 1.2", set: func(_ *Options, b *broker) {
			b.conf.ClientCAs, b.conf.MaxVersion = other.pool, tls.VersionTLS12
		}, kind: KindClientCert},
		{name: "no certificate of ours", set: func(o *Options, _ *broker) {
			f := o.TLS
			o.TLS = func() (*tls.Config, error) { c, err := f(); c.Certificates = nil; return c, err }
		}, kind: KindClientCert, text: `set uplink.security = "mutual-tls"`},
		{name: "no TLS 1.2", set: func(_ *Options, b *broker) {
			b.conf.MinVersion, b.conf.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, kind: KindTLS},
		{name: "CONNACK 1", script: connack(1), kind: KindProtocol},
		{name: "CONNACK 2", script: connack(2), kind: KindClientID, text: "press-7"},
		{name: "CONNACK 3", script: connack(3), kind: KindUnavailable},
		{name: "CONNACK 4", script: connack(4), kind: KindCredentials, text: "does not accept this certificate"},
		{name: "CONNACK 5", script: connack(5), kind: KindNotAuthorized, text: "policy"},
		{name: "CONNACK 7", script: connack(7), kind: KindNotAuthorized, text: "policy"},
		{name: "CONNACK 4 to a user", script: connack(4), set: bare("pi"), kind: KindCredentials,
			text: `user "pi" as client id "press-7": uplink.user, password_file, or a right is wrong (CONNACK 4)`},
		{name: "CONNACK 5 to a user", script: connack(5), set: bare("pi"), kind: KindNotAuthorized,
			text: "password_file, or a right is wrong (CONNACK 5)"},
		{name: "CONNACK 7 to a user", script: connack(7), set: bare("pi"), kind: KindNotAuthorized,
			text: "password_file, or a right is wrong (CONNACK 7)"},
		{name: "CONNACK 4 to nobody", script: connack(4), set: bare(""), kind: KindCredentials,
			text: "set uplink.user and password_file"},
		{name: "CONNACK 5 to nobody", script: connack(5), set: bare(""), kind: KindNotAuthorized,
			text: "set uplink.user and password_file"},
		{name: "CONNACK 5 to a user with a certificate", script: connack(5), set: func(o *Options, _ *broker) {
			o.User, o.Password = "pi", func() (string, error) { return "x", nil }
		}, kind: KindNotAuthorized, text: `user "pi" with the certificate in uplink.cert`},
		{name: "CONNACK 200", script: connack(200), kind: KindProtocol},
		{name: "not MQTT", script: func(c *conn) {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		}, kind: KindProtocol},
		{name: "no CONNACK", script: func(c *conn) { _, _ = c.Read(make([]byte, 1)) }, kind: KindTimeout},
		{name: "closed before CONNACK", script: func(c *conn) { _ = c.Conn.Close() }, kind: KindClosed},
		{name: "closed on PUBLISH", script: func(c *conn) {
			c.accept(0)
			c.answer(func(*packets.PublishPacket) bool { return false })
		},
			kind: KindClosed, text: "PUBLISH to $tidemill/batch"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.script == nil {
				c.script = connack(0)
			}
			b, ca := newBroker(t, c.script)
			o := b.options(t, ca)
			o.BackoffMin, o.BackoffMax = time.Hour, time.Hour // the first error stays to be seen
			if c.set != nil {
				c.set(&o, b)
			}
			if c.setCA != nil {
				c.setCA(&o, b, ca)
			}
			dial := o.Dial
			if dial != nil && c.set == nil {
				o.Dial = b.dialTCP
			}
			// Times pass in the bubble of each case where it has to wait.
			check := func(t *testing.T) {
				u, stop := start(t, b, newFifo(1), o)
				st := u.Status()
				for range 400 {
					if st = u.Status(); st.ErrorKind != "" {
						break
					}
					time.Sleep(100 * time.Millisecond)
				}
				stop()
				t.Logf("%s: %s", st.ErrorKind, st.Error)
				if st.ErrorKind != c.kind || !strings.Contains(st.Error, c.text) {
					t.Errorf("kind %q %q, want %q with %q", st.ErrorKind, st.Error, c.kind, c.text)
				}
			}
			if c.kind == KindTimeout {
				o.Dial = dial
				synctest.Test(t, check)
			} else {
				check(t)
			}
		})
	}
}

func TestTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ca := newBroker(t, func(c *conn) {
			c.accept(0)
			time.Sleep(3 * time.Second)
			_ = c.Conn.Close()
		})
		u, stop := start(t, b, newFifo(0), b.options(t, ca))
		time.Sleep(time.Minute)
		if st := u.Status(); st.ErrorKind != KindTakenOver || !strings.Contains(st.Error, "client id press-7") {
			t.Errorf("%+v", st)
		}
		stop()
	})
}
