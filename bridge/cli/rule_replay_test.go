package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// fill publishes to a data directory while no bridge runs.
func fill(t *testing.T, data string, payloads ...string) {
	t.Helper()
	store, err := pebble.Open(filepath.Join(data, "log"), pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := ingest.New(store, ingest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended, done := make(chan error, 1), make(chan error, len(payloads))
	go func() { ended <- store.Run(ctx) }()
	for _, p := range payloads {
		in.Publish(&message.Message{Topic: "dt/a", Payload: []byte(p), ClientID: "dev", Protocol: "mqtt"}, nil,
			func(err error) { done <- err })
	}
	for range payloads {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	stop()
	if err := errors.Join(<-ended, store.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestRuleReplay(t *testing.T) {
	data, out := newData(t), t.TempDir()
	fill(t, data, `{"v":1}`, `{"v":2}`, `{"v":3}`, `{"v":4}`, `"`+strings.Repeat("z", 5000)+`"`)
	write := func(path, text string) string {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(filepath.Join(data, "bridge.d", "rules", "hot.json"),
		`{"sql":"SELECT v FROM 'dt/#' WHERE v > 2","awsIotSqlVersion":"2016-03-23","actions":[{"republish":{"topic":"x"}}]}`)
	changed := write(filepath.Join(out, "new.json"),
		`{"sql":"SELECT v * 2 AS v\n FROM 'dt/#' WHERE v < 4","awsIotSqlVersion":"2016-03-23","actions":[{"republish":{"topic":"y"}}]}`)
	named := write(filepath.Join(out, "named.json"),
		`{"ruleName":"hot","topicRulePayload":{"sql":"SELECT v FROM 'dt/#' WHERE v > 2","awsIotSqlVersion":"2016-03-23","actions":[]}}`)
	wrong := write(filepath.Join(out, "wrong.json"), `{"sql":"SELECT v, FROM 'dt/#'","actions":[]}`)
	noJSON := write(filepath.Join(out, "no.json"), `{`)
	odd := write(filepath.Join(out, "new-rule.json"), `{"sql":"SELECT v FROM 'dt/#'","actions":[]}`)
	on := func(args string) string { return "rule replay -data " + data + " " + args }
	const sql = "-sql SELECT·v·FROM·'dt/#' "
	for _, s := range []step{
		{on(""), 2, "", "want FILE or -sql"},
		{on(sql + "-rule " + changed), 2, "", "want FILE or -sql"},
		{on("x.json -rule " + changed), 2, "", "an argument and -rule exclude each other"},
		{on(sql + "-from yesterday"), 2, "", `-from "yesterday": want a time`},
		{on(sql + "-to 3x"), 2, "", `-to "3x": want a time`},
		{on(sql + "-to oldest"), 2, "", "-to oldest leaves nothing"},
		{on(sql + "-from 1h -to 2h"), 2, "", "-to 2h is before -from 1h"},
		{on(sql + "-examples 1001"), 2, "", "-examples 1001, want 0 to 1000"},
		{on(sql + "-examples -1"), 2, "", "-examples -1, want 0 to 1000"},
		{on(sql + "-jobs 0"), 2, "", "-jobs 0, want 1 or more"},
		{on(sql + "-shard 1,x"), 2, "", `-shard "1,x": want numbers`},
		{on(sql + "-shard 16"), 1, "", "shard 16; the ingest log has 0 to 3"},
		{on(sql + "-against nosuch"), 1, "", "rule nosuch: "},
		{on("/nowhere/x.json"), 1, "", "/nowhere/x.json"},
		{on("-rule /nowhere/x.json"), 1, "", "/nowhere/x.json"},
		{on("-rule " + noJSON), 1, "", "no.json: it is no JSON"},
		{on("-rule " + odd), 1, "", "rule new-rule: name: want 1 to 128"},
		{on("-rule " + odd + " -against hot"), 0, "5 messages of 4 shards", ""},
		{on("-rule " + wrong), 1, "", "rule wrong: sql: line 1, column 11: unexpected \"FROM\"; expected an " +
			"expression\n    SELECT v, FROM 'dt/#'\n              ^"},
		{on("-sql @/nowhere/x"), 1, "", "/nowhere/x"},
		{on(sql), 0, "there is no rule to compare with", ""},
		{on(sql + "-from now"), 0, "read     0 messages", ""},
		{on(sql + "-to 1h"), 0, "read     0 messages", ""},
		{on(sql + "-from 2h -to now"), 0, "read     5 messages", ""},
		{on("-sql SELECT·v·FROM·'dt/#'·WHERE·v>3 -against hot -examples 0"), 0,
			fmt.Sprintf("no longer fires %36d\n", 1), ""},
		{on("-rule " + named), 0, "the two statements are the same", ""},
		{on("-rule " + named + " -json"), 0, `"unchanged": 2`, ""},
	} {
		s.run(t)
	}

	text, errs, err := runText(t, "rule", "replay", "-data", data, "-rule", changed, "-against", "hot")
	if err != nil || errs != "" {
		t.Fatalf("%v %s", err, errs)
	}
	for _, part := range []string{
		"rule     hot\nold      SELECT v FROM 'dt/#' WHERE v > 2\n" +
			"new      SELECT v * 2 AS v FROM 'dt/#' WHERE v < 4\nrange    the oldest message to now\ncovered  messages that arrived from ",
		"read     5 messages of 4 shards in ",
		"                                  old            new\n" +
			"matched FROM                        5              5\n" +
			"fired                               2              3\n" +
			"failed                              0              0\n" +
			"\n" +
			"newly fires                                        2\n" +
			"no longer fires                                    1\n" +
			"changed output                                     1\n" +
			"newly fails                                        0\n" +
			"no longer fails                                    0\n" +
			"both fire, same output                             0\n" +
			"neither fires                                      1\n",
		"differences by topic: the 1 with most of 1\n  dt/a  4  2 newly fires, 1 no longer fires, 1 changed output\n",
		"\nnewly fires: 2 of 2\n  20",
		"\n    payload  {\"v\":1}\n    old      does not fire: where false\n    new      {\"v\":2}\n",
		"\n    payload  {\"v\":4}\n    old      {\"v\":4}\n    new      does not fire: where false\n",
		"\n    payload  {\"v\":3}\n    old      {\"v\":3}\n    new      {\"v\":6}\n",
		"\nnote: documents are compared as JSON values",
		"\nnote: the actions of the two rules differ",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("no\n%sin\n%s", part, text)
		}
	}
	text, _, err = runText(t, "rule", "replay", "-data", data, "-sql", "SELECT * FROM 'dt/#' WHERE isUndefined(v)",
		"-from", "1h", "-json")
	var r rules.ReplayReport
	if err != nil || json.Unmarshal([]byte(text), &r) != nil || r.Differences[0].Count != 1 ||
		r.Differences[0].Examples[0].Payload.Of != 5002 ||
		r.From.After(time.Now().Add(-time.Hour)) || r.From.Before(time.Now().Add(-2*time.Hour)) {
		t.Errorf("%v %s", err, text)
	}
	text, _, _ = runText(t, "rule", "replay", "-data", data, "-sql", "SELECT * FROM 'dt/#' WHERE isUndefined(v)")
	if want := `"` + strings.Repeat("z", 2047) + "… (5002 bytes)\n"; strings.Count(text, want) != 2 {
		t.Errorf("no long example in %s", text)
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"oldest": {}, "now": now, "2h": now.Add(-2 * time.Hour), "3d": now.AddDate(0, 0, -3),
		"1d12h": now.Add(-36 * time.Hour), "90m": now.Add(-90 * time.Minute),
		"2026-03-01":                  time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		"2026-03-01T06:00:00.5+01:00": time.Date(2026, 3, 1, 5, 0, 0, 5e8, time.UTC),
	} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "d", "-2h", "-3d", "1d-2h", "3", "3d4", "2026-13-01", "2026-03-01T06:00",
		"70000d"} {
		if got, err := moment(text, now); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// A terminal has one line that is written over; elsewhere there is a line now
// and then.
func TestMeter(t *testing.T) {
	began := time.Now()
	show := func(terminal bool) string {
		var b strings.Builder
		m := &meter{w: &b, terminal: terminal, shown: began}
		for i := range 13 {
			m.progress(&admin.ReplayLine{Read: uint64(i) * 100_000, Of: 1_200_000, Rate: 100_000},
				began.Add(time.Duration(i)*time.Second))
		}
		m.progress(&admin.ReplayLine{Report: &rules.ReplayReport{}}, began.Add(time.Hour))
		m.end()
		return b.String()
	}
	if got := show(false); got != "read 500,000 of 1,200,000 messages, 42 %, 100,000 a second\n"+
		"read 1,000,000 of 1,200,000 messages, 83 %, 100,000 a second\n" {
		t.Errorf("%q", got)
	}
	if got := show(true); strings.Count(got, "\r") != 14 || strings.Contains(got, "\n") ||
		!strings.HasPrefix(got, "\rread 0 of 1,200,000 messages, 0 %, 100,000 a second\x1b[K\rread 100,000") ||
		!strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("%q", got)
	}
	if got := grouped(0) + grouped(999) + " " + grouped(1000) + " " +
		grouped(123456789); got != "0999 1,000 123,456,789" {
		t.Error(got)
	}
}

// Interrupted, a replay is ended and its report printed; when the bridge dies
// there is none.
func TestReplayEnds(t *testing.T) {
	dir := shortDir(t)
	l, err := net.Listen("unix", filepath.Join(dir, "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	begun, end, die := make(chan struct{}), make(chan string, 1), make(chan struct{}, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/replays", func(w http.ResponseWriter, r *http.Request) {
		enc := json.NewEncoder(w)
		_ = enc.Encode(admin.ReplayLine{ID: "some", Of: 10})
		_ = http.NewResponseController(w).Flush()
		begun <- struct{}{}
		select {
		case id := <-end:
			_ = enc.Encode(admin.ReplayLine{ID: id,
				Report: &rules.ReplayReport{Rule: id, Partial: true, Read: 4, Records: 10}})
		case <-die:
			panic(http.ErrAbortHandler)
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("DELETE /v1/replays/{id}", func(_ http.ResponseWriter, r *http.Request) { end <- r.PathValue("id") })
	bridge := &http.Server{Handler: mux}
	go func() { _ = bridge.Serve(l) }()
	defer bridge.Close()
	for _, c := range []struct {
		name string
		do   func(interrupt func())
		out  string
		err  string
	}{
		{"interrupted", func(interrupt func()) {
			interrupt()
		}, "PARTIAL: ended after 4 of 10 messages; what follows is of those\n\nrule     some\n",
			"the replay was interrupted; its report is of a part of the messages"},
		{"died", func(func()) { die <- struct{}{} }, "", "the answer broke off: unexpected EOF"},
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		var out, errs strings.Builder
		done := make(chan error, 1)
		go func() {
			done <- run(ctx, "test", []string{"rule", "replay", "-data", dir, "-sql", "SELECT a FROM 'b'"}, &out, &errs)
		}()
		<-begun
		c.do(interrupt)
		if err := <-done; fmt.Sprint(err) != c.err || !strings.HasPrefix(out.String(), c.out) ||
			(c.out == "") != (out.Len() == 0) || errs.Len() > 0 {
			t.Errorf("%s: %v, printed %s%s", c.name, err, out.String(), errs.String())
		}
		interrupt()
	}
}

// Who reads only the exit status learns that a report is partial.
func TestPartialReport(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		for _, partial := range []bool{false, true} {
			var b strings.Builder
			err := (&call{stdout: &b, out: &b}).printReport(&rules.ReplayReport{Rule: "hot", Partial: partial}, asJSON)
			if errors.Is(err, errPartial) != partial || !partial && err != nil || !strings.Contains(b.String(), "hot") {
				t.Errorf("JSON %v, partial %v: %v\n%s", asJSON, partial, err, b.String())
			}
		}
	}
}
