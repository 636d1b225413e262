package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

// replayRequest asks for a replay of a statement as rule hot.
func replayRequest(sql, more string) string {
	doc, _ := json.Marshal(map[string]any{"sql": sql, "awsIotSqlVersion": "2016-03-23"})
	return fmt.Sprintf(`{"name":"hot","document":%s,"examples":2%s}`, doc, more)
}

// lastReplayLine reads the answer to a replay.
func lastReplayLine(t *testing.T, text string) admin.ReplayLine {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var last admin.ReplayLine
	for i, line := range lines {
		last = admin.ReplayLine{}
		if err := json.Unmarshal([]byte(line), &last); err != nil || last.ID == "" ||
			(last.Report != nil || last.Error != "") != (i == len(lines)-1) {
			t.Fatalf("%v: line %d of %s", err, i, text)
		}
	}
	return last
}

// counts are a report's differences.
func counts(r *rules.ReplayReport) string {
	var all []string
	for _, d := range r.Differences {
		if d.Count > 0 {
			all = append(all, fmt.Sprintf("%d %s", d.Count, d.Kind))
		}
	}
	return fmt.Sprintf("%d messages, %s, %d unchanged, %d neither", r.Messages, strings.Join(all, ", "), r.Unchanged,
		r.Neither)
}

func TestReplay(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/a.json": aStream,
		"rules/hot.json": `{"sql":"SELECT n FROM 'dt/#' WHERE n > 2","awsIotSqlVersion":"2016-03-23",` +
			`"actions":[{"kinesis":{"streamName":"readings","partitionKey":"k"}}]}`})
	b := start(t, cfg)
	d := b.connect(b.thing("dev", all("", "")), "dev")
	for n := range 6 {
		d.publish("dt/dev/x", fmt.Sprintf(`{"n":%d}`, n))
	}
	d.publish("$aws/rules/hot/y", `{"n":7}`)
	b.eventually("the rule has fired", func() bool { return b.rules.Stats()["hot"].Actions == 4 })
	before := b.rules.Metrics()

	replay := func(body string) *rules.ReplayReport {
		t.Helper()
		code, text := b.do("POST", "/v1/replays", body)
		if code != 200 {
			t.Fatalf("%d %s", code, text)
		}
		line := lastReplayLine(t, text)
		if line.Report == nil || line.Read != line.Of || line.Of != line.Report.Records {
			t.Fatal(text)
		}
		return line.Report
	}
	const new = "SELECT n, get_thing_shadow('dev', 'arn').x AS x FROM 'dt/#' WHERE n > 3"
	r := replay(replayRequest(new, ""))
	if got := counts(r); got != "7 messages, 1 no longer fires, 3 unchanged, 3 neither" {
		t.Error(got)
	}
	if r.Against != "hot" || r.Partial || r.Shards != cfg.Ingest.Shards || len(r.Notes) != 2 ||
		!strings.HasPrefix(r.Notes[1], "get_thing_shadow: ") {
		t.Errorf("%+v", r)
	}
	if x := r.Differences[1].Examples[0]; x.Topic != "dt/dev/x" || string(x.Payload.JSON) != `{"n":3}` ||
		x.New.Result != "where false" {
		t.Errorf("%+v", x)
	}
	// A request's document names the rule before its name does; without such a
	// rule all that fires is new.
	r = replay(`{"name":"x","document":{"ruleName":"cold","topicRulePayload":{"sql":"SELECT n FROM 'dt/#' WHERE n < 2","actions":[]}}}`)
	if got := counts(r); got != "7 messages, 2 newly fires, 0 unchanged, 5 neither" || r.Rule != "cold" ||
		r.Against != "" || !strings.Contains(r.Notes[0], "no rule cold is in force") {
		t.Errorf("%s, %+v", got, r)
	}
	r = replay(replayRequest("SELECT n FROM 'dt/#'", `,"from":"2200-01-01T00:00:00Z"`))
	if r.Messages != 0 || r.From.Year() != 2200 {
		t.Errorf("%+v", r)
	}
	r = replay(replayRequest("SELECT n FROM 'dt/#'", `,"to":"2020-01-01T00:00:00Z","jobs":1000`))
	if r.Messages != 0 || r.To.Year() != 2020 {
		t.Errorf("%+v", r)
	}
	for body, c := range map[string]struct {
		code int
		says string
	}{
		replayRequest("SELECT n, FROM 'dt/#'", ""): {400,
			`rule hot: sql: line 1, column 11: unexpected \"FROM\"`},
		replayRequest("SELECT nofunc(n) FROM 'dt/#'", ""):               {400, `there is no function nofunc`},
		replayRequest("SELECT aws_lambda('f', *) AS r FROM 'dt/#'", ""): {400, `aws_lambda`},
		replayRequest("SELECT n FROM 'dt/#'", `,"against":"nosuch"`):    {404, `rule nosuch`},
		replayRequest("SELECT n FROM 'dt/#'", `,"shards":[99]`):         {400, `shard 99`},
		replayRequest("SELECT n FROM 'dt/#'", `,"frm":"x"`):             {400, `frm`},
		`{"name":"a b","document":{"sql":"SELECT n","actions":[]}}`:     {400, `want 1 to 128`},
	} {
		if code, text := b.do("POST", "/v1/replays", body); code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %s, want %d %s", body, code, text, c.code, c.says)
		}
	}
	if after := b.rules.Metrics(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("counted %+v, before %+v", after, before)
	}
	if all, err := b.rules.Recent(t.Context(), b.rules.Rule("hot"), false, patience); err != nil || len(all) != 7 {
		t.Errorf("kept: %+v, %v", all, err)
	}
	if info, err := admin.DescribeStream(b.store, "readings"); err != nil || info.Records != 4 {
		t.Errorf("%+v, %v", info, err)
	}

	// No bridge runs: the rule of the files stands for the one in force.
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	off := idle(t, cfg)
	rec := httptest.NewRecorder()
	off.Handler().ServeHTTP(rec, httptest.NewRequest("POST", "/v1/replays", strings.NewReader(replayRequest(new, ""))))
	if line := lastReplayLine(t, rec.Body.String()); line.Report == nil ||
		counts(line.Report) != "7 messages, 1 no longer fires, 3 unchanged, 3 neither" {
		t.Error(rec.Body)
	}
}

