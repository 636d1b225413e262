package server

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/clock"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Who may send batches may ask for the time, and is told alone.
func TestTimeIsTold(t *testing.T) {
	asks, _ := topic.Lookup(telemetry.TimeTopic)
	tells, _ := topic.Lookup(telemetry.TimeAnswerTopic)
	if asks.Service != topic.Time || asks.RightOf != telemetry.Topic ||
		tells.Service != topic.Time || !tells.Unasked {
		t.Fatal("the programs use different topics")
	}
	b := start(t, configure(t))
	d := b.connect(b.thing("pump-1", all("iot:Publish", "topic/"+telemetry.TimeTopic)), "pump-1")
	other := b.connect(b.thing("pump-2", all("", "")), "pump-2")
	for _, c := range []*device{d, other} {
		if got := c.subscribe(telemetry.TimeAnswerTopic); got != 1 {
			t.Fatalf("%#x", got)
		}
	}
	before := time.Now()
	d.publish(telemetry.TimeTopic, "not a question")
	d.publish(telemetry.TimeTopic, `{"nonce":"n1"}`)
	got := d.next()
	text, ok := strings.CutPrefix(got, telemetry.TimeAnswerTopic+" ")
	var a telemetry.TimeAnswer
	if err := json.Unmarshal([]byte(text), &a); !ok || err != nil || a.Nonce != "n1" || a.Error < 1 ||
		a.Time < before.UnixMilli() || a.Time > time.Now().UnixMilli() {
		t.Fatalf("told %s: %v", got, err)
	}
	other.publish(telemetry.TimeTopic, `{"nonce":"n2"}`)
	if got := other.next(); !strings.Contains(got, "n2") {
		t.Errorf("told %s, which was not for it", got)
	}

	// The right to ask is that to send batches.
	no := b.connect(b.thing("pump-3", all("iot:Publish", "topic/"+telemetry.Topic)), "pump-3")
	tok := no.Publish(telemetry.TimeTopic, 1, false, `{"nonce":"n3"}`)
	if tok.WaitTimeout(patience) && tok.Error() == nil {
		t.Error("who may not send batches was answered")
	}
}

// A bridge whose operator vouches for nothing, on a machine without a time service,
// tells no time.
func TestTimeIsNotMadeUp(t *testing.T) {
	a := &assembly{Server: &Server{cfg: &config.Config{}, clock: clock.New(clock.Options{})}}
	if _, bound, ok := a.time(); ok && bound == 0 {
		t.Error("the time is told with no bound")
	}
}

// After a jump that nobody has accepted no time is told, though a time service holds the
// clock.
func TestTimeAfterAJumpIsNotTold(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	wall := now
	trusted := clock.New(clock.Options{Wall: func() time.Time { return wall }})
	a := &assembly{Server: &Server{cfg: &config.Config{}, clock: trusted}}
	told := func() bool {
		_, bound, ok := a.tellable(kernel.Reading{Wall: wall, Synced: true, MaxError: time.Second})
		return ok && bound == time.Second
	}
	if !told() {
		t.Fatal("the time is not told")
	}
	if wall = now.AddDate(20, 0, 0); told() {
		t.Error("a time is told that the bridge itself does not go by")
	}
	if a.clock.Accept(); !told() {
		t.Error("an accepted time is not told")
	}
}
