package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// encoded is a batch with one reading of each sensor.
func encoded(t testing.TB, seq uint64, sensors ...string) string {
	t.Helper()
	b := &telemetry.Batch{Header: telemetry.Header{Spool: [16]byte{1}, Boot: [16]byte{2}, Seq: seq,
		Clock: telemetry.ClockSynced}}
	for _, s := range sensors {
		b.Series = append(b.Series, telemetry.Series{Sensor: s, Times: []int64{int64(seq)},
			Columns: []telemetry.Column{{Name: "v", Kind: telemetry.Int, Ints: []int64{7}}}})
	}
	text, err := telemetry.Append(nil, b)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// connect5 connects with MQTT 5.
func (b *bridge) connect5(id identity, clientID string) *paho.Client {
	b.t.Helper()
	conn, err := tls.Dial("tcp", b.MQTTAddr().String(), id.tls(b.t))
	if err != nil {
		b.t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn})
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	if _, err := c.Connect(ctx, &paho.Connect{ClientID: clientID, KeepAlive: 60, CleanStart: true}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	return c
}

// A client learns which readings of its batch policy refuses: by the reason of the
// PUBACK in MQTT 5, by a message that needs no right in 3.1.1. The others are
// stored once.
func TestRefusedReadingsAreTold(t *testing.T) {
	takes, _ := topic.Lookup(telemetry.Topic)
	if tells, _ := topic.Lookup(telemetry.RefusedTopic); takes.Service != topic.Batches || takes.Takes == 0 ||
		tells.Service != topic.Batches || !tells.Unasked {
		t.Fatal("the programs use different topics")
	}
	b := start(t, configure(t))
	id := b.thing("pump-1", all("iot:Publish", "topic/dt/pump-1/secret"))
	d := b.connect(id, "pump-1")
	watcher := b.connect(b.thing("watcher", all("", "")), "watcher")
	if got := watcher.subscribe("dt/#"); got != 1 {
		t.Fatalf("%#x", got)
	}
	if got := watcher.subscribe(telemetry.RefusedTopic); got != 1 { // for its own batches alone
		t.Fatalf("%#x", got)
	}
	if got := d.subscribe(telemetry.RefusedTopic); got != 1 {
		t.Fatalf("%#x", got)
	}
	d.publish(telemetry.Topic, encoded(t, 1, "secret", "open"))
	got := d.next()
	text, ok := strings.CutPrefix(got, telemetry.RefusedTopic+" ")
	var refused telemetry.Refused
	if err := json.Unmarshal([]byte(text), &refused); !ok || err != nil || refused.Readings != 1 ||
		refused.Topics[0] != (telemetry.TopicCount{Topic: "dt/pump-1/secret", Readings: 1}) {
		t.Fatalf("told %s: %v", got, err)
	}
	if got := watcher.next(); got != `dt/pump-1/open {"ts":1,"v":7}` {
		t.Errorf("heard %s", got)
	}
	d.Disconnect(50)

	five := b.connect5(id, "pump-1")
	for range 2 { // the second is a copy, of which all was stored that there is to store
		r, _ := five.Publish(t.Context(),
			&paho.Publish{Topic: telemetry.Topic, QoS: 1, Payload: []byte(encoded(t, 2, "secret", "open"))})
		if r == nil || r.ReasonCode != packets.PubackNotAuthorized && r.ReasonCode != packets.PubackSuccess {
			t.Fatalf("answered %+v", r)
		}
		if first := b.ingest.Stats().Duplicates == 0; first != (r.ReasonCode == packets.PubackNotAuthorized) {
			t.Errorf("answered %#x", r.ReasonCode)
		}
	}
	if got := watcher.next(); got != `dt/pump-1/open {"ts":2,"v":7}` {
		t.Errorf("heard %s", got)
	}
	r, err := five.Publish(t.Context(), &paho.Publish{Topic: telemetry.Topic, QoS: 1,
		Payload: []byte(encoded(t, 3, "open"))})
	if err != nil || r.ReasonCode != packets.PubackSuccess {
		t.Errorf("answered %+v, %v", r, err)
	}
	if got := watcher.next(); got != `dt/pump-1/open {"ts":3,"v":7}` {
		t.Errorf("heard %s", got)
	}
	if st := b.ingest.Stats(); st.Refused != 2 || st.Readings != 3 {
		t.Errorf("%+v", st)
	}
	if log := b.log.String(); !strings.Contains(log,
		`"policy refuses readings, they are dropped","thing":"pump-1","topic":"dt/pump-1/secret","count":1,`) {
		t.Error("the log does not name them")
	}
}

// Nobody needs a right to hear of its own batches, and nobody can forge the
// message.
func TestRefusedTopicIsTheBridges(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("pump-1", "") // the policy of things
	d := b.connect(id, "pump-1")
	if got := d.subscribe(telemetry.RefusedTopic); got != 1 {
		t.Errorf("%#x", got)
	}
	// Agents know a bridge by this refusal, so it is nobody's fault.
	if got := d.subscribe(telemetry.Topic); got != 0x80 {
		t.Errorf("%#x", got)
	}
	if log := b.log.String(); strings.Contains(log, "refused") {
		t.Errorf("logged:\n%s", log)
	}
	for _, filter := range []string{"$tidemill/#", "$tidemill/batch/+"} {
		if got := d.subscribe(filter); got != 0x80 {
			t.Errorf("%s: %#x", filter, got)
		}
	}
	forger := b.connect(b.thing("forger", all("", "")), "forger")
	_ = forger.wait(forger.Publish(telemetry.RefusedTopic, 0, false, "{}"))
	forger.ends()
}

// A batch over HTTPS is of the thing that the certificate is attached to.
func TestBatchByHTTPS(t *testing.T) {
	b := start(t, configure(t))
	watcher := b.connect(b.thing("watcher", all("", "")), "watcher")
	if got := watcher.subscribe("dt/#"); got != 1 {
		t.Fatalf("%#x", got)
	}
	const path = "/topics/$tidemill%2Fbatch?qos=1"
	id := b.thing("pump-1", "") // the policy of things, which speaks of the connection's thing
	own := b.requester("", id.tls(t))
	for range 2 { // stored once
		if status, code, text := own.do("POST", path, encoded(t, 1, "temp")); status != 200 {
			t.Fatal(status, code, text)
		}
	}
	if status, code, text := own.do("POST", path, encoded(t, 2, "temp")); status != 200 {
		t.Fatal(status, code, text)
	}
	for _, want := range []string{`dt/pump-1/temp {"ts":1,"v":7}`, `dt/pump-1/temp {"ts":2,"v":7}`} {
		if got := watcher.next(); got != want {
			t.Errorf("heard %s, want %s", got, want)
		}
	}
	denied := b.requester("", b.thing("pump-2", all("iot:Publish", "topic/dt/pump-2/secret")).tls(t))
	if status, code, text := denied.do("POST", path, encoded(t, 1, "secret", "open")); status != 403 ||
		code != "ForbiddenException" || !strings.Contains(text, "dt/pump-2/secret") {
		t.Error(status, code, text)
	}
	if got := watcher.next(); got != `dt/pump-2/open {"ts":1,"v":7}` {
		t.Errorf("heard %s", got)
	}
	// Whose batch would it be?
	b.update(func(tx *registry.Tx) error {
		if err := tx.CreateThing(registry.Thing{Name: "pump-3"}); err != nil {
			return err
		}
		return tx.AttachThing("pump-3", id.CertificateID)
	})
	for name, r := range map[string]*requester{"two things": own, "an access key": b.requester("iotdata", nil)} {
		if status, code, text := r.do("POST", path, encoded(t, 3, "temp")); status != 400 ||
			code != "InvalidRequestException" || !strings.Contains(text, "attached to one thing") {
			t.Error(name, status, code, text)
		}
	}
	if st := b.ingest.Stats(); st.Quarantined != 0 || st.Readings != 3 {
		t.Errorf("%+v", st)
	}
}

// A thing that is over its rate waits, and is told so over HTTPS.
func TestThingsRate(t *testing.T) {
	cfg := configure(t)
	cfg.MQTT.MaxThingRate = 1
	b := start(t, cfg)
	id := b.thing("pump-1", "")
	own := b.requester("", id.tls(t))
	if status, code, text := own.do("POST", "/topics/$tidemill%2Fbatch?qos=1",
		encoded(t, 1, strings.Fields(strings.Repeat("a b c d ", 100))...)); status != 200 {
		t.Fatal(status, code, text)
	}
	if status, code, text := own.do("POST", "/topics/$tidemill%2Fbatch?qos=1", encoded(t, 2, "a")); status != 429 ||
		!strings.Contains(text, "max_thing_rate") {
		t.Error(status, code, text)
	}
	for n := uint64(1); n <= 2; n++ { // a new connection is not a new beginning
		d := b.connect(id, "pump-1")
		d.Publish(telemetry.Topic, 1, false, encoded(t, 2, "a")) // the answer comes when the test is over
		b.eventually("its batch is held", func() bool { return b.gateway.Stats().Throttled == n })
	}
	if st := b.ingest.Stats(); st.Batches != 1 {
		t.Errorf("%+v", st)
	}
}
