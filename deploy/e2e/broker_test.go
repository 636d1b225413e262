package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/mqtttest"
	"github.com/tidemill/tidemill/deploy/rig"
)

// A mosquittoBroker is Debian's, over a directory of its own.
type mosquittoBroker struct {
	rig.Process
	t    testing.TB
	addr string
}

// newMosquitto starts a broker that keeps all that it cannot deliver yet.
func newMosquitto(t testing.TB, settings ...string) *mosquittoBroker {
	t.Helper()
	if !haveProgram("mosquitto") { // Debian has it where only root looks
		t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	}
	need(t, "mosquitto", "mosquitto")
	need(t, "mosquitto_pub", "mosquitto-clients")
	dir := t.TempDir()
	addr, err := rig.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	conf := fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\npersistence true\n"+
		"persistence_location %s/\n%s",
		port, dir, strings.Join(settings, "\n"))
	if os.Geteuid() == 0 {
		conf += "user root\n" // it would not be its own directory otherwise
	}
	path := filepath.Join(dir, "mosquitto.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &mosquittoBroker{t: t, addr: addr,
		Process: rig.Process{Path: "mosquitto", Args: []string{"-c", path}, LogFile: filepath.Join(dir, "log")}}
	t.Cleanup(func() {
		b.Kill()
		if text, err := os.ReadFile(b.LogFile); t.Failed() && err == nil {
			t.Logf("mosquitto:\n%s", text[max(0, len(text)-4000):])
		}
	})
	b.start()
	return b
}

func (b *mosquittoBroker) start() {
	b.t.Helper()
	if err := b.Start(); err != nil {
		b.t.Fatal(err)
	}
	if err := rig.Until(b.t.Context(), "mosquitto", func() (bool, error) {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			return false, err
		}
		return true, c.Close()
	}); err != nil {
		b.t.Fatal(err)
	}
}

// join starts a bridge that has the broker in place of a listener.
func (b *mosquittoBroker) join(settings string, declared map[string]string) *fleet {
	b.t.Helper()
	bin, err := buildOnce()
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	f := &fleet{t: b.t, ctx: ctx, dir: b.t.TempDir()}
	b.t.Cleanup(func() {
		if f.bridge != nil {
			f.bridge.Kill()
		}
		cancel()
		if b.t.Failed() {
			f.showLogs()
		}
	})
	if !strings.Contains(settings, "url = ") {
		settings = fmt.Sprintf("url = \"tcp://%s\"\n%s", b.addr, settings)
	}
	f.bridge, err = rig.NewBridge(bin, f.dir, "[broker]\n"+settings)
	f.must(err)
	path := f.bridge.Process.Args[2] // serve -config PATH
	text, err := os.ReadFile(path)
	f.must(err)
	f.must(os.WriteFile(path, []byte(strings.Replace(string(text), fmt.Sprintf("listen = %q", f.bridge.MQTT), "", 1)),
		0o600))
	for name, doc := range declared {
		f.must(f.bridge.Declare(name, doc))
	}
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(ctx))
	return f
}

func (b *mosquittoBroker) command(program string, args ...string) *exec.Cmd {
	host, port, _ := net.SplitHostPort(b.addr)
	return exec.CommandContext(b.t.Context(), "stdbuf",
		append([]string{"-oL", program, "-h", host, "-p", port}, args...)...)
}

func (b *mosquittoBroker) publish(topic, payload string) {
	b.t.Helper()
	if out, err := b.command("mosquitto_pub", "-q", "1", "-t", topic, "-m", payload).CombinedOutput(); err != nil {
		b.t.Fatalf("publish on %s: %v\n%s", topic, err, out)
	}
}

// connect returns a client of the broker.
func (b *mosquittoBroker) connect(id string) *client {
	b.t.Helper()
	c := &client{t: b.t, messages: make(chan mqtt.Message, 10000)}
	c.Client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" +
		b.addr).SetClientID(id).SetProtocolVersion(4).SetAutoReconnect(false).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { c.messages <- m }))
	c.wait("connect", c.Connect())
	b.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

// records counts the JSON documents of a stream by their text.
func (f *fleet) records(name string) map[string]int {
	f.t.Helper()
	body, err := f.bridge.Open(f.ctx, "/v1/streams/records", url.Values{"name": {name}, "from": {"oldest"}})
	f.must(err)
	defer body.Close()
	all := make(map[string]int)
	for dec := json.NewDecoder(bufio.NewReader(body)); ; {
		var line admin.StreamRecord
		if err := dec.Decode(&line); err == io.EOF {
			return all
		} else if err != nil {
			f.t.Fatal(err)
		}
		all[string(line.JSON)]++
	}
}

