package upgrade

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/deploy/rig"
)

// patience is how long the test waits for one state.
const patience = 90 * time.Second

// built is the folder of the programs that the test builds. TestMain removes it.
var built string

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

var build = sync.OnceValues(func() (_ rig.Bin, err error) {
	if built, err = os.MkdirTemp("", "tidemill-bin-"); err != nil {
		return rig.Bin{}, err
	}
	return rig.Build(context.Background(), "../..", built)
})

// Whatever an earlier version acknowledged before it was killed is there in this
// one, and once.
func TestUpgrade(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs both programs")
	}
	manifests, err := filepath.Glob("testdata/*.json")
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no data of an earlier version: %v", err)
	}
	for _, m := range manifests {
		t.Run(strings.TrimSuffix(filepath.Base(m), ".json"), func(t *testing.T) { upgraded(t, m) })
	}
}

// An heir runs the programs of today over the data of an earlier version.
type heir struct {
	t      *testing.T
	ctx    context.Context
	dir    string
	m      Manifest
	bin    rig.Bin
	bridge *rig.Bridge
	api    *api

	appended uint64 // readings that the agent had, once it ran
}

func (h *heir) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func upgraded(t *testing.T, manifest string) {
	bin, err := build()
	if err != nil {
		t.Fatal(err)
	}
	newHeir(t, bin, manifest).inherits()
}

// newHeir unpacks the data of which manifest tells for the programs of bin.
func newHeir(t *testing.T, bin rig.Bin, manifest string) *heir {
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	t.Cleanup(cancel)
	h := &heir{t: t, ctx: ctx, dir: t.TempDir(), bin: bin}
	text, err := os.ReadFile(manifest)
	h.must(err)
	h.must(json.Unmarshal(text, &h.m))
	h.bridge, err = rig.NewBridge(bin, h.dir, "")
	h.must(err)
	h.must(unpack(strings.TrimSuffix(manifest, "json")+"tar.gz", h.dir))
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(h.bridge.Log)
			t.Logf("the bridge's log:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return h
}

// inherits starts the programs and looks for all that was acknowledged.
func (h *heir) inherits() { h.inheritsAfter(func() {}) }

// inheritsAfter is inherits, with something that is done once it is known what waits.
func (h *heir) inheritsAfter(do func()) {
	_, err := h.bridge.Command(h.ctx, "check")
	h.must(err)
	var waiting backlog
	if h.m.Mixed > 0 {
		waiting = h.waiting()
	}
	do()
	h.must(h.bridge.Start())
	defer h.bridge.Kill()
	h.must(h.bridge.Ready(h.ctx))
	h.api, err = newAPI(h.bridge)
	h.must(err)

	h.answers()
	if h.m.Keys != nil {
		h.people()
	}
	h.session()
	h.retained()
	appended := h.agent()
	h.appended = appended
	h.readings(appended)
	if h.m.Mixed > 0 {
		h.held(waiting, appended)
	}
	h.put()
	h.must(h.bridge.Stop(patience))
	_, err = h.bridge.Command(h.ctx, "check")
	h.must(err)
}

// put looks for the records that were put, in their places.
func (h *heir) put() {
	put, err := h.api.records(h.ctx, StreamPut)
	h.must(err)
	if !reflect.DeepEqual(put, h.m.Records) {
		h.t.Errorf("stream %s has %d records, want the %d that were put, in their places:\n%v\n%v",
			StreamPut, len(put), len(h.m.Records), put, h.m.Records)
	}
}

// answers asks the API what it was asked before.
func (h *heir) answers() {
	for _, a := range h.m.Answers {
		text, err := h.api.do(h.ctx, a.Service, http.MethodGet, a.Path, "")
		if err != nil {
			h.t.Error(err)
			continue
		}
		var got, want any
		h.must(errors.Join(json.Unmarshal(text, &got), json.Unmarshal(a.Answer, &want)))
		if where := missing(got, want); where != "" {
			h.t.Errorf("GET %s: %s is another:\n%s\nwant all of\n%s", a.Path, where, text, a.Answer)
		}
	}
}

// missing names the first member of want that is not so in got, which may have
// more members; "" for none. The time of the answer itself is not compared.
func missing(got, want any) string {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for name, v := range w {
			if _, isTime := v.(float64); isTime && name == "timestamp" && g[name] != nil {
				continue
			}
			if where := missing(g[name], v); where != "" {
				return strings.TrimSuffix(name+"."+where, ".")
			}
		}
		return ""
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) {
			return fmt.Sprintf("(length %d, want %d)", len(g), len(w))
		}
		for i := range w {
			if where := missing(g[i], w[i]); where != "" {
				return fmt.Sprintf("%d.%s", i, where)
			}
		}
		return ""
	}
	if !reflect.DeepEqual(got, want) {
		return fmt.Sprintf("(%v, want %v)", got, want)
	}
	return ""
}

