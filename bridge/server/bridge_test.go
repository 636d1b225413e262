package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/deploy/await"
	"github.com/tidemill/tidemill/shadow/service"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute // for what must come; no test waits so long

// A bridge is a whole one that runs in this process.
type bridge struct {
	*Server
	t       testing.TB
	log     *lines
	http    *http.Client // speaks to the admin socket
	stop    func() error // ends Run and returns its error
	stopped func() error // waits for the end of Run

	sick    atomic.Bool  // every sync of the log fails
	advance atomic.Int64 // ns that the shadows' clock is ahead
	oldest  uint64       // of looked
}

// disk is the machine's, which fails when sick is set.
func (b *bridge) disk() vfs.FS {
	return errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if b.sick.Load() && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData ||
			op.Kind == errorfs.OpFileSyncTo) {
			return errSick
		}
		return nil
	}))
}

var errSick = errors.New("the disk is sick")

func (b *bridge) now() time.Time { return time.Now().Add(time.Duration(b.advance.Load())) }

// lines keeps what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// configure returns the configuration of a bridge over a new directory.
func configure(t testing.TB) *config.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "bridge") // shorter than t.TempDir, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg, err := config.Load("", func(string) string { return "" },
		map[string]string{"data_dir": filepath.Join(dir, "data"), "mqtt.listen": "127.0.0.1:0",
			"https.listen": "127.0.0.1:0", "admin.listen": "127.0.0.1:0", "log.level": "debug"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.MQTT.Events = false // tests count what is in the log
	return cfg
}

// idle makes a bridge that does not run yet.
func idle(t testing.TB, cfg *config.Config) *bridge {
	t.Helper()
	b := &bridge{t: t, log: &lines{}}
	log := slog.New(slog.NewJSONHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if b.Server, err = open(Options{Config: cfg, Version: "test", Log: log}, pebble.Options{Log: log, FS: b.disk()},
		service.Options{Log: log, Now: b.now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil && !b.sick.Load() {
			t.Error(err)
		}
	})
	return b
}

// start runs a bridge until the test ends.
func start(t testing.TB, cfg *config.Config) *bridge {
	t.Helper()
	return idle(t, cfg).run(cfg)
}

// run runs a bridge that is open until the test ends.
func (b *bridge) run(cfg *config.Config) *bridge {
	b.t.Helper()
	return b.answers(cfg, 200)
}

// answers runs a bridge until the test ends, once /readyz answers so.
func (b *bridge) answers(cfg *config.Config, code int) *bridge {
	t := b.t
	t.Helper()
	if err := b.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", cfg.Admin.Socket)
	}}
	b.http = &http.Client{Transport: tr}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	b.stopped = sync.OnceValue(func() error { return <-ran })
	b.stop = func() error {
		tr.CloseIdleConnections()
		cancel()
		return b.stopped()
	}
	t.Cleanup(func() {
		if err := b.stop(); err != nil && !b.sick.Load() {
			t.Errorf("Run: %v", err)
		}
	})
	b.eventually("ready", func() bool {
		resp, err := http.Get("http://" + b.admin.Addr().String() + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		http.DefaultClient.CloseIdleConnections()
		_, err = os.Stat(cfg.Admin.Socket)
		return resp.StatusCode == code && err == nil
	})
	return b
}

// again stops the bridge and returns one that goes on with what it left.
func (b *bridge) again(cfg *config.Config) *bridge {
	b.t.Helper()
	if err := errors.Join(b.stop(), b.Close()); err != nil {
		b.t.Fatal(err)
	}
	return start(b.t, cfg)
}

func (b *bridge) eventually(what string, ok func() bool) {
	b.t.Helper()
	if !await.Holds(ok) {
		b.t.Fatalf("not in %v: %s\n%s", await.Patience, what, b.log)
	}
}

