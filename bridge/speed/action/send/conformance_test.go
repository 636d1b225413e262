package send

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/kafka"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/deploy/conformance"
)

// A vector is a case of actions.jsonl: README-actions.md beside it.
type vector struct {
	Name, Group   string
	Rule          json.RawMessage
	Topic         string
	Payload       json.RawMessage
	PayloadBase64 *string
	Messages      []struct {
		Topic   string
		Payload json.RawMessage
	}
	Context struct {
		RuleName, ClientID, TraceID, Protocol *string
	}
	Respond map[string]struct {
		Status  int
		Code    string
		Answers []json.RawMessage
		Failed  []int
		Fails   *bool
		Same    bool
		Times   *int
	}
	Expect json.RawMessage
	OneOf  []json.RawMessage
}

// An outcome is what a vector wants.
type outcome struct {
	Create any
	Calls  *[]wantedCall
	Failed []any
}

type wantedCall struct {
	Action             any
	Service, Operation string
	Input              map[string]any
	Times              *int
}

// everything is a catalog of a world in which all services are elsewhere.
type everything struct{}

func (everything) Takes(*action.Delivery) error                       { return nil }
func (everything) Shard(string, streams.Hash) (int, bool)             { return 0, false }
func (everything) HasDeliveryStream(string) bool                      { return false }
func (everything) Room(string) error                                  { return nil }
func (everything) Remote(string) bool                                 { return true }
func (everything) Channel(string, bool) error                         { return nil }
func (everything) Queue(*streams.Batch, string, *queue.Message) error { return nil }

// A world is a bridge's speed layer whose actions end at stand-ins.
type world struct {
	*recorder
	store  *pebble.Store
	in     *ingest.Ingest
	engine *rules.Engine
	boxes  *action.Outboxes
}

