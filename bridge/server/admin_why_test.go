package server

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

const whyRule = `{"sql":"SELECT temp, topic(2) AS thing FROM 'dt/#' WHERE temp > 30","awsIotSqlVersion":"2016-03-23","actions":[
  {"kinesis":{"streamName":"readings","partitionKey":"${topic(2)}"}},
  {"s3":{"bucketName":"lake","key":"${topic(2)}/${temp}.json"}},
  {"kinesis":{"streamName":"gone","partitionKey":"k"}}],
  "errorAction":{"republish":{"topic":"errors/${topic(2)}"}}}`

// lastLine reads the last line of an answer to why.
func lastLine(t *testing.T, text string) admin.WhyLine {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var last admin.WhyLine
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return last
}

func steps(w *rules.Why) string {
	return iotsql.Explanation{Steps: w.Steps, Matched: w.Matched, Fired: w.Fired}.String()
}

func TestWhy(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/a.json": aStream, "rules/hot.json": whyRule})
	b := start(t, cfg)
	d := b.connect(b.thing("dev", ""), "dev")
	d.publish("dt/dev/x", `{"temp":29}`)
	d.publish("dt/dev/x", `{"temp":31}`)

	var recent []rules.Recent
	var byResult map[string]rules.Recent
	b.eventually("both messages are kept, and the action has failed", func() bool {
		b.must("GET", "/v1/rules/hot/recent", "", &recent)
		byResult = map[string]rules.Recent{}
		for _, r := range recent {
			byResult[r.Result] = r
		}
		return len(recent) == 2 && byResult["failed"].Kept
	})
	hot, cold := byResult["failed"], byResult["where false"]
	if hot.Topic != "dt/dev/x" || !hot.Kept || !strings.Contains(hot.Reason, "stream gone does not exist") ||
		cold.ID == "" {
		t.Fatalf("recent: %+v", recent)
	}
	b.must("GET", "/v1/rules/hot/recent?failed=true", "", &recent)
	if len(recent) != 1 || recent[0].ID != hot.ID {
		t.Errorf("failed: %+v", recent)
	}

	why := func(id string) *rules.Why {
		t.Helper()
		_, text := b.do("GET", "/v1/rules/hot/why?message="+id, "")
		line := lastLine(t, text)
		if line.Why == nil {
			t.Fatalf("why %s: %s", id, text)
		}
		return line.Why
	}
	var w *rules.Why
	b.eventually("the deliveries are done", func() bool {
		w = why(hot.ID)
		return w.Actions[1].Outcome.State == rules.StateDelivered && w.Actions[3].Outcome.State == rules.StateDelivered
	})
	if w.Found != "kept" || w.Message.Position != hot.Position || w.Message.ClientID != "dev" ||
		string(w.Message.Payload.JSON) != `{"temp":31}` ||
		string(w.Document.JSON) != `{"temp":31,"thing":"dev"}` || w.Notes != nil {
		t.Errorf("%+v", w)
	}
	var did []string
	for _, a := range w.Actions {
		did = append(did, fmt.Sprintf("%s %s %v %s %d %s", a.Slot, a.Kind, a.Parameters, a.Outcome.State,
			a.Outcome.Attempts, a.Outcome.Error))
	}
	want := `0 kinesis [{streamName readings} {partitionKey dev} {shard 1}] committed 0 
1 s3 [{bucketName lake} {key dev/31.json}] delivered 1 
2 kinesis [{streamName gone} {partitionKey k}] refused 0 stream gone does not exist
error republish [{topic errors/dev} {qos 0}] delivered 1 `
	if got := strings.Join(did, "\n"); got != want {
		t.Errorf("actions:\n%s\nwant\n%s", got, want)
	}
	if o := w.Actions[0].Outcome; o.Stream != "readings" || o.Offset != 0 || o.Time.IsZero() {
		t.Errorf("%+v", o)
	}
	if text := steps(why(cold.Position)); !strings.Contains(text, "temp > 30 → false") ||
		!strings.Contains(text, "temp → 29") {
		t.Errorf("%s", text)
	}

	// Metrics count the deliveries when they are done.
	rec := httptest.NewRecorder()
	b.publicHandler().ServeHTTP(rec, httptest.NewRequest("GET", "http://localhost/metrics", nil))
	for _, line := range []string{
		`tidemill_rule_matched_total{rule="hot"} 2`, `tidemill_rule_unmet_total{rule="hot"} 1`,
		`tidemill_rule_fired_total{rule="hot"} 1`,
		`tidemill_rule_error_actions_total{rule="hot"} 1`,
		`tidemill_rule_actions_total{action="0",kind="kinesis",rule="hot"} 1`,
		`tidemill_rule_actions_total{action="1",kind="s3",rule="hot"} 1`,
		`tidemill_rule_action_errors_total{action="2",kind="kinesis",rule="hot"} 1`,
		`tidemill_rule_action_retries_total{action="1",kind="s3",rule="hot"} 0`,
		`tidemill_rule_latency_seconds_count{rule="hot",until="durable"} 1`,
		`tidemill_rule_latency_seconds_count{rule="hot",until="delivered"} 2`,
		`tidemill_rules_latency_seconds_bucket{until="delivered",le="+Inf"} 2`,
	} {
		if !strings.Contains(rec.Body.String(), line+"\n") {
			t.Errorf("no %s", line)
		}
	}

	// A sample is evaluated, and nothing is done.
	before := b.rules.Stats()["hot"]
	var sample rules.Why
	b.must("POST", "/v1/rules/hot/why", `{"topic":"dt/other/x","payload":"eyJ0ZW1wIjozMn0=","client_id":"c"}`, &sample)
	if sample.Found != "sample" || !sample.Fired || sample.Message.ClientID != "c" ||
		sample.Actions[1].Parameters[1].Value != "other/32.json" ||
		sample.Actions[1].Outcome != nil || !strings.Contains(sample.Actions[2].Error, "does not exist") ||
		sample.Actions[3].Parameters[0].Value != "errors/other" {
		t.Errorf("%+v", sample)
	}
	if after := b.rules.Stats()["hot"]; after != before {
		t.Errorf("a sample counts: %+v, before %+v", after, before)
	}
	for path, code := range map[string]int{
		"/v1/rules/nosuch/recent": 404, "/v1/rules/nosuch/why?message=0/0": 404, "/v1/rules/hot/why?message=x": 400,
		"/v1/rules/hot/why?message=0/0&since=x": 400,
	} {
		if got, text := b.do("GET", path, ""); got != code {
			t.Errorf("%s: %d %s, want %d", path, got, text, code)
		}
	}
	if got, text := b.do("POST", "/v1/rules/hot/why", `{"topic":"a/#","payload":""}`); got != 400 {
		t.Errorf("a filter as topic: %d %s", got, text)
	}
	if _, text := b.do("GET", "/v1/rules/hot/why?message=00000000-0000-0000-0000-000000000000",
		""); !strings.Contains(lastLine(t, text).Error, "no such message") {
		t.Errorf("an unknown message: %s", text)
	}

	// Replaced, the rule is shown as it was.
	declareFiles(t, cfg, map[string]string{"rules/hot.json": strings.Replace(whyRule, "> 30", "> 35", 1)})
	b.must("POST", "/v1/reload", "", nil)
	if w = why(hot.ID); !w.Fired || w.Today == nil || w.Today.Fired ||
		!strings.Contains(strings.Join(w.Notes, ""), "replaced since") {
		t.Errorf("after the rule was replaced: %+v", w)
	}
	if m := b.rules.Stats()["hot"]; m != before {
		t.Errorf("after the rule was replaced it counts %+v, before %+v", m, before)
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	// No bridge runs: the log is searched, with the rule of the files.
	off := idle(t, cfg)
	ask := func(path string) string {
		rec := httptest.NewRecorder()
		off.Handler().ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
		return rec.Body.String()
	}
	if w := lastLine(t, ask("/v1/rules/hot/why?message="+hot.ID)).Why; w == nil || w.Found != "log" || w.Fired ||
		w.Message.Position != hot.Position ||
		!strings.Contains(strings.Join(w.Notes, " "), "is not kept") ||
		!strings.Contains(strings.Join(w.Notes, " "), "after the message arrived") {
		t.Errorf("found in the log: %+v", w)
	}
	if text := ask("/v1/rules/hot/recent"); strings.Count(text, `"where false"`) != 2 ||
		!strings.Contains(text, `"kept":false`) {
		t.Errorf("recent in the log: %s", text)
	}
	if text := ask("/v1/rules/nosuch/recent"); !strings.Contains(text, "not found") {
		t.Errorf("no such rule: %s", text)
	}
	if len(off.rules.Rules()) != 0 {
		t.Error("a rule came into force")
	}
}