// do asks the admin socket and returns status and body.
func (b *bridge) do(method, path, body string) (int, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, "http://bridge"+path, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	resp, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// must is do, of which 200 is wanted and decoded into out if that is not nil.
func (b *bridge) must(method, path, body string, out any) {
	b.t.Helper()
	code, text := b.do(method, path, body)
	if code != 200 {
		b.t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(text), out); err != nil {
			b.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
}

func (b *bridge) update(f func(*registry.Tx) error) {
	b.t.Helper()
	if err := b.registry.Update(f); err != nil {
		b.t.Fatal(err)
	}
}

// thing makes a thing through the admin socket. policy, if not empty, takes the
// place of the standard one.
func (b *bridge) thing(name, policy string) identity {
	b.t.Helper()
	var id identity
	b.must("POST", "/v1/things", `{"name":"`+name+`"}`, &id)
	if policy != "" {
		b.must("PUT", "/v1/policies/of-"+name, policy, nil)
		b.must("POST", "/v1/policies/of-"+name+"/targets", `{"certificate":"`+id.CertificateID+`"}`, nil)
		b.must("DELETE", "/v1/policies/tidemill-thing/targets/"+id.CertificateID, "", nil)
	}
	return id
}

// all is a policy that allows everything but the action given.
func all(denied, resource string) string {
	deny := ""
	if denied != "" {
		deny = `,{"Effect":"Deny","Action":"` + denied + `","Resource":"arn:aws:iot:eu-local-1:000000000000:` +
			resource + `"}`
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}` + deny + `]}`
}

// An identity is what a device connects with.
type identity struct{ admin.Identity }

func (id identity) tls(t testing.TB) *tls.Config {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(id.Certificate), []byte(id.Key))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(id.CA)) {
		t.Fatal("no CA")
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: "localhost"}
}

// A device is a client of paho's over mutual TLS.
type device struct {
	mqtt.Client
	t    testing.TB
	lost chan error
	got  chan mqtt.Message
}

// dial returns a client that has not connected.
func (b *bridge) dial(id identity, clientID string, clean bool) *device {
	d := &device{t: b.t, lost: make(chan error, 1), got: make(chan mqtt.Message, 100)}
	o := mqtt.NewClientOptions().AddBroker("ssl://" + b.MQTTAddr().String()).SetClientID(clientID).
		SetTLSConfig(id.tls(b.t)).SetProtocolVersion(
		4).SetCleanSession(clean).SetAutoReconnect(false).SetConnectTimeout(patience)
	o.OnConnectionLost = func(_ mqtt.Client, err error) { d.lost <- err }
	o.DefaultPublishHandler = func(_ mqtt.Client, m mqtt.Message) { d.got <- m }
	d.Client = mqtt.NewClient(o)
	b.t.Cleanup(func() { d.Disconnect(50) })
	return d
}

func (b *bridge) connect(id identity, clientID string) *device {
	b.t.Helper()
	d := b.dial(id, clientID, true)
	d.ok(d.Connect())
	return d
}

func (d *device) wait(tok mqtt.Token) error {
	d.t.Helper()
	if !tok.WaitTimeout(patience) {
		d.t.Fatal("no answer")
	}
	return tok.Error()
}

func (d *device) ok(tok mqtt.Token) {
	d.t.Helper()
	if err := d.wait(tok); err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) publish(topic, payload string) {
	d.t.Helper()
	d.ok(d.Publish(topic, 1, false, payload))
}

// subscribe returns the granted quality of service, 0x80 for a refusal.
func (d *device) subscribe(filter string) byte {
	d.t.Helper()
	tok := d.Subscribe(filter, 1, nil)
	_ = d.wait(tok)
	return tok.(*mqtt.SubscribeToken).Result()[filter]
}

// ends waits until the server has closed the connection.
func (d *device) ends() {
	d.t.Helper()
	select {
	case <-d.lost:
	case <-time.After(patience):
		d.t.Fatal("still connected")
	}
}

// next returns the topic and payload of the next message.
func (d *device) next() string {
	d.t.Helper()
	select {
	case m := <-d.got:
		return m.Topic() + " " + string(m.Payload())
	case <-time.After(patience):
		d.t.Fatal("no message")
		return ""
	}
}

// MQTTAddr is where devices connect, once Listen returned; there must be no
// broker.
func (s *Server) MQTTAddr() net.Addr { return s.mqtt.Addr() }