// collect gathers messages until one has the topic and payload of last.
func (h *heir) collect(client string, clean bool, subscribe string,
	last func(mqtt.Client) (topic string)) (got map[string]int, present bool) {
	h.t.Helper()
	got = map[string]int{}
	ended := make(chan string, 100)
	var mu sync.Mutex
	c, present, err := dial(h.bridge.MQTT, client, filepath.Join(h.dir, Operator), clean, func(m mqtt.Message) {
		mu.Lock()
		defer mu.Unlock()
		got[m.Topic()+" "+string(m.Payload())]++
		if string(m.Payload()) == "end" {
			ended <- m.Topic()
		}
	})
	h.must(err)
	defer c.Disconnect(100)
	if subscribe != "" {
		h.must(wait(c.Subscribe(subscribe, 1, nil)))
	}
	for want := last(c); ; {
		select {
		case topic := <-ended:
			if topic == want {
				mu.Lock()
				defer mu.Unlock()
				return got, present
			}
		case <-time.After(patience):
			h.t.Fatalf("%s: the last message did not come", client)
		}
	}
}

// end publishes the message after which no other is waited for.
func (h *heir) end(topic string) func(mqtt.Client) string {
	return func(c mqtt.Client) string {
		h.must(wait(c.Publish(topic, 1, false, "end")))
		return topic
	}
}

// session resumes the one for which messages waited. What a rule sends again
// comes at least once, the rest once.
func (h *heir) session() {
	got, present := h.collect(Subscriber, false, "", h.end("q/end"))
	if !present {
		h.t.Errorf("the session of %s is lost", Subscriber)
	}
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	h.must(rig.Until(ctx, "what rules sent", func() (bool, error) {
		more, _ := h.collect(Subscriber, false, "", h.end("q/end"))
		for m, n := range more {
			got[m] += n
		}
		for _, q := range h.m.Queued {
			for n := range q.Acked {
				if m := fmt.Sprintf(`out/%d {"n":%d}`, q.Life, n+1); got[m] == 0 {
					return false, fmt.Errorf("%s is missing", m)
				}
			}
		}
		return true, nil
	}))
	for _, q := range h.m.Queued {
		for n := range q.Sent {
			m := fmt.Sprintf(`q/%d {"n":%d}`, q.Life, n+1)
			if got[m] > 1 || n < q.Acked && got[m] == 0 {
				h.t.Errorf("%s came %d times, %d were acknowledged", m, got[m], q.Acked)
			}
		}
	}
}

func (h *heir) retained() {
	got, _ := h.collect("newcomer", true, "kept/#", h.end("kept/end"))
	delete(got, "kept/end end")
	for _, kept := range h.m.Retained {
		if m := kept[0] + " " + kept[1]; got[m] != 1 {
			h.t.Errorf("retained message %s came %d times", m, got[m])
		}
	}
	if len(got) != len(h.m.Retained) {
		h.t.Errorf("%d retained messages, want %d: %v", len(got), len(h.m.Retained), got)
	}
}