// TestMosquittoBroker joins Debian's Mosquitto: rules, what they republish, and
// shadows work through it, and go on when it has restarted.
func TestMosquittoBroker(t *testing.T) {
	b := newMosquitto(t)
	f := b.join("", map[string]string{"rules/hot.json": hotRule, "streams/hot.json": `{"StreamName": "hot"}`,
		"streams/documents.json": `{"StreamName": "documents"}`, "streams/rounds.json": `{"StreamName": "rounds"}`,
		"rules/documents.json": `{"sql": "SELECT topic() AS topic FROM '$aws/things/+/shadow/update/+'", "awsIotSqlVersion": "2016-03-23",
			"actions": [{"kinesis": {"streamName": "documents", "partitionKey": "x"}}]}`,
		"rules/seen.json": `{"sql": "SELECT 1 AS one FROM 'cmd/#'", "awsIotSqlVersion": "2016-03-23",
			"actions": [{"kinesis": {"streamName": "rounds", "partitionKey": "x"}}]}`,
		"rules/loop.json": `{"sql": "SELECT n + 1 AS n FROM 'loop/a'", "awsIotSqlVersion": "2016-03-23",
			"actions": [{"republish": {"topic": "loop/a", "qos": 1}}]}`,
	})
	sub := b.command("mosquitto_sub", "-t", "cmd/#", "-t", "loop/#", "-q", "1", "-v", "-d")
	lines := follow(t, sub)
	await(t, lines, "SUBACK")
	b.publish("dt/shop/climate", `{"temp":31.5,"n":0}`)
	b.publish("dt/shop/climate", `{"temp":12,"n":1}`)
	await(t, lines, `cmd/viewer/hot/shop {"temp":31.5,"thing":"shop"}`)
	f.streamHas("hot", `{"temp":31.5,"thing":"shop"}`)
	path := filepath.Join(f.bridge.Dir, "objects", "hot-events", "shop", "0.json")
	f.must(rig.Until(f.ctx, path, func() (bool, error) { _, err := os.Stat(path); return err == nil, err }))
	f.streamHas("rounds", `{"one":1}`) // rules see what rules republished, once

	c := b.connect("app")
	const shadow = "$aws/things/press/shadow"
	c.subscribe(shadow+"/update/accepted", shadow+"/update/delta", shadow+"/update/documents", shadow+"/get/accepted",
		shadow+"/get/rejected")
	change := func(n int) {
		t.Helper()
		c.publish(shadow+"/update", fmt.Sprintf(`{"state":{"desired":{"a":%d},"reported":{"a":0}}}`, n))
		got := map[string]bool{}
		for len(got) < 3 {
			m := c.next(f.ctx, "answers of the shadow", func(m mqtt.Message) bool {
				return strings.HasPrefix(m.Topic(), shadow+"/update/")
			})
			got[strings.TrimPrefix(m.Topic(), shadow+"/update/")] = true
		}
		for _, want := range []string{"accepted", "delta", "documents"} {
			if !got[want] {
				t.Errorf("no %s: %v", want, got)
			}
		}
	}
	change(1)
	f.must(rig.Until(f.ctx, "answers before the rules", func() (bool, error) {
		return len(f.records("documents")) == 3, nil
	}))
	for doc, n := range f.records("documents") {
		if n != 1 {
			t.Errorf("rules saw %s %d times", doc, n)
		}
	}

	// A loop ends by itself.
	b.publish("loop/a", `{"n":0}`)
	await(t, lines, `loop/a {"n":10}`)
	time.Sleep(500 * time.Millisecond)
	for quiet := false; !quiet; {
		select {
		case l := <-lines:
			if strings.Contains(l, `{"n":11}`) {
				t.Errorf("the loop goes on: %s", l)
				quiet = true
			}
		default:
			quiet = true
		}
	}

	// The broker restarts, and a message waits in it for the bridge.
	f.bridge.Kill()
	b.publish("dt/shop/climate", `{"temp":50,"n":5}`)
	if err := b.Stop(patience); err != nil {
		t.Fatal(err)
	}
	b.start()
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	f.streamHas("hot", `{"temp":31.5,"thing":"shop"}`, `{"temp":50,"thing":"shop"}`)

	// And while the bridge runs.
	if err := b.Stop(patience); err != nil {
		t.Fatal(err)
	}
	b.start()
	f.must(f.bridge.Ready(f.ctx))
	c = b.connect("app")
	c.subscribe(shadow+"/update/accepted", shadow+"/update/delta", shadow+"/update/documents")
	change(2)
	b.publish("dt/shop/climate", `{"temp":60,"n":6}`)
	f.streamHas("hot", `{"temp":31.5,"thing":"shop"}`, `{"temp":50,"thing":"shop"}`, `{"temp":60,"thing":"shop"}`)
	f.must(f.bridge.Stop(patience))
}

