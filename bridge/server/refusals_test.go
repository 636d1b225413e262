package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// wantRefusal waits for the line of a refusal, with these words.
func (b *bridge) wantRefusal(name string, words ...string) {
	b.t.Helper()
	b.eventually(name+" is told", func() bool {
		for line := range strings.Lines(b.log.String()) {
			ok := strings.Contains(line, `"level":"INFO","msg":"client refused","remote":"127.0.0.1:`) &&
				strings.Contains(line, `"do":"`)
			for _, w := range words {
				ok = ok && strings.Contains(line, w)
			}
			if ok {
				return true
			}
		}
		return false
	})
}

// flushRefusals logs what was counted, and forgets what was logged.
func (b *bridge) flushRefusals() {
	ctx, end := context.WithCancel(b.t.Context())
	end()
	_ = b.refusals.Run(ctx)
}

// Whoever is refused, and whatever is refused to a client, leaves a line with the
// reason in words and what to do.
func TestRefusalsAreTold(t *testing.T) {
	b := start(t, configure(t))
	id, revoked, narrow := b.thing("dev", all("", "")), b.thing("gone", all("", "")),
		b.thing("narrow", all("iot:Publish", "topic/secret"))
	b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(revoked.CertificateID, registry.Revoked) })
	wantRefusal := b.wantRefusal
	addr := b.MQTTAddr().String()
	shake := func(addr string, conf *tls.Config) {
		nc, err := tls.Dial("tcp", addr, conf)
		if err != nil {
			return
		}
		_ = nc.SetDeadline(time.Now().Add(patience))
		_, _ = nc.Read(make([]byte, 1))
		nc.Close()
	}
	shake(addr, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"})
	wantRefusal("no certificate", "give the client a certificate")
	shake(addr, &tls.Config{ServerName: "localhost"}) // does not know our CA
	wantRefusal("another CA", "pki/ca.pem of the data directory, reach it by a name")
	shake(b.https.Addr().String(), &tls.Config{RootCAs: b.roots(), ServerName: "localhost",
		MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
	wantRefusal("an old TLS", "the client has to speak TLS 1.2 or 1.3")
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	fmt.Fprint(nc, string((&packet.Connect{Version: packet.V311, ClientID: "plain"}).Append(nil, packet.V311)))
	wantRefusal("no TLS", "the client does not use TLS")

	_ = b.dial(revoked, "gone", true).Connect().WaitTimeout(patience)
	wantRefusal("a revoked certificate", `"client":"gone"`, "is not active", "cert activate")
	_ = b.dial(b.thing("own", ""), "other", true).Connect().WaitTimeout(patience)
	wantRefusal("another client id", `"client":"other"`, "lets it connect as", "policy test")
	d := b.connect(narrow, "narrow")
	_ = d.wait(d.Publish("secret", 1, false, "x"))
	wantRefusal("a publish", "policy put", `"client":"narrow"`, "to \\\"secret\\\"")
	e := b.connect(id, "dev")
	e.subscribe("$aws/things/dev/jobs/notify")
	wantRefusal("a topic of no service", `"client":"dev"`, "this bridge has no jobs service")

	if c, status := b.wss("wss://"+b.https.Addr().String()+"/mqtt", nil, nil, "mqtt"); c != nil || status != 403 {
		t.Errorf("status %d", status)
	}
	wantRefusal("a WebSocket", "WebSocket refused", "sign /mqtt")

	// A look at the port is none.
	n := strings.Count(b.log.String(), "client refused")
	for range 3 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
	}
	b.eventually("the looks are over", func() bool { return b.gateway.Stats().Connections == 1 })
	for range 20 { // of the same kind within a minute
		d := b.dial(revoked, "gone", true)
		_ = d.Connect().WaitTimeout(patience)
	}
	if got := strings.Count(b.log.String(), "client refused"); got != n {
		t.Errorf("%d lines more", got-n)
	}
}

// What a client sends that ends its connection, or is refused in SUBACK, leaves a
// line with the limit and the setting to change.
func TestRefusedPacketsAreTold(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("dev", all("", ""))
	for _, c := range []struct {
		name  string
		p     packet.Packet
		words []string
	}{
		{"a large payload", &packet.Publish{Topic: []byte("a"), Payload: make([]byte, 130<<10)},
			[]string{"a payload of 133120 bytes, at most 131072", "raise mqtt.max_payload"}},
		{"a packet too large", &packet.Publish{Topic: []byte("a"), Payload: make([]byte, 300<<10)},
			[]string{"PUBLISH of 307207 bytes, at most 196624; of which the payload, at most 131072",
				"raise mqtt.max_payload"}},
		{"a long topic", &packet.Publish{Topic: bytes.Repeat([]byte("a"), 1025)},
			[]string{"of 1025 bytes, at most 1024", "raise mqtt.max_topic"}},
		{"a deep topic", &packet.Publish{Topic: bytes.Repeat([]byte("a/"), 40)},
			[]string{"with 40 slashes, at most 31", "raise mqtt.max_slashes"}},
		{"a wildcard", &packet.Publish{Topic: []byte("a/#")},
			[]string{`wildcard in a topic name`, "as the standard says"}},
		{"a deep filter", &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: strings.Repeat("b/", 50)}}},
			[]string{"with 50 slashes", "raise mqtt.max_slashes"}},
		{"many filters", &packet.Subscribe{ID: 1, Filters: slices.Repeat([]packet.Filter{{Filter: "c"}}, 101)},
			[]string{"a SUBSCRIBE with 101 filters, at most 100", "raise mqtt.max_filters"}},
		{"no filter", &packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "d#"}}},
			[]string{`is no filter`, "as the standard says"}},
		{"a packet of servers", &packet.Suback{ID: 1, Codes: []byte{0}},
			[]string{"SUBACK after CONNECT", "as the standard says"}},
	} {
		b.flushRefusals() // forgets what was logged: the kinds are fewer than the cases
		nc, err := tls.Dial("tcp", b.MQTTAddr().String(), id.tls(t))
		if err != nil {
			t.Fatal(err)
		}
		_, err = nc.Write(c.p.Append((&packet.Connect{Version: packet.V311, ClientID: "dev", Clean: true}).Append(nil,
			packet.V311), packet.V311))
		if err != nil && len(c.p.Append(nil, packet.V311)) < 1<<16 { // what is too large is not read
			t.Error(err)
		}
		b.wantRefusal(c.name, append(c.words, `"client":"dev"`)...)
		nc.Close()
	}
}

