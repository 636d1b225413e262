package e2e

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// secretWord is in whatever the attempts publish; nobody may ever receive it.
const secretWord = "bypass_5e1d"

// answerTime is how long a bridge may take; a refusal is never to be waited for.
const answerTime = patience

// A wire is a client that sends what it is told to.
type wire struct {
	net.Conn
	in *packet.Reader
	v  packet.Version
}

func (f *fleet) tls(i identity) *tls.Config {
	f.t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(i.dir, "cert.pem"), filepath.Join(i.dir, "key.pem"))
	f.must(err)
	conf := f.anonymous()
	conf.Certificates = []tls.Certificate{pair}
	return conf
}

// anonymous trusts the bridge and has no certificate.
func (f *fleet) anonymous() *tls.Config {
	f.t.Helper()
	text, err := os.ReadFile(filepath.Join(f.bridge.Dir, "pki", "ca.pem"))
	f.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return &tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// hello connects. What refuses it is the error.
func (f *fleet) hello(conf *tls.Config, c packet.Connect) (*wire, error) {
	d := net.Dialer{Timeout: answerTime}
	nc, err := tls.DialWithDialer(&d, "tcp", f.bridge.MQTT, conf)
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	if c.Version == 0 {
		c.Version = packet.V311
	}
	w := &wire{nc, packet.NewReader(nc, 4096, 1<<20), c.Version}
	if err := w.send(&c); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	var ack packet.Connack
	if err := w.read(packet.CONNACK, &ack); err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	if ack.Code != 0 {
		return nil, errors.Join(fmt.Errorf("CONNACK 0x%02x", ack.Code), nc.Close())
	}
	return w, nil
}

func (w *wire) send(p interface {
	Append([]byte, packet.Version) []byte
}) error {
	_ = w.SetDeadline(time.Now().Add(answerTime))
	_, err := w.Write(p.Append(nil, w.v))
	return err
}

// read reads packets up to one of type t. That none comes in time is a panic:
// an attempt is refused or it is not.
func (w *wire) read(t packet.Type, p interface {
	Decode(byte, []byte, packet.Version) error
}) error {
	for {
		first, body, _, err := w.in.Next()
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			panic("the bridge does not answer")
		}
		switch {
		case err != nil:
			return errors.New("connection closed")
		case packet.Type(first>>4) == packet.DISCONNECT:
			return errors.New("DISCONNECT")
		case packet.Type(first>>4) == t:
			return p.Decode(first, body, w.v)
		}
	}
}

func (w *wire) publish(topic string, payload []byte, retain bool) error {
	return w.publishRaw(&packet.Publish{QoS: 1, ID: 7, Retain: retain, Topic: []byte(topic), Payload: payload})
}

func (w *wire) publishRaw(p *packet.Publish) error {
	if err := w.send(p); err != nil {
		return err
	}
	var ack packet.Ack
	if err := w.read(packet.PUBACK, &ack); err != nil {
		return err
	}
	if ack.Reason >= 0x80 {
		return fmt.Errorf("PUBACK 0x%02x", ack.Reason)
	}
	return nil
}

func (w *wire) subscribe(filters ...string) error {
	s := packet.Subscribe{ID: 9}
	for _, x := range filters {
		s.Filters = append(s.Filters, packet.Filter{Filter: x, Options: 1})
	}
	if err := w.send(&s); err != nil {
		return err
	}
	var ack packet.Suback
	if err := w.read(packet.SUBACK, &ack); err != nil {
		return err
	}
	for _, c := range ack.Codes {
		if c >= packet.SubFailure {
			return fmt.Errorf("SUBACK 0x%02x", c)
		}
	}
	return nil
}

// An authority is a CA that is not the bridge's.
type authority struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func (f *fleet) newAuthority(name string) *authority {
	f.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.must(err)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	f.must(err)
	a := &authority{key: key}
	a.cert, err = x509.ParseCertificate(der)
	f.must(err)
	return a
}

// issue writes a certificate and its key to a folder; end is when it ends.
func (f *fleet) issue(a *authority, serial int64, name string, end time.Time) identity {
	f.t.Helper()
	dir := filepath.Join(f.dir, "foreign", fmt.Sprint(name, serial, end.Unix()))
	f.must(os.MkdirAll(dir, 0o700))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.must(err)
	der, err := x509.CreateCertificate(rand.Reader,
		&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: end.Add(-2 * time.Hour), NotAfter: end}, a.cert, key.Public(), a.key)
	f.must(err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	f.must(err)
	f.write(filepath.Join(dir, "key.pem"), "PRIVATE KEY", raw)
	f.write(filepath.Join(dir, "cert.pem"), "CERTIFICATE", der)
	return identity{name, dir}
}