// TestRetainedOnceByMosquitto publishes a retained message, of which Mosquitto
// sends a copy at each subscription: rules see it once, over restarts of the
// bridge and cuts of its link, and one that was there before not at all.
func TestRetainedOnceByMosquitto(t *testing.T) {
	b := newMosquitto(t)
	retain := func(topic, payload string) {
		t.Helper()
		if out, err := b.command("mosquitto_pub", "-q", "1", "-r", "-t", topic, "-m",
			payload).CombinedOutput(); err != nil {
			t.Fatalf("publish on %s: %v\n%s", topic, err, out)
		}
	}
	retain("dt/before", `{"n":"before"}`)
	f := b.join("", map[string]string{"streams/seen.json": `{"StreamName": "seen"}`,
		"rules/seen.json": `{"sql": "SELECT n FROM 'dt/#'", "awsIotSqlVersion": "2016-03-23",
			"actions": [{"kinesis": {"streamName": "seen", "partitionKey": "x"}}]}`})
	retain("dt/state", `{"n":"retained"}`)
	want := map[string]int{`{"n":"retained"}`: 1}
	passes := func(round int) { // what comes after a copy has come
		t.Helper()
		marker := fmt.Sprintf(`{"n":%d}`, round)
		want[marker] = 1
		b.publish("dt/marker", marker)
		f.must(rig.Until(f.ctx, marker, func() (bool, error) { return f.records("seen")[marker] > 0, nil }))
	}
	passes(0)
	copies := 0.0
	for round := 1; round <= 4; round++ {
		if round < 4 {
			f.bridge.Kill()
			f.must(f.bridge.Start())
		} else { // the link is cut
			if err := b.Stop(patience); err != nil {
				t.Fatal(err)
			}
			b.start()
		}
		f.must(f.bridge.Ready(f.ctx))
		passes(round)
		m, err := f.bridge.Metrics(f.ctx)
		f.must(err)
		copies += m["tidemill_broker_retained_copies_total"]
	}
	if got := f.records("seen"); !maps.Equal(got, want) {
		t.Errorf("rules saw %v, want %v", got, want)
	}
	t.Logf("%v copies were dropped", copies)
	f.must(f.bridge.Stop(patience))
}

