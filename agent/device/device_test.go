package device

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/health"
	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/agent/uplink"
	"github.com/tidemill/tidemill/deploy/await"
	"github.com/tidemill/tidemill/hal/sim"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A cloud is a broker and shadow service for one device, as little as needed.
type cloud struct {
	t    *testing.T
	conf *tls.Config
	pool *x509.CertPool
	wg   sync.WaitGroup
	seen chan struct{} // something came in

	mu      sync.Mutex
	conn    net.Conn                               // the last
	refuse  bool                                   // two readings of each batch
	time    func(net.Conn, *packets.PublishPacket) // answers who asks for it; nil: a bridge of before
	doc     string                                 // the classic shadow's desired, JSON
	version int
	updates []map[string]any // reported, as sent
	batches map[uint64]*telemetry.Batch
	topics  map[string][]string // payloads of other topics
}

func newCloud(t *testing.T, desired string) *cloud {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"cloud.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	c := &cloud{t: t, doc: desired, version: 5, seen: make(chan struct{}, 1), batches: map[uint64]*telemetry.Batch{},
		topics: map[string][]string{}, pool: x509.NewCertPool(),
		conf: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
			MinVersion: tls.VersionTLS12}}
	c.pool.AddCert(cert)
	return c
}

func (c *cloud) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	c.wg.Go(func() { c.serve(tls.Server(server, c.conf)) })
	return client, nil
}

func (c *cloud) serve(conn net.Conn) {
	defer conn.Close()
	c.mu.Lock()
	c.conn = conn
	c.mu.Unlock()
	for {
		p, err := packets.ReadPacket(conn)
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.ConnectPacket:
			_ = packets.NewControlPacket(packets.Connack).Write(conn)
		case *packets.SubscribePacket:
			a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			a.MessageID, a.ReturnCodes = p.MessageID, slices.Clone(p.Qoss)
			if i := slices.Index(p.Topics, telemetry.Topic); i >= 0 {
				a.ReturnCodes[i] = 0x80 // as a bridge, which only takes it
			}
			if i := slices.Index(p.Topics, telemetry.TimeAnswerTopic); i >= 0 && c.time == nil {
				a.ReturnCodes[i] = 0x80
			}
			_ = a.Write(conn)
		case *packets.PublishPacket:
			a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
			a.MessageID = p.MessageID
			_ = a.Write(conn)
			if p.TopicName == telemetry.TimeTopic && c.time != nil {
				c.wg.Go(func() { c.time(conn, p) })
				continue
			}
			c.take(conn, p)
		case *packets.PingreqPacket:
			_ = packets.NewControlPacket(packets.Pingresp).Write(conn)
		}
	}
}

func (c *cloud) take(conn net.Conn, p *packets.PublishPacket) {
	answer := func(kind string, body map[string]any) {
		m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		m.TopicName = "$aws/things/press-7/shadow/" + kind
		m.Payload, _ = json.Marshal(body)
		_ = m.Write(conn)
	}
	var req struct {
		ClientToken string `json:"clientToken"`
		State       struct {
			Reported map[string]any `json:"reported"`
		} `json:"state"`
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case p.TopicName == telemetry.Topic:
		b, err := telemetry.Decode(p.Payload)
		if err != nil {
			c.t.Error(err)
			return
		}
		c.batches[b.Seq] = b
		if c.refuse {
			m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
			m.TopicName = telemetry.RefusedTopic
			m.Payload = []byte(`{"readings":2,"topics":[{"topic":"dt/press-7/n","readings":2}]}`)
			_ = m.Write(conn)
		}
	case strings.HasSuffix(p.TopicName, "/shadow/get"):
		_ = json.Unmarshal(p.Payload, &req)
		answer("get/accepted", map[string]any{"state": map[string]any{"desired": json.RawMessage(c.doc),
			"delta": json.RawMessage(c.doc)},
			"version": c.version, "timestamp": time.Now().Unix(), "clientToken": req.ClientToken})
	case strings.HasSuffix(p.TopicName, "/shadow/update"):
		_ = json.Unmarshal(p.Payload, &req)
		c.version++
		c.updates = append(c.updates, req.State.Reported)
		answer("update/accepted", map[string]any{"state": map[string]any{"reported": req.State.Reported},
			"version":   c.version,
			"timestamp": time.Now().Unix(), "clientToken": req.ClientToken})
	default:
		c.topics[p.TopicName] = append(c.topics[p.TopicName], string(p.Payload))
	}
	select {
	case c.seen <- struct{}{}:
	default:
	}
}