func (f *fleet) write(path, kind string, der []byte) string {
	f.t.Helper()
	f.must(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

func (f *fleet) command(args ...string) string {
	f.t.Helper()
	out, err := f.bridge.Command(f.ctx, args...)
	if err != nil {
		f.t.Fatalf("%q: %v\n%s", args, err, out)
	}
	return string(out)
}

// with makes a thing that has the policy of these statements and no other;
// @ stands for the beginning of ARNs.
func (f *fleet) with(name string, statements ...string) identity {
	f.t.Helper()
	i := f.thing(name)
	id := f.certificate(i)
	doc := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	f.command("policy", "put", "of-"+name, "-document",
		strings.ReplaceAll(doc, "@", "arn:aws:iot:eu-local-1:000000000000:"))
	f.command("policy", "attach", "of-"+name, id)
	f.command("policy", "detach", "tidemill-thing", id)
	return i
}

func statement(effect, actions, resource string) string {
	return fmt.Sprintf(`{"Effect":%q,"Action":["iot:%s"],"Resource":%q}`, effect,
		strings.ReplaceAll(actions, " ", `","iot:`), resource)
}

// TestBypass tries to get round certificates and policies. Each attempt must be
// refused, and at the end nobody may have received anything of them.
func TestBypass(t *testing.T) {
	f := newBridge(t, "", nil)
	op := f.newOperator()
	watcher := f.connect(op)
	watcher.subscribe("#", "$aws/things/+/shadow/#", "$aws/events/#")

	alice, mallory := f.thing("alice"), f.thing("mallory")
	roamer := f.with("roamer", statement("Allow", "Connect", "@client/*"),
		statement("Allow", "Publish Receive", "@topic/c/${iot:ClientId}/*"),
		statement("Allow", "Subscribe", "@topicfilter/c/${iot:ClientId}/*"))
	sharer := f.with("sharer", statement("Allow", "Connect", "@client/sharer"),
		statement("Allow", "Subscribe", "@topicfilter/*"),
		statement("Deny", "Subscribe", "@topicfilter/secret/*"), statement("Allow", "Receive", "@topic/*"),
		statement("Allow", "Publish", "@topic/open/*"))
	batcher := f.with("batcher", statement("Allow", "Connect", "@client/batcher"),
		statement("Allow", "Publish", "@topic/$tidemill/batch"),
		statement("Allow", "Publish", "@topic/dt/batcher/mine"))
	victim := f.connect(alice)
	payload := []byte(secretWord)

	// dial connects somebody who may.
	dial := func(i identity, v packet.Version) *wire {
		w, err := f.hello(f.tls(i), packet.Connect{Version: v, Clean: true, ClientID: i.id})
		if err != nil {
			t.Fatalf("%s cannot connect: %v", i.id, err)
		}
		return w
	}
	// What must work, else the refusals say nothing.
	control := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("control: %s: %v", what, err)
		}
	}
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		w := dial(mallory, v)
		control("own topic", w.publish("dt/mallory/x", []byte("{}"), false))
		control("own commands", w.subscribe("cmd/mallory/x"))
		w.Close()
	}
	w := dial(sharer, packet.V311)
	control("open topic", w.publish("open/x", []byte("{}"), false))
	control("share", w.subscribe("$share/g/open/x"))
	w.Close()
	w = dial(roamer, packet.V311)
	control("client's topic", w.publish("c/roamer/x", []byte("{}"), false))
	w.Close()

	var err error
	n, allowed := 0, 0
	try := func(group, what string, err error) {
		t.Helper()
		n++
		result := "let through"
		if err != nil {
			result = "refused: " + err.Error()
			if len(result) > 90 {
				result = result[:90]
			}
		} else {
			allowed++
			t.Errorf("%s, %s: let through", group, what)
		}
		t.Logf("%-12s %-64q %s", group, what, result)
	}
	knock := func(what string, conf *tls.Config, c packet.Connect) {
		t.Helper()
		c.Clean = true
		w, err := f.hello(conf, c)
		if err == nil {
			w.Close()
		}
		try("connect", what, err)
	}
	publish := func(i identity, topic string, retain bool) {
		t.Helper()
		for _, v := range []packet.Version{packet.V311, packet.V5} {
			w := dial(i, v)
			err := w.publish(topic, payload, retain)
			w.Close()
			try(fmt.Sprintf("publish %d", v), topic, err)
		}
	}
	subscribe := func(i identity, filter string) {
		t.Helper()
		w := dial(i, packet.V311)
		err := w.subscribe(filter)
		w.Close()
		try("subscribe", i.id+": "+filter, err)
	}

	// Topics.
	for _, topic := range []string{
		"dt/alice/temp", "cmd/alice/stop", "cmd/mallory/stop", "presence/alice", "dt/Mallory/x", "DT/mallory/x",
		"dt/mallory", "/dt/mallory/x", "dt//mallory/x",
		"$aws/things/alice/shadow/update", "$aws/things/alice/shadow/name/x/update", "$AWS/things/alice/shadow/update",
		"$aws/things/ALICE/shadow/update",
		"$aws/things/mallory/../alice/shadow/update", "$aws/things/mallory/shadow/update/accepted",
		"$aws/things/alice/shadow/get",
		"$aws/rules/hot/dt/alice/temp", "$aws/rules/hot", "$aws/events/presence/connected/alice",
		"$aws/certificates/create/json", "$SYS/x",
		"dt/%61lice/temp", "dt%2Falice%2Ftemp", "dt/mallor\u0443/x", "dt/mallory\u200b/x", "d\u0442/mallory/x",
		"dt/mallory\u2044x",
		"dt/+/x", "dt/mallory/+", "dt/mallory/#", "#", "+", "dt/mallory/x\x00", "dt/mallory\x00/../alice/x",
		"dt/mallory/\xc0\xaf", "dt/mallory/\xed\xa0\x80", "dt/mallory/\xff", "",
		"dt/mallory/" + strings.Repeat("a/", 40) + "x", "dt/mallory/" + strings.Repeat("a", 5000),
		"arn:aws:iot:eu-local-1:000000000000:topic/dt/mallory/x", "dt/${iot:ClientId}/x",
	} {
		publish(mallory, topic, false)
	}
	publish(sharer, "open/kept", true)
	publish(sharer, "$share/g/open/x", false)
	for _, filter := range []string{
		"#", "+/#", "$aws/#", "$aws/things/#", "$aws/things/+/shadow/#", "$aws/things/alice/shadow/#", "cmd/#",
		"cmd/+/x", "cmd/alice/x", "CMD/mallory/x", "cmd/mallory",
		"cmd/mallory#", "cmd/#/x", "$share/g/cmd/alice/x", "$share/g/#", "$share//cmd/mallory/x", "$share/g",
		"$share/+/cmd/mallory/x", "$share/cmd/mallory/x",
		"cmd/mallory\x00/x", "cmd/mallor\u0443/x", "", "$SYS/#", "$aws/rules/#",
	} {
		subscribe(mallory, filter)
	}
	for _, filter := range []string{"secret/#", "$share/g/secret/#", "$share/secret/secret/x", "$share/g/secret/+/x"} {
		subscribe(sharer, filter)
	}

	// Client ids with wildcards: a subscription may be had, what comes is judged.
	for _, id := range []string{"+", "#", "*", "?", "${iot:ClientId}", "../alice"} {
		w, err := f.hello(f.tls(roamer), packet.Connect{Clean: true, ClientID: id})
		if err != nil {
			try("client id", id, err)
			continue
		}
		err = w.publish("c/alice/x", payload, false)
		try("client id", id+" publishes on c/alice/x", err)
		w.Close()
		if w, err = f.hello(f.tls(roamer), packet.Connect{Clean: true, ClientID: id}); err != nil {
			continue
		}
		if err := w.subscribe("c/" + id + "/x"); err != nil {
			try("client id", id+" subscribes to its topic", err)
			w.Close()
			continue
		}
		watcher.publish("c/alice/x", "private")
		_ = w.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		first, body, _, err := w.in.Next()
		if err == nil {
			err = nil
			t.Logf("got 0x%02x %q", first, body)
		} else {
			err = errors.New("nothing arrives")
		}
		try("client id", id+" hears of c/alice/x", err)
		w.Close()
	}

	// The durable session of another principal, whose client id may be taken.
	w, err = f.hello(f.tls(sharer), packet.Connect{ClientID: "sharer"})
	control("durable session", err)
	control("its subscription", w.subscribe("open/#"))
	w.Close()
	watcher.publish("open/queued", "private")
	w, err = f.hello(f.tls(roamer), packet.Connect{ClientID: "sharer"})
	control("client id that may be taken", err)
	_ = w.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if first, body, _, err := w.in.Next(); err == nil {
		t.Logf("got 0x%02x %q", first, body)
		try("takeover", "what is queued for another principal", nil)
	} else {
		try("takeover", "what is queued for another principal", errors.New("nothing arrives"))
	}
	w.Close()

	// Batches.
	var b telemetry.Builder
	f.must(b.Add("secret", []telemetry.Channel{{Name: secretWord, Kind: telemetry.Float}}, time.Now().UnixMilli(),
		[]telemetry.Value{telemetry.FloatValue(1)}))
	raw, err := telemetry.Append(nil, b.Batch(telemetry.Header{Spool: [16]byte{1}, Seq: 1, Boot: [16]byte{2}}))
	f.must(err)
	w = dial(batcher, packet.V311)
	control("a batch", w.publish(telemetry.Topic, raw, false))
	w.Close()
	refusedReadings := func() error {
		m, err := f.bridge.Metrics(f.ctx)
		f.must(err)
		if n := m["tidemill_ingest_refused_readings_total"]; n != 1 {
			t.Errorf("%v readings were refused", n)
			return nil
		}
		return errors.New("its reading is dropped")
	}
	try("batch", "sensor that policy does not allow", refusedReadings())

	// Wills.
	for _, v := range []packet.Version{packet.V311, packet.V5} {
		for _, will := range []string{"dt/alice/gone", "$aws/things/alice/shadow/update", "cmd/#", "dt/mallory/\x00"} {
			knock("will to "+will, f.tls(mallory),
				packet.Connect{Version: v, ClientID: "mallory", HasWill: true, WillTopic: will, WillPayload: payload})
		}
	}
	knock("retained will without RetainPublish", f.tls(sharer),
		packet.Connect{ClientID: "sharer", HasWill: true, WillRetain: true, WillTopic: "open/w", WillPayload: payload})

	// Client ids of others.
	knock("client id of another thing, which is connected", f.tls(mallory), packet.Connect{ClientID: "alice"})
	knock("client id in another case", f.tls(mallory), packet.Connect{ClientID: "Mallory"})
	knock("client id with NUL", f.tls(mallory), packet.Connect{ClientID: "mallory\x00"})
	knock("client id of not UTF-8", f.tls(mallory), packet.Connect{ClientID: "mallory\xc0\x80"})
	knock("no client id", f.tls(mallory), packet.Connect{})
	knock("client id *", f.tls(mallory), packet.Connect{ClientID: "*"})
	knock("user name and password of nobody", f.anonymous(), packet.Connect{ClientID: "alice", HasUsername: true,
		Username: "admin", HasPassword: true, Password: []byte("admin")})
	if !victim.IsConnected() {
		t.Error("the thing whose client id was taken has lost its connection")
	}

	// Certificates.
	knock("no certificate", f.anonymous(), packet.Connect{ClientID: "mallory"})
	old := f.tls(mallory)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	knock("TLS 1.1", old, packet.Connect{ClientID: "mallory"})
	self := filepath.Join(f.dir, "self")
	f.must(os.MkdirAll(self, 0o700))
	f.must(selfSigned(self, "alice"))
	knock("self-signed certificate in another's name", f.tls(identity{"alice", self}),
		packet.Connect{ClientID: "alice"})
	other, err := pki.Open(t.TempDir(), pki.Options{})
	f.must(err)
	issued, err := other.Issue("alice")
	f.must(err)
	pair, err := tls.X509KeyPair(issued.CertPEM, issued.KeyPEM)
	f.must(err)
	conf := f.anonymous()
	conf.Certificates = []tls.Certificate{pair}
	knock("certificate of another bridge, whose CA has the same name", conf, packet.Connect{ClientID: "alice"})
	stolen := f.tls(alice)
	stolen.Certificates[0].PrivateKey = pair.PrivateKey
	knock("another's certificate without its key", stolen, packet.Connect{ClientID: "alice"})
	ca := f.newAuthority("Foreign CA")
	hour := time.Now().Add(time.Hour)
	knock("certificate of a CA that nobody registered", f.tls(f.issue(ca, 2, "alice", hour)),
		packet.Connect{ClientID: "alice"})
	chain := f.tls(f.issue(ca, 3, "alice", hour))
	block, _ := pem.Decode(must(os.ReadFile(filepath.Join(alice.dir, "cert.pem"))))
	chain.Certificates[0].Certificate = append(chain.Certificates[0].Certificate, block.Bytes)
	knock("another's certificate behind the own one in the chain", chain, packet.Connect{ClientID: "alice"})

	expired, early := f.issue(ca, 4, "expired", time.Now().Add(-time.Minute)),
		f.issue(ca, 5, "early", time.Now().Add(4*time.Hour))
	for _, i := range []identity{expired, early} {
		out := f.command("cert", "register", filepath.Join(i.dir, "cert.pem"), "-pinned")
		f.command("policy", "attach", "operator", strings.Fields(out)[1])
		knock("pinned certificate that is "+i.id, f.tls(i), packet.Connect{ClientID: i.id})
	}
	caFile := f.write(filepath.Join(f.dir, "ca.pem"), "CERTIFICATE", ca.cert.Raw)
	caID := strings.Fields(f.command("cert", "ca", "register", caFile, "-mode", "SNI_ONLY", "-activate",
		"-auto-register"))[1]
	jit := f.issue(ca, 6, "newcomer", hour)
	knock("first connection by a CA that registers by itself", f.tls(jit), packet.Connect{ClientID: "newcomer"})
	knock("second, before anybody has activated it", f.tls(jit), packet.Connect{ClientID: "newcomer"})
	block, _ = pem.Decode(must(os.ReadFile(filepath.Join(jit.dir, "cert.pem"))))
	jitID := pki.Fingerprint(block.Bytes)
	if out := f.command("cert", "show", jitID); !strings.Contains(out, "PENDING_ACTIVATION") ||
		!strings.Contains(out, caID) {
		t.Errorf("registered by the first connection: %s", out)
	}
	f.command("cert", "activate", jitID)
	knock("activated, without a policy", f.tls(jit), packet.Connect{ClientID: "newcomer"})
	f.command("policy", "attach", "operator", jitID)
	control("activated, with a policy", func() error {
		w, err := f.hello(f.tls(jit), packet.Connect{Clean: true, ClientID: "newcomer"})
		if err == nil {
			w.Close()
		}
		return err
	}())
	crl, err := x509.CreateRevocationList(rand.Reader,
		&x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: hour,
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(6),
				RevocationTime: time.Now()},
				{SerialNumber: big.NewInt(7), RevocationTime: time.Now()}}}, ca.cert, ca.key)
	f.must(err)
	t.Log("\n" + f.command("cert", "import-crl", f.write(filepath.Join(f.dir, "list.crl"), "X509 CRL", crl)))
	knock("certificate that its CA has revoked", f.tls(jit), packet.Connect{ClientID: "newcomer"})
	knock("first connection of one that its CA has revoked", f.tls(f.issue(ca, 7, "revoked", hour)),
		packet.Connect{ClientID: "revoked"})
	f.command("cert", "ca", "deactivate", caID)
	knock("first connection by a CA that is inactive", f.tls(f.issue(ca, 8, "late", hour)),
		packet.Connect{ClientID: "late"})

	// What ends while it is used.
	for _, end := range []struct {
		name string
		args func(id string) []string
	}{
		{"deactivated", func(id string) []string { return []string{"cert", "deactivate", id} }},
		{"revoked", func(id string) []string { return []string{"cert", "revoke", id} }},
		{"detached", func(id string) []string { return []string{"policy", "detach", "tidemill-thing", id} }},
	} {
		i := f.thing(end.name)
		conf := f.tls(i)
		conf.ClientSessionCache = tls.NewLRUClientSessionCache(4)
		resumed := false
		conf.VerifyConnection = func(s tls.ConnectionState) error { resumed = s.DidResume; return nil }
		w, err := f.hello(conf, packet.Connect{Clean: true, ClientID: i.id})
		control(end.name+" before", err)
		control(end.name+" before", w.publish("dt/"+i.id+"/x", []byte("{}"), false))
		f.command(end.args(f.certificate(i))...)
		try("live", end.name+" while connected: publish", w.publish("dt/"+i.id+"/x", payload, false))
		w.Close()
		knock(end.name+": connect by a resumed TLS session", conf, packet.Connect{ClientID: i.id})
		if !resumed {
			t.Errorf("%s: the TLS session was not resumed", end.name)
		}
		knock(end.name+": connect anew", f.tls(i), packet.Connect{ClientID: i.id})
	}

	// Floods.
	w = dial(sharer, packet.V311)
	var bomb []string
	for i := range 5000 {
		bomb = append(bomb, fmt.Sprint("open/", i))
	}
	try("flood", "5,000 filters in one SUBSCRIBE", w.subscribe(bomb...))
	w.Close()
	w = dial(sharer, packet.V311)
	try("flood", "filter of 2,000 levels", w.subscribe("open"+strings.Repeat("/+", 2000)))
	w.Close()
	w = dial(sharer, packet.V311)
	try("flood", "PUBLISH of 8 MiB", w.publish("open/x", bytes.Repeat([]byte(secretWord), (8<<20)/len(secretWord)),
		false))
	w.Close()
	w = dial(sharer, packet.V311)
	_, err = w.Write([]byte{0x30, 0xff, 0xff, 0xff, 0x7f})
	if err == nil {
		_ = w.SetReadDeadline(time.Now().Add(answerTime))
		_, err = io.ReadFull(w, make([]byte, 1))
	}
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		err = nil
	}
	try("flood", "PUBLISH that announces 256 MiB", err)
	w.Close()

	// HTTPS and WebSocket.
	ask := func(what string, conf *tls.Config, method, path string, header http.Header) {
		t.Helper()
		tr := &http.Transport{TLSClientConfig: conf}
		defer tr.CloseIdleConnections()
		var body io.Reader
		if method == "POST" {
			body = bytes.NewReader(payload)
		}
		req, err := http.NewRequestWithContext(f.ctx, method, "https://"+f.bridge.HTTPS+path, body)
		f.must(err)
		if header != nil {
			req.Header = header
		}
		resp, err := (&http.Client{Transport: tr, Timeout: answerTime}).Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusSwitchingProtocols && resp.StatusCode/100 != 2 {
				err = errors.New(resp.Status)
			}
		}
		try("HTTPS", what, err)
	}
	upgrade := func() http.Header {
		return http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
			"Sec-Websocket-Key": {"AAAAAAAAAAAAAAAAAAAAAA=="}, "Sec-Websocket-Protocol": {"mqtt"}}
	}
	ask("publish on another's topic", f.tls(mallory), "POST", "/topics/dt/alice/x?qos=1", nil)
	ask("publish on another's topic, slashes encoded", f.tls(mallory), "POST", "/topics/dt%2Falice%2Fx?qos=1", nil)
	ask("publish on another's topic, by ..", f.tls(mallory), "POST",
		"/topics/dt/mallory/%2e%2e/%2e%2e/dt/alice/x?qos=1", nil)
	ask("publish without a certificate", f.anonymous(), "POST", "/topics/dt/mallory/x?qos=1", nil)
	ask("publish by a stranger's certificate", conf, "POST", "/topics/dt/alice/x?qos=1", nil)
	ask("another's shadow", f.tls(mallory), "GET", "/things/alice/shadow", nil)
	ask("update of another's shadow", f.tls(mallory), "POST", "/things/alice/shadow", nil)
	ask("WebSocket without a certificate and a signature", f.anonymous(), "GET", "/mqtt", upgrade())
	ask("WebSocket with a wrong signature", f.anonymous(), "GET",
		"/mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDX%2F20300101%2Feu-local-1%2Fiotdevicegateway%2Faws4_request&X-Amz-Date=20300101T000000Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00",
		upgrade())
	from := upgrade()
	from.Set("Origin", "https://evil.example")
	ask("WebSocket of a page of another site, by the browser's certificate", f.tls(mallory), "GET", "/mqtt", from)

	// Nothing of it has reached anybody.
	watcher.publish("end", "end")
	for m := range watcher.messages {
		if bytes.Contains(m.Payload(), payload) {
			t.Errorf("received on %s: %.80q", m.Topic(), m.Payload())
		}
		if m.Topic() == "end" {
			break
		}
	}
	t.Logf("%d attempts, %d let through", n, allowed)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