// Devices that ask in vain to be provisioned, however often, leave a line for each
// claim and reason, or for their CA, and the next a minute later.
func TestProvisioningRefusalsAreBounded(t *testing.T) {
	b := start(t, configure(t))
	f := newForeign(t)
	leaf := f.leaf(2, "dev")
	const n = 300
	for i := range n {
		for _, claim := range []string{"a", "b"} {
			_, answer := b.Server.provision.Handle(t.Context(),
				&provision.Request{Topic: "$aws/provisioning-templates/none/provision/json",
					Payload: fmt.Appendf(nil, `{"certificateOwnershipToken":"%d"}`, i), Principal: claim})
			if !strings.Contains(string(answer), "InvalidCertificateOwnershipToken") {
				t.Fatalf("%s", answer)
			}
		}
		b.refusals.FirstConnection(leaf, registry.ErrNotFound)
	}
	b.flushRefusals()
	// The machine may be slow: a line a minute.
	if got := strings.Count(b.log.String(), `"a provisioning request was refused"`); got < 4 || got > 12 {
		t.Errorf("%d lines of %d requests", got, 2*n)
	}
	if got := strings.Count(b.log.String(), `"a device could not be provisioned by its first connection"`); got < 2 ||
		got > 6 {
		t.Errorf("%d lines of %d connections", got, n)
	}
}