// until waits for what f asks of the cloud.
func (c *cloud) until(what string, f func() bool) {
	c.t.Helper()
	limit := time.After(await.Patience)
	for {
		c.mu.Lock()
		ok := f()
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-c.seen:
		case <-time.After(50 * time.Millisecond):
		case <-limit:
			c.t.Fatalf("never: %s", what)
		}
	}
}

// reportedAt finds a leaf in any of the updates.
func (c *cloud) reportedAt(want any, path ...string) bool {
	for _, u := range c.updates {
		var v any = u
		for _, k := range path {
			m, _ := v.(map[string]any)
			v = m[k]
		}
		if v == want {
			return true
		}
	}
	return false
}

func testConfig(t *testing.T) config.Config {
	c := config.Default()
	dir := t.TempDir()
	c.Thing, c.DataDir, c.Socket = "press-7", dir, filepath.Join(dir, "s")
	c.Uplink.Endpoint, c.Uplink.ClientID, c.Uplink.PresenceTopic = "cloud.test:8883", "press-7", "presence/press-7"
	ms := func(n int) config.Duration { return config.Duration(time.Duration(n) * time.Millisecond) }
	c.Spool.FlushEvery, c.Shadow.ReportEvery = ms(20), ms(20)
	c.Uplink.BackoffMin, c.Uplink.BackoffMax = ms(10), ms(50)
	c.Sensors = []config.Sensor{
		{Name: "hall", Driver: "bme280", Every: ms(20), Timeout: ms(10000)},
		{Name: "n", Driver: "count", Every: ms(3600_000), Timeout: ms(10000)},
		{Name: "lamp", Driver: "gpio-out", Every: ms(20), Timeout: ms(10000), Options: map[string]any{"line": "sim:4"}},
		{Name: "bad", Driver: "gpio-in", Every: ms(20), Timeout: ms(10000),
			Options: map[string]any{"line": "nowhere:1"}},
	}
	return c
}

func (c *cloud) deps(b *sim.Board) Deps {
	return Deps{Version: "v-test", Board: b, Dial: c.dial, Clock: held, TLS: func() (*tls.Config, error) {
		return &tls.Config{RootCAs: c.pool}, nil
	}}
}

var begun = time.Now().Add(-time.Minute)

// held is a clock that a time service holds.
func held() kernel.Reading {
	return kernel.Reading{Wall: time.Now().Round(0), Boot: time.Since(begun), Synced: true,
		MaxError: time.Millisecond}
}

func start(t *testing.T, a *Agent) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error("Run:", err)
		}
	})
}

// startOn starts an agent on a board, without its socket.
func startOn(t *testing.T, c *cloud, cfg config.Config, b *sim.Board) (a *Agent, stop func()) {
	t.Helper()
	d := c.deps(b)
	d.NoSocket = true
	a, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	return a, start(t, a)
}