// A replay can be ended, and then reports what it found.
func TestReplayStops(t *testing.T) {
	b := start(t, configure(t))
	d := b.connect(b.thing("dev", ""), "dev")
	list := `{"l":[` + strings.TrimSuffix(strings.Repeat("1,", 5000), ",") + `]}`
	for range 30 { // of which each keeps the statement below busy
		d.publish("dt/dev/x", list)
	}
	resp, err := b.http.Post("http://bridge/v1/replays", "", strings.NewReader(replayRequest(
		"SELECT VALUE (SELECT VALUE (SELECT VALUE 1 FROM l WHERE false) FROM l) FROM 'dt/#'", "")))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	lines.Scan()
	var line admin.ReplayLine
	if err := json.Unmarshal(lines.Bytes(), &line); err != nil || line.ID == "" || line.Of != 30 || line.Read != 0 ||
		line.Report != nil {
		t.Fatalf("%v, %s", err, lines.Bytes())
	}
	b.must("DELETE", "/v1/replays/"+line.ID, "", nil)
	for lines.Scan() && err == nil {
		line = admin.ReplayLine{}
		err = json.Unmarshal(lines.Bytes(), &line)
	}
	if err != nil || line.Report == nil || !line.Report.Partial || line.Report.Messages != line.Report.Read ||
		line.Report.Read >= 30 {
		t.Errorf("%v, %+v", err, line)
	}
	if code, _ := b.do("DELETE", "/v1/replays/"+line.ID, ""); code != http.StatusNotFound {
		t.Errorf("it is still there: %d", code)
	}
}