// TestBridgesSideBySide shares a load between two bridges, of which one is
// killed and comes back again and again. What the broker acknowledged to
// publishers is in one of their logs.
//
// TIDEMILL_TORTURE sets the number of kills (default 6).
func TestBridgesSideBySide(t *testing.T) {
	kills, _ := torture(t, 6)
	b := newMosquitto(t)
	declared := map[string]string{"streams/load.json": `{"StreamName": "load"}`,
		"rules/load.json": `{"sql": "SELECT * FROM 'load/#'", "awsIotSqlVersion": "2016-03-23",
			"actions": [{"kinesis": {"streamName": "load", "partitionKey": "${topic(2)}"}}]}`,
		"rules/loop.json": `{"sql": "SELECT n + 1 AS n FROM 'loop/a'", "awsIotSqlVersion": "2016-03-23",
			"actions": [{"republish": {"topic": "loop/a", "qos": 1}}]}`}
	one, two := b.join("", declared), b.join("shadows = false\nconnections = 2\n", declared)

	var mu sync.Mutex
	acked := make(map[string]bool)
	publish := func(c *client, from, to int) {
		var toks []mqtt.Token
		for n := from; n < to; n++ {
			toks = append(toks, c.Publish(fmt.Sprintf("load/%d", n%7), 1, false, fmt.Sprintf(`{"n":%d}`, n)))
		}
		for i, tok := range toks {
			if tok.WaitTimeout(patience) && tok.Error() == nil {
				mu.Lock()
				acked[fmt.Sprintf(`{"n":%d}`, from+i)] = true
				mu.Unlock()
			}
		}
	}
	// sum waits until all that was acknowledged is there.
	sum := func() (inOne, inTwo, missing, twice int) {
		t.Helper()
		f := one
		_ = rig.Until(f.ctx, "all messages", func() (bool, error) {
			first, second := one.records("load"), two.records("load")
			inOne, inTwo, missing, twice = 0, 0, 0, 0
			for doc := range acked {
				inOne += first[doc]
				inTwo += second[doc]
				switch n := first[doc] + second[doc]; {
				case n == 0:
					missing++
				default:
					twice += n - 1
				}
			}
			return missing == 0, fmt.Errorf("%d of %d are missing", missing, len(acked))
		})
		return inOne, inTwo, missing, twice
	}
	c := b.connect("publisher")

	// A loop through both of them ends.
	c.subscribe("loop/#")
	c.publish("loop/a", `{"n":0}`)
	last := 0
	for quiet := false; !quiet; {
		wait := 2 * time.Second // no more comes
		if last < 10 {
			wait = patience
		}
		select {
		case m := <-c.messages:
			var doc struct{ N int }
			one.must(json.Unmarshal(m.Payload(), &doc))
			if last = doc.N; last > 30 {
				t.Fatal("the loop goes on")
			}
		case <-time.After(wait):
			quiet = true
		}
	}
	t.Logf("a loop through both ended after %d rounds", last)
	if last < 10 {
		t.Error("too early")
	}

	publish(c, 0, 3000)
	inOne, inTwo, missing, twice := sum()
	t.Logf("published and acknowledged: %d; in the first log %d, in the second %d; missing %d, in both or twice %d",
		len(acked), inOne, inTwo, missing, twice)
	if missing != 0 || twice != 0 || inOne == 0 || inTwo == 0 {
		t.Error("want each in one log, and some in each")
	}

	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 3000; ; n += 100 {
			select {
			case <-stop:
				return
			default:
				publish(c, n, n+100)
			}
		}
	})
	for i := range kills {
		time.Sleep(time.Duration(100+37*i%200) * time.Millisecond)
		two.bridge.Kill()
		time.Sleep(50 * time.Millisecond)
		two.must(two.bridge.Start())
		two.must(two.bridge.Ready(two.ctx))
	}
	close(stop)
	wg.Wait()
	inOne, inTwo, missing, twice = sum()
	t.Logf("kills: %d; published and acknowledged: %d; in the first log %d, in the second %d; missing %d, twice %d",
		kills, len(acked), inOne, inTwo, missing, twice)
	if missing != 0 {
		t.Errorf("%d acknowledged messages are in no log", missing)
	}

	// The second leaves for good, and the first takes all.
	two.must(two.bridge.Stop(patience))
	path := two.bridge.Process.Args[2]
	text, err := os.ReadFile(path)
	two.must(err)
	two.must(os.WriteFile(path, []byte(strings.Replace(string(text), "connections = 2", "connections = 0", 1)), 0o600))
	two.must(two.bridge.Start())
	two.must(two.bridge.Ready(two.ctx))
	two.must(rig.Until(two.ctx, "to have left", func() (bool, error) {
		m, err := two.bridge.Metrics(two.ctx)
		return m["tidemill_broker_connects_total"] >= 3, err
	}))
	time.Sleep(300 * time.Millisecond)
	before := inOne
	acked = make(map[string]bool)
	publish(c, 10_000_000, 10_000_500)
	inOne, inTwo, missing, _ = sum()
	t.Logf("after the second has left: in the first log %d, in the second %d (before %d)", inOne, inTwo, before)
	if inOne != 500 || inTwo != 0 || missing != 0 {
		t.Error("want all in the first log")
	}
}