func TestWholeAgent(t *testing.T) {
	c := newCloud(t, `{"sensors":{"n":{"every":0.02}},"outputs":{"lamp":{"level":true}}}`)
	cfg, b := testConfig(t), sim.New(sim.Options{Seed: 7})
	a, err := New(cfg, c.deps(b))
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, a)
	defer stop()

	// What was desired while the device was away is applied and reported.
	c.until("interval reported", func() bool { return c.reportedAt(0.02, "sensors", "n", "every") })
	c.until("output reported", func() bool { return c.reportedAt(true, "outputs", "lamp", "level") })
	c.until("version reported", func() bool { return c.reportedAt("v-test", "agent", "version") })
	c.until("the bad sensor's error", func() bool {
		return slices.ContainsFunc(c.updates, func(u map[string]any) bool {
			sensors, _ := u["sensors"].(map[string]any)
			bad, _ := sensors["bad"].(map[string]any)
			text, _ := bad["error"].(string)
			return strings.Contains(text, "no such device")
		})
	})
	if pin, err := b.Pin("sim:4"); err != nil || !pin.Level() {
		t.Errorf("the pin is not high: %v", err)
	}
	c.until("ten batches", func() bool { return len(c.batches) >= 10 })

	body, err := health.Query(t.Context(), cfg.Socket, "/status")
	var st Status
	if err != nil || json.Unmarshal(body, &st) != nil || st.Link.State != uplink.Online || st.Thing != "press-7" ||
		len(st.Sensors) != 4 || st.Sensors[0].Errors == 0 {
		t.Errorf("status %s, %v", body, err)
	}
	page, err := health.Query(t.Context(), cfg.Socket, "/metrics")
	if err != nil || !strings.Contains(string(page), "\ntidemill_agent_online 1\n") ||
		!strings.Contains(string(page), `tidemill_agent_sensor_up{sensor="bad",driver="gpio-in"} 0`) {
		t.Errorf("metrics %s, %v", page, err)
	}
	if _, err := health.Query(t.Context(), cfg.Socket, "/healthz"); err != nil {
		t.Error(err)
	}

	// A reload takes up sensors and names what it cannot take up.
	next := cfg
	next.Sensors = cfg.Sensors[:3]
	next.Uplink.Endpoint, next.Board.Kind = "other:1", "sim"
	if keys := a.Reload(next); !slices.Equal(keys, []string{"board.kind", "uplink.endpoint"}) {
		t.Errorf("need a restart: %v", keys)
	}
	if n := len(a.Status().Sensors); n != 3 {
		t.Errorf("%d sensors after the reload", n)
	}
	stop()
	c.wg.Wait()

	// Everything that was made durable has arrived, in whole batches.
	left, err := spool.Inspect(filepath.Join(cfg.DataDir, "spool.db"))
	if err != nil || left.Batches != 0 || left.Dropped != 0 || left.Appended != left.Acked {
		t.Errorf("spool %+v, %v", left, err)
	}
	readings, numbers := uint64(0), map[int64]bool{}
	for seq := uint64(1); seq <= uint64(len(c.batches)); seq++ {
		got := c.batches[seq]
		if got == nil {
			t.Fatalf("batch %d of %d is missing", seq, len(c.batches))
		}
		readings += uint64(got.Readings())
		for _, s := range got.Series {
			if s.Sensor == "n" {
				for _, col := range s.Columns {
					if col.Name == "n" {
						for _, n := range col.Ints {
							numbers[n] = true
						}
					}
				}
			}
		}
	}
	for n := int64(1); n <= int64(len(numbers)); n++ {
		if !numbers[n] {
			t.Fatalf("number %d of %d is missing", n, len(numbers))
		}
	}
	if readings != left.Appended || len(numbers) == 0 {
		t.Errorf("%d readings arrived of %d, %d numbers", readings, left.Appended, len(numbers))
	}
	if p := c.topics["presence/press-7"]; len(p) != 2 || !strings.Contains(p[0], `"online"`) ||
		!strings.Contains(p[1], `"offline"`) {
		t.Errorf("presence %q", p)
	}

	// The next start applies what was desired without a connection.
	d := c.deps(b)
	d.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, context.DeadlineExceeded }
	b = sim.New(sim.Options{})
	d.Board, d.NoSocket = b, true
	if a, err = New(cfg, d); err != nil {
		t.Fatal(err)
	}
	stop = start(t, a)
	c.until("level and interval without a connection", func() bool {
		pin, _ := b.Pin("sim:4")
		sensors := a.Status().Sensors
		return pin.Level() && sensors[3].Every == "20ms"
	})
	stop()
}