// agent starts the device, waits until it has sent all that it had and agrees
// with its shadow, and returns how many readings it ever had on its disk.
func (h *heir) agent() (appended uint64) {
	a := rig.OpenAgent(h.bin, Device, h.dir)
	a.Env = []string{"TIDEMILL_ENDPOINT=" + h.bridge.MQTT}
	h.must(errors.Join(a.Configure(counting+lamp), a.Start()))
	defer func() {
		if h.t.Failed() {
			text, _ := os.ReadFile(a.Log)
			h.t.Logf("the agent's log:\n%s", text)
		}
	}()
	defer a.Kill()
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	h.must(rig.Until(ctx, "the agent", func() (bool, error) {
		var s device.Status
		if err := a.Status(ctx, &s); err != nil {
			return false, err
		}
		if s.Spool.Dropped > 0 || len(s.Losses) > 0 {
			return false, fmt.Errorf("%d readings dropped, losses: %v", s.Spool.Dropped, s.Losses)
		}
		appended = s.Spool.Appended
		level := len(s.Sensors) == 1 && s.Sensors[0].Level != nil && *s.Sensors[0].Level
		return level && s.Spool.Batches == 0 && s.Spool.Unflushed == 0 && s.Spool.Acked == appended, nil
	}))
	if appended < h.m.Agent.Appended {
		h.t.Errorf("the agent had %d readings, says it had %d", h.m.Agent.Appended, appended)
	}
	h.must(rig.Until(ctx, "the shadow", func() (bool, error) {
		var doc struct {
			State struct {
				Delta    json.RawMessage
				Reported struct {
					Outputs map[string]struct{ Level bool }
				}
			}
		}
		text, err := h.api.do(ctx, "iotdata", http.MethodGet, "/things/"+Device+"/shadow", "")
		if err != nil {
			return false, err
		}
		h.must(json.Unmarshal(text, &doc))
		return doc.State.Delta == nil && doc.State.Reported.Outputs["lamp"].Level, fmt.Errorf("%s", text)
	}))
	return appended
}

// A reading is what the rule makes of one. N counts those of the sensor counter,
// each life from 1; readings of another sensor differ in their time.
type reading struct {
	Thing, Sensor string
	Life          int64
	N             int64
	TS            int64 // epoch ms; 0 of the counter
}

// readings waits until all are in the stream and in objects, and looks for those
// that are missing or twice.
func (h *heir) readings(appended uint64) {
	want := int(appended)
	for _, c := range h.m.Counted {
		want += c.Acked
	}
	ctx, cancel := context.WithTimeout(h.ctx, patience)
	defer cancel()
	for where, read := range map[string]func() ([]reading, error){"the stream": h.inStream, "objects": h.inObjects} {
		var all []reading
		err := rig.Until(ctx, where, func() (bool, error) {
			var err error
			all, err = read()
			return len(all) >= want && h.account(where, all, appended) == nil, err
		})
		if err != nil {
			h.t.Errorf("%v\n%v", err, h.account(where, all, appended))
			continue
		}
		h.t.Logf("%s: %d readings, %d of them the agent's", where, len(all), appended)
	}
}

func (h *heir) account(where string, all []reading, appended uint64) error {
	seen := map[reading]int{}
	var errs []error
	complain := func(format string, args ...any) {
		if len(errs) < 10 {
			errs = append(errs, fmt.Errorf(where+": "+format, args...))
		}
	}
	device := uint64(0)
	for _, r := range all {
		if seen[r]++; seen[r] > 1 {
			complain("%+v is there %d times", r, seen[r])
		}
		if r.Thing != Device {
			continue
		}
		device++
		if before := (reading{r.Thing, r.Sensor, r.Life, r.N - 1, 0}); r.N > 1 && seen[before] == 0 {
			complain("%+v comes without the one before", r)
		}
	}
	if device != appended {
		complain("%d readings of the agent, want the %d that its disk had", device, appended)
	}
	for _, c := range h.m.Counted {
		for n := range c.Acked {
			if r := (reading{c.Thing, "counter", int64(c.Life), int64(n + 1), 0}); seen[r] == 0 {
				complain("%+v is missing", r)
			}
		}
	}
	return errors.Join(errs...)
}

func decode(text []byte) (r reading, err error) {
	if err = json.Unmarshal(text, &r); err != nil {
		err = fmt.Errorf("%q: %w", text, err)
	}
	if r.Sensor == "counter" {
		r.TS = 0
	}
	return r, err
}

func (h *heir) inStream() (all []reading, err error) {
	records, err := h.api.records(h.ctx, StreamReadings)
	for _, r := range records {
		one, err := decode([]byte(r.Data))
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, err
}

func (h *heir) inObjects() (all []reading, err error) {
	root := filepath.Join(h.bridge.Dir, "objects", Archive)
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		z, err := gzip.NewReader(bytes.NewReader(raw))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if raw, err = io.ReadAll(z); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for line := range bytes.Lines(raw) {
			one, err := decode(line)
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return nil
	})
	return all, err
}