// TestAgentByMosquitto has the agent and the bridge meet at a Mosquitto with
// mutual TLS that lets each device use its own topics only.
func TestAgentByMosquitto(t *testing.T) {
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{t: t, ctx: t.Context(), dir: t.TempDir()}
	authority, err := rig.NewBridge(bin, f.dir, "") // makes the certificates
	f.must(err)
	f.bridge = authority
	f.must(authority.Start())
	f.must(authority.Ready(f.ctx))
	f.must(authority.Stop(patience))
	own := f.thing("the-bridge")
	agentAt, err := rig.FreePort() // of Mosquitto
	f.must(err)
	agent, err := rig.NewAgent(f.ctx, authority, "pi-1", f.dir, agentAt, "format = \"json\"\n"+simPi+
		"\n[clock]\nwait = \"1s\"\n")
	f.must(err)
	acl := filepath.Join(f.dir, "acl")
	f.must(os.WriteFile(acl, []byte(
		"pattern write dt/%u/#\npattern write presence/%u\npattern readwrite $aws/things/%u/shadow/#\n"+
			"user the-bridge\ntopic readwrite #\ntopic readwrite $aws/#\ntopic readwrite $tidemill/#\n"), 0o600))
	_, port, _ := net.SplitHostPort(agentAt)
	pki := filepath.Join(authority.Dir, "pki")
	b := newMosquitto(t, "per_listener_settings false", "listener "+port+" 127.0.0.1", "cafile "+pki+"/ca.pem",
		"certfile "+pki+"/server.pem",
		"keyfile "+pki+"/server-key.pem", "require_certificate true", "use_identity_as_username true", "acl_file "+acl,
		"")
	joined := b.join(fmt.Sprintf("url = \"ssl://%s\"\nca = %q\ncert = %q\nkey = %q\n", agentAt,
		own.dir+"/ca.pem", own.dir+"/cert.pem", own.dir+"/key.pem"),
		map[string]string{"streams/climate.json": `{"StreamName": "climate"}`,
			"rules/climate.json": `{"sql": "SELECT topic(2) AS thing, temperature FROM 'dt/+/climate'", "awsIotSqlVersion": "2016-03-23",
				"actions": [{"kinesis": {"streamName": "climate", "partitionKey": "${topic(2)}"}}]}`})
	f.must(agent.Start())
	t.Cleanup(agent.Kill)
	f.must(rig.Until(f.ctx, "readings", func() (bool, error) { return len(joined.records("climate")) >= 2, nil }))

	// A configuration that the bridge writes leads a device to the broker.
	at := filepath.Join(f.dir, "elsewhere")
	_, err = joined.bridge.Command(f.ctx, "thing", "create", "elsewhere", "-out", at)
	f.must(err)
	conf, err := os.ReadFile(filepath.Join(at, "agent.toml"))
	f.must(err)
	for _, want := range []string{fmt.Sprintf("endpoint = %q\n", agentAt), "format = \"json\"\n"} {
		if !strings.Contains(string(conf), want) {
			t.Errorf("agent.toml has no %s:\n%s", want, conf)
		}
	}
	// The device's shadow is answered over the broker.
	f.must(rig.Until(f.ctx, "the device's shadow", func() (bool, error) {
		m, err := joined.bridge.Metrics(f.ctx)
		return m["tidemill_broker_published_total"] >= 2, err
	}))
	var st device.Status
	f.must(rig.Until(f.ctx, "the device's shadow", func() (bool, error) {
		if err := agent.Status(f.ctx, &st); err != nil {
			return false, err
		}
		return len(st.Sensors) == 2, nil
	}))
	f.must(agent.Stop(patience))
	f.must(joined.bridge.Stop(patience))
}

// BenchmarkBroker measures how fast a bridge takes what 50 publishers of 200
// bytes have a Mosquitto acknowledge, each message stored with a sync.
func BenchmarkBroker(b *testing.B) {
	m := newMosquitto(b, "max_inflight_messages 1000", "log_type none", "")
	f := m.join("max_inflight = 2000\n", nil)
	taken := func() float64 {
		all, err := f.bridge.Metrics(b.Context())
		f.must(err)
		return all["tidemill_broker_acknowledged_total"]
	}
	for b.Loop() {
		before, began := taken(), time.Now()
		r, err := mqtttest.Run(b.Context(), mqtttest.Options{Addr: m.addr, InFlight: 20, Duration: 3 * time.Second})
		f.must(err)
		f.must(rig.Until(b.Context(), "all messages", func() (bool, error) {
			return taken()-before >= float64(r.Acked), nil
		}))
		rate := float64(r.Acked) / time.Since(began).Seconds()
		b.Logf("Mosquitto acknowledged %.0f msgs/s to publishers, the bridge took %.0f msgs/s of them", r.PerSecond,
			rate)
		b.ReportMetric(r.PerSecond, "published-msgs/s")
		b.ReportMetric(rate, "taken-msgs/s")
	}
	b.ReportMetric(0, "ns/op")
}