// A private key that others may read, or replace, is not used, and the error says
// what to do.
func TestKeyOfOthersIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := newCloud(t, `{}`)
	cert := c.conf.Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	u := config.Uplink{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "cert.pem"),
		Key: filepath.Join(dir, "key.pem"), Security: config.MutualTLS}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})
	for path, text := range map[string][]byte{u.CA: public, u.Cert: public,
		u.Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := identity(u); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{u.Key: 0o640, dir: 0o770} {
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := identity(u); err == nil || !strings.Contains(err.Error(), "run: chmod ") ||
			!strings.Contains(err.Error(), path) {
			t.Errorf("%s with %o: %v", path, mode, err)
		}
		if err := os.Chmod(path, before.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

// What the bridge's policy refuses shows in the status, and in the log once.
func TestRefusedReadings(t *testing.T) {
	c := newCloud(t, `{}`)
	c.refuse = true
	cfg := testConfig(t)
	cfg.Shadow.Enabled = false
	var log bytes.Buffer
	d := c.deps(sim.New(sim.Options{}))
	d.Log = slog.New(slog.NewTextHandler(&log, nil))
	a, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	if a.Status().Refused != nil {
		t.Error("refused at the start")
	}
	stop := start(t, a)
	c.until("several batches were refused", func() bool {
		st := a.Status().Refused
		return st != nil && st.Readings >= 6
	})
	stop()
	st := a.Status().Refused
	if st.Readings%2 != 0 || !slices.Equal(st.Topics, []string{"dt/press-7/n"}) || time.Since(st.Last) > time.Minute {
		t.Errorf("%+v", st)
	}
	if n := strings.Count(log.String(), "policy refuses readings of this device"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	a.refusals.notice([]byte(`{"readings":-1}`))
	a.refusals.notice([]byte(`no JSON`))
	if got := a.refusals.status().Readings; got != st.Readings {
		t.Errorf("nonsense counts: %d", got)
	}
	c.wg.Wait()
}

func TestPlainJSON(t *testing.T) {
	c := newCloud(t, `{}`)
	cfg := testConfig(t)
	cfg.Shadow.Enabled, cfg.Uplink.Format, cfg.Uplink.Topic = false, "json", "dt/press-7/{sensor}"
	cfg.Sensors = cfg.Sensors[1:2]
	cfg.Sensors[0].Every = config.Duration(20 * time.Millisecond)
	a, err := New(cfg, c.deps(sim.New(sim.Options{})))
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, a)
	c.until("five readings", func() bool { return len(c.topics["dt/press-7/n"]) >= 5 })
	stop()
	c.wg.Wait()
	for i, text := range c.topics["dt/press-7/n"] {
		var r struct{ TS, N int64 }
		if err := json.Unmarshal([]byte(text), &r); err != nil || r.N != int64(i+1) || r.TS == 0 {
			t.Fatalf("reading %d is %s, %v", i, text, err)
		}
	}
}

func TestNewFailsWhole(t *testing.T) {
	cfg := testConfig(t)
	cfg.Socket = filepath.Join(cfg.DataDir, "no", "such", "folder")
	if _, err := New(cfg, Deps{Board: sim.New(sim.Options{})}); err == nil ||
		!strings.Contains(err.Error(), "no/such/folder") {
		t.Error(err)
	}
	// Everything was closed again.
	cfg.Socket = filepath.Join(cfg.DataDir, "s")
	a, err := New(cfg, Deps{Board: sim.New(sim.Options{})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := health.Listen(cfg.Socket); err == nil {
		t.Error("a second listener on the same socket")
	}
	a.Close()
}

// Another identity than the one before is noticed, once.
func TestNoticing(t *testing.T) {
	id, renewed := "a", 0
	conf := withRenewed(func() (*tls.Config, error) { return nil, nil }, func() string { return id },
		func() { renewed++ })
	for _, c := range []struct {
		id      string
		renewed int
	}{{"a", 0}, {"", 0}, {"a", 0}, {"b", 1}, {"b", 1}, {"a", 2}} {
		id = c.id
		if _, err := conf(); err != nil || renewed != c.renewed {
			t.Errorf("%q: %d times, want %d", c.id, renewed, c.renewed)
		}
	}
}

// While another process connects as this device the agent does not, but not for
// ever.
func TestYielding(t *testing.T) {
	busy, now, read := false, time.Unix(0, 0), 0
	conf := unlessBusy(func() (*tls.Config, error) {
		read++
		return nil, nil
	}, func() bool { return busy }, func() time.Time { return now })
	for _, c := range []struct {
		at    time.Duration
		busy  bool
		yield bool
	}{{0, false, false}, {0, true, true}, {yieldFor - 1, true, true}, {yieldFor, true, false},
		{2 * yieldFor, false, false}, {2 * yieldFor, true, true}} {
		before := read
		busy, now = c.busy, time.Unix(0, 0).Add(c.at)
		if _, err := conf(); (err == errYield) != c.yield || (read == before) != c.yield {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