func newWorld(t *testing.T) *world {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	t.Setenv("AWS_ENDPOINT_URL", "https://stand-in.test")
	log := slog.New(slog.DiscardHandler)
	store, err := pebble.Open("log", pebble.Options{FS: vfs.NewMem(), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Create(ingest.Stream, streams.Config{Shards: 1}); err != nil {
		t.Fatal(err)
	}
	w := &world{recorder: &recorder{}, store: store, boxes: action.NewOutboxes(store)}
	if w.in, err = ingest.New(store, ingest.Options{Log: log}); err != nil {
		t.Fatal(err)
	}
	w.engine = rules.New(store, rules.Options{Account: "123456789012", Outbox: w.boxes.Ensure, Log: log})
	set := New(Options{Region: "eu-local-1", Account: "123456789012", HTTP: &http.Client{Transport: w.recorder},
		Places:  map[string]awsapi.Place{"iotAnalytics": {EndpointURL: "https://stand-in.test"}},
		Produce: w.produce, Measures: w.measures, HTTPTries: 3})
	drainer := action.NewDrainer(w.boxes, action.Options{Republish: w, Senders: set.Senders(), Failed: w.engine.Fail,
		Tried: w.engine.Tried, Log: log})
	ctx, cancel := context.WithCancel(context.Background())
	logCtx, cancelLog := context.WithCancel(context.Background())
	var parts, logs sync.WaitGroup
	logs.Go(func() { _ = store.Run(logCtx) })
	parts.Go(func() { _ = w.engine.Run(ctx) })
	parts.Go(func() { _ = drainer.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		parts.Wait()
		cancelLog()
		logs.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// Republish implements action.Republisher: what is published is a call.
func (w *world) Republish(_ context.Context, _ *streams.Batch, d *action.Delivery) (func(error), error) {
	in := map[string]any{"topic": d.Name, "qos": json.Number(strconv.Itoa(int(d.QoS))), "payload": slices.Clone(d.Data)}
	var users []any
	packet.Each(d.Properties, func(id packet.Property, value, second []byte) bool {
		switch id {
		case packet.PayloadFormat:
			in["payloadFormatIndicator"] = json.Number(strconv.Itoa(int(value[0])))
		case packet.ContentType:
			in["contentType"] = string(value)
		case packet.ResponseTopic:
			in["responseTopic"] = string(value)
		case packet.CorrelationData:
			in["correlationData"] = slices.Clone(value)
		case packet.UserProperty:
			users = append(users, []any{string(value), string(second)})
		}
		return true
	})
	if users != nil {
		in["userProperties"] = users
	}
	if d.Expiry > 0 {
		in["messageExpiry"] = json.Number(strconv.FormatUint(uint64(d.Expiry), 10))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &call{service: "mqtt", operation: "Publish", input: in, raw: fmt.Sprint(in)}
	if w.answer != nil {
		w.answer(c)
	}
	w.calls = append(w.calls, c)
	return nil, nil
}

// produce stands in for brokers: each record is a call.
func (w *world) produce(_ context.Context, _ kafka.Properties, records []kafka.Record) []error {
	errs := make([]error, len(records))
	for i, r := range records {
		in := map[string]any{"topic": r.Topic, "value": r.Value}
		if r.Key != nil {
			in["key"] = string(r.Key)
		}
		if r.Partition >= 0 {
			in["partition"] = json.Number(strconv.Itoa(int(r.Partition)))
		}
		var headers []any
		for _, h := range r.Headers {
			if h.Key != "tidemill-id" {
				headers = append(headers, map[string]any{"key": h.Key, "value": string(h.Value)})
			}
		}
		if headers != nil {
			in["headers"] = headers
		}
		errs[i] = w.called(&call{service: "kafka", operation: "Produce", input: in, raw: fmt.Sprint(in)})
	}
	return errs
}

// measures stands in for Timestream.
func (w *world) measures(_ context.Context, database, table string, all []action.Measure) error {
	var records []any
	for _, m := range all {
		var dimensions []any
		for _, d := range m.Dimensions {
			dimensions = append(dimensions, map[string]any{"Name": d.Name, "Value": d.Value})
		}
		records = append(records, map[string]any{"Dimensions": dimensions, "MeasureName": m.Name,
			"MeasureValueType": m.Type, "MeasureValue": m.Value, "Time": m.Time, "TimeUnit": m.Unit})
	}
	in := map[string]any{"DatabaseName": database, "TableName": table, "Records": records}
	return w.called(&call{service: "timestream", operation: "WriteRecords", input: in, raw: fmt.Sprint(in)})
}

// called notes a call that did not come by HTTP, and answers it.
func (w *world) called(c *call) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, c)
	if w.answer == nil {
		return nil
	}
	if a := w.answer(c); a.status/100 != 2 {
		c.failed = true
		return &post.StatusError{Status: a.status, Reason: a.code}
	}
	return nil
}

// serviceOf is the vectors' name of what a kind of action calls.
var serviceOf = map[string]string{
	"cloudwatchAlarm": "cloudwatch", "cloudwatchMetric": "cloudwatch", "cloudwatchLogs": "logs", "dynamoDB": "dynamodb",
	"dynamoDBv2": "dynamodb", "elasticsearch": "es", "openSearch": "es", "stepFunctions": "states", "republish": "mqtt",
	"iotAnalytics": "iotanalytics",
}

// kinds are the kinds of a rule's actions, by index or "error".
func (v *vector) kinds(t *testing.T) map[string]string {
	var r struct {
		Actions     []map[string]json.RawMessage
		ErrorAction map[string]json.RawMessage
	}
	if err := json.Unmarshal(v.Rule, &r); err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	all := map[string]string{}
	for i, a := range r.Actions {
		for kind := range a {
			all[strconv.Itoa(i)] = kind
		}
	}
	for kind := range r.ErrorAction {
		all["error"] = kind
	}
	return all
}

func (v *vector) name() string {
	if v.Context.RuleName != nil {
		return *v.Context.RuleName
	}
	return "conformance"
}

// message is one that the vector publishes.
func (v *vector) message(topic string, payload []byte) *message.Message {
	or := func(s *string, standard string) string {
		if s != nil {
			return *s
		}
		return standard
	}
	protocol := or(v.Context.Protocol, "mqtt")
	client := "dev-1"
	if protocol == "http" {
		client = ""
	}
	trace, _ := message.ParseTrace(or(v.Context.TraceID, "12345678-1234-1234-1234-123456789012"))
	return &message.Message{Topic: topic, Payload: payload, QoS: 1, ClientID: or(v.Context.ClientID, client),
		Principal: "ba67293af50bf2506f5f93469686da660c7c844e7b3950bfb16813e0d31e9373", SourceIP: "192.0.2.10",
		Protocol: protocol, Time: engineTime, Trace: trace}
}

func (v *vector) messages(t *testing.T) (all []*message.Message) {
	switch {
	case v.Messages != nil:
		for _, m := range v.Messages {
			all = append(all, v.message(m.Topic, compact(t, m.Payload)))
		}
	case v.PayloadBase64 != nil:
		b, err := base64.StdEncoding.DecodeString(*v.PayloadBase64)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		all = append(all, v.message(v.Topic, b))
	case v.Topic != "":
		all = append(all, v.message(v.Topic, compact(t, v.Payload)))
	}
	return all
}

func compact(t *testing.T, doc json.RawMessage) []byte {
	if len(doc) == 0 {
		return nil
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	return []byte(strings.TrimSpace(b.String()))
}

// A result is what came of a vector.
type result struct {
	created string // "ok", or the error's type
	calls   []*call
	failed  []string // slots
	busy    string   // what had not come to an end
}

// run makes the rule, publishes the messages and waits until nothing is left to do.
func (w *world) run(t *testing.T, v *vector) *result {
	rule, err := (&rules.Compiler{Catalog: everything{}}).Parse(v.name(), v.Rule)
	if _, ok := errors.AsType[*iotsql.SyntaxError](err); ok {
		return &result{created: "SqlParseException"}
	} else if err != nil {
		return &result{created: "InvalidRequestException"}
	}
	// Firm vectors have rules made whose constants can only fail, which the bridge
	// refuses to make: there the rule stands for one that was stored before.
	refusable := slices.ContainsFunc(v.OneOf, func(reading json.RawMessage) bool {
		return strings.Contains(string(reading), "InvalidRequestException")
	})
	if refusable && rule.Never() != nil {
		return &result{created: "InvalidRequestException"}
	}
	res := &result{created: "ok"}
	all := v.messages(t)
	if len(all) == 0 {
		return res
	}
	w.mu.Lock()
	w.calls, w.answer = nil, w.answers(t, v)
	w.mu.Unlock()
	if err := w.engine.Set(nil); err != nil {
		t.Fatal(err)
	}
	if err := w.engine.Set([]*rules.Rule{rule}); err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		done := make(chan error, 1)
		w.in.Publish(m, nil, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		m := w.engine.Metrics()[0]
		if res.busy = w.busy(m, len(all)); res.busy == "" || time.Now().After(end) {
			for _, s := range m.Slots {
				if s.Failure > 0 && s.Slot != "error" {
					res.failed = append(res.failed, s.Slot)
				}
			}
			break
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	res.calls = w.calls
	return res
}

// busy says what is left to do.
func (w *world) busy(m rules.Metrics, messages int) string {
	if m.Matched < int64(messages) {
		return "rules"
	}
	for _, info := range w.store.List() {
		if !action.IsOutbox(info.Name) {
			continue
		}
		_, next, err := w.store.Bounds(info.Name, 0)
		if at, errAt := action.Waiting(w.store, info.Name); err != nil || errAt != nil || at < next {
			return info.Name
		}
	}
	for _, s := range m.Slots { // what ended is counted a moment after it is durable
		if s.Success+s.Failure < m.Fired && s.Slot != "error" {
			return "counters"
		}
	}
	return ""
}

// answers is how the stand-ins of a vector answer.
func (w *world) answers(t *testing.T, v *vector) func(c *call) answer {
	kinds, met := v.kinds(t), map[string]int{}
	return func(c *call) answer {
		for _, slot := range slices.Sorted(maps.Keys(kinds)) { // "error" is last
			service := serviceOf[kinds[slot]]
			if service == "" {
				service = kinds[slot]
			}
			if service == c.service && c.action == "" && !w.took(slot, kinds) {
				c.action = slot
			}
		}
		r, ok := v.Respond[c.action]
		if !ok {
			return answer{status: 200}
		}
		if len(r.Answers) == 0 {
			return answer{status: max(r.Status, 200), code: r.Code, failed: r.Failed}
		}
		raw := r.Answers[min(met[c.action], len(r.Answers)-1)]
		met[c.action]++
		var one struct {
			Status int
			Bytes  int
			Code   string
			Failed []int
			Entry  []int `json:"batchPutMessageErrorEntries"`
		}
		if err := json.Unmarshal(raw, &one.Status); err != nil {
			if err := json.Unmarshal(raw, &one); err != nil {
				t.Fatalf("%s: %v", v.Name, err)
			}
		}
		return answer{status: max(one.Status, 200), code: one.Code, bytes: one.Bytes,
			failed: append(one.Failed, one.Entry...)}
	}
}

// took says whether a slot has had its call, and another of its kind is there for
// the next.
func (w *world) took(slot string, kinds map[string]string) bool {
	twins := 0
	for _, kind := range kinds {
		if serviceOf[kind] == serviceOf[kinds[slot]] && (serviceOf[kind] != "" || kind == kinds[slot]) {
			twins++
		}
	}
	return twins > 1 && slices.ContainsFunc(w.calls, func(c *call) bool { return c.action == slot && !c.failed })
}

// check compares a result with one outcome.
func (v *vector) check(doc json.RawMessage, res *result) error {
	d, err := decode(doc)
	if err != nil {
		return err
	}
	m, _ := d.(map[string]any)
	want := outcome{}
	dec := json.NewDecoder(strings.NewReader(string(doc)))
	dec.UseNumber()
	if err := dec.Decode(&want); err != nil {
		return err
	}
	if create, ok := m["create"]; ok {
		text, _ := create.(string)
		if e, ok := create.(map[string]any); ok {
			text, _ = e["error"].(string)
		}
		if res.created != text {
			return fmt.Errorf("create: %s, want %s", res.created, text)
		}
		return nil
	}
	if res.created != "ok" {
		return fmt.Errorf("the rule was refused: %s", res.created)
	}
	if res.busy != "" {
		return fmt.Errorf("not done in time: %s", res.busy)
	}
	var failed []string
	for _, f := range want.Failed {
		failed = append(failed, fmt.Sprint(f))
	}
	if !slices.Equal(failed, res.failed) {
		return fmt.Errorf("failed: %v, want %v; %d calls", res.failed, failed, len(res.calls))
	}
	if want.Calls == nil {
		return v.same(res)
	}
	return errors.Join(v.compare(*want.Calls, res), v.same(res))
}

// compare holds calls to those wanted, in order for each action.
func (v *vector) compare(want []wantedCall, res *result) error {
	left := map[string][]*call{}
	for _, c := range res.calls {
		left[c.action] = append(left[c.action], c)
	}
	for _, w := range want {
		slot := fmt.Sprint(w.Action)
		n := 0
		var last error = errors.New("no call")
		for len(left[slot]) > 0 {
			c := left[slot][0]
			if c.service != w.Service || c.operation != w.Operation {
				last = fmt.Errorf("%s %s", c.service, c.operation)
				break
			}
			if w.Service == "sns" && c.input["TopicArn"] != nil {
				c.input["TargetArn"] = c.input["TopicArn"]
			}
			if last = matchInput(w.Input, c.input); last != nil {
				break
			}
			left[slot] = left[slot][1:]
			if n++; !c.failed || w.Times != nil && n == *w.Times {
				break
			}
		}
		if n == 0 || w.Times != nil && n != *w.Times {
			return fmt.Errorf("action %s: %d calls of %s %s, then: %w", slot, n, w.Service, w.Operation, last)
		}
	}
	for slot, more := range left {
		if len(more) > 0 {
			return fmt.Errorf("action %s: %d calls too many, such as %s %v", slot, len(more), more[0].operation,
				more[0].input)
		}
	}
	return nil
}

// same holds tries to each other.
func (v *vector) same(res *result) error {
	for slot, r := range v.Respond {
		first := ""
		for _, c := range res.calls {
			if c.action != slot || !r.Same {
				continue
			}
			if first == "" {
				first = c.raw
			}
			if c.raw != first {
				return fmt.Errorf("a try differs from the first:\n%s\n%s", first, c.raw)
			}
		}
	}
	return nil
}

// differ are vectors that we answer otherwise, and why.
var differ = map[string]string{
	"error-one-document-three-of-four":         "each outbox gives up by itself: one document for each failure",
	"error-one-document-evaluation-and-target": "likewise",
}

// TestVectors runs actions.jsonl with a stand-in behind every service.
func TestVectors(t *testing.T) {
	w := newWorld(t)
	passed, all := map[string]int{}, map[string]int{}
	for _, v := range conformance.All[vector](t, "actions.jsonl") {
		all[v.Group]++
		res := w.run(t, &v)
		err := v.check(v.Expect, res)
		if why, ok := differ[v.Name]; ok {
			if err == nil {
				t.Errorf("%s: passes, and is said to differ: %s", v.Name, why)
			}
			t.Logf("%s: %s", v.Name, why)
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		passed[v.Group]++
	}
	for _, g := range slices.Sorted(maps.Keys(all)) {
		t.Logf("%-26s %3d of %3d", g, passed[g], all[g])
	}
}

const doubtfulFile = "testdata/doubtful.txt"

var update = flag.Bool("update", false, "write testdata anew")

// TestDoubtful holds our answers where nobody says what AWS does to
// testdata/doubtful.txt: a case, its answer, the reason. -update writes the answers
// anew, not the reasons.
func TestDoubtful(t *testing.T) {
	table, err := os.ReadFile(doubtfulFile)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][2]string{}
	for line := range strings.Lines(string(table)) {
		cols := strings.Split(strings.TrimSpace(line), " | ")
		if len(cols) != 3 || cols[2] == "" {
			t.Fatalf("%s: %q, want case | answer | reason", doubtfulFile, line)
		}
		rows[cols[0]] = [2]string{cols[1], cols[2]}
	}
	w := newWorld(t)
	var b strings.Builder
	lean, n := 0, 0
	for _, v := range conformance.All[vector](t, "actions-doubtful.jsonl") {
		readings := v.OneOf
		if readings == nil {
			readings = []json.RawMessage{v.Expect}
		}
		res, got := w.run(t, &v), "another"
		for i, r := range readings {
			if v.check(r, res) == nil {
				got = fmt.Sprintf("reading %d of %d", i+1, len(readings))
				if n++; i == 0 {
					lean++
				}
				break
			}
		}
		if got == "another" {
			n++
			t.Logf("%s: %v", v.Name, v.check(readings[0], res))
		}
		row, ok := rows[v.Name]
		switch {
		case !ok: // the table was made from a sample
			t.Logf("%s: %s, and the table says nothing", v.Name, got)
		case got != row[0] && !*update:
			t.Errorf("%s: %s, the table says %s: %s", v.Name, got, row[0], row[1])
		}
		delete(rows, v.Name)
		fmt.Fprintf(&b, "%s | %s | %s\n", v.Name, got, row[1])
	}
	for name := range rows {
		t.Errorf("%s: no such case", name)
	}
	t.Logf("%d cases; in %d our answer is the one the vectors lean to", n, lean)
	if *update {
		if err := os.WriteFile(doubtfulFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
