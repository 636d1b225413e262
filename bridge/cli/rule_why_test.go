package cli

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestRuleWhyCommand(t *testing.T) {
	data := newData(t)
	rule := `{"sql":"SELECT temp FROM 'dt/#' WHERE temp > 30 AND rand() < 2","awsIotSqlVersion":"2016-03-23",
	  "actions":[{"republish":{"topic":"hot/${topic(2)}"}}],"errorAction":{"republish":{"topic":"errors"}}}`
	if err := os.WriteFile(filepath.Join(data, "bridge.d", "rules", "hot.json"), []byte(rule), 0o600); err != nil {
		t.Fatal(err)
	}
	on := func(args string) string { return "rule why -data " + data + " " + args }
	for _, s := range []step{
		{on(""), 2, "", "want NAME"},
		{on("-rule hot -message 0/0 -topic a"), 2, "", "exclude each other"},
		{on("-rule hot -payload {}"), 2, "", "a sample needs -topic"},
		{on("-rule hot -topic a/#"), 2, "", "-topic"},
		{on("-rule nosuch"), 1, "", "rule nosuch"},
		{on("-rule hot"), 0, "", "no message that met the rule is kept"},
		{on("-rule hot -failed"), 0, "", "no message that met the rule and failed is kept"},
		{on("-rule hot -message x"), 1, "", "want a message's trace id, or SHARD/OFFSET"},
		{on("-rule hot -message 0/0"), 1, "", "no such message"},
		{on("-rule hot -message 00000000-0000-0000-0000-000000000000"), 1, "", "no such message of the last 1h0m0s"},
		{on(`-rule hot -topic dt/pi-1/x -payload {"temp":31}`), 0,
			"fires with {\"temp\":31}\n\naction 0: republish\n  topic              hot/pi-1\n  qos                0\n  would run\n\n" +
				"error action: republish\n  does not run\n", ""},
		{on(`-rule hot -topic dt/pi-1/x -payload {"temp":29}`), 0, "temp > 30 → false", ""},
		{on(`-rule hot -topic other -payload {}`), 0, "does not fire: the topic does not reach the rule", ""},
		{on(`-rule hot -topic dt/pi-1/x -payload {"temp":31} -json`), 0, `"value": "hot/pi-1"`, ""},
		{on("-rule hot -json"), 0, "[]", ""},
	} {
		s.run(t)
	}
	out, _, err := runText(t, "rule", "why", "-data", data, "-rule", "hot", "-topic", "dt/a", "-payload", `{"temp":31}`)
	if err != nil || strings.Count(out, "(may differ each time)") != 1 {
		t.Errorf("%v\n%s", err, out)
	}
}

// What is printed of a message that was kept.
func TestWhyText(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC)
	w := &rules.Why{Rule: "hot", SQL: "SELECT temp\n FROM 'dt/#'", Found: "kept", Matched: true, Fired: true,
		Message: rules.Seen{ID: "7e146a2c-95b5-4caf-98b9-50e3969734c7", Position: "3/1207", Time: at, Topic: "dt/pi-1",
			ClientID: "pi-1",
			Payload:  &rules.Data{Bytes: []byte("\x00x")}},
		Steps:    []iotsql.Step{{Clause: "FROM", Text: "dt/#", Value: `matches "dt/pi-1"`}},
		Document: &rules.Data{JSON: json.RawMessage(`{"temp":31}`)},
		Notes:    []string{"a note"},
	}
	for _, o := range []*rules.Outcome{
		nil,
		{State: rules.StateNotRun},
		{State: rules.StateRefused, Time: at, Error: "stream s does not exist"},
		{State: rules.StateCommitted, Stream: "s", Shard: 1, Offset: 7, Time: at},
		{State: rules.StateWaiting, Stream: "$outbox/hot/0", Offset: 9, Time: at},
		{State: rules.StateWaiting, Stream: "$outbox/hot/0", Offset: 9, Time: at, Attempts: 3, Error: "unreachable"},
		{State: rules.StateDelivered, Attempts: 4, Time: at},
		{State: rules.StateGivenUp, Attempts: 2, Time: at, Error: "unreachable"},
		{State: rules.StateEnded, Time: at},
	} {
		w.Actions = append(w.Actions, rules.ActionWhy{Slot: "0", Kind: "s3",
			Parameters: []action.Parameter{{Name: "key", Value: "k"}}, Outcome: o})
	}
	today := *w
	today.Fired, today.Document, today.Actions, today.Notes = false, nil, nil, nil
	w.Today = &today
	var b strings.Builder
	if err := (&call{stdout: &b}).printWhy(w, false); err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "why.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || b.String() != string(want) {
		t.Errorf("%v\n%s\nwant\n%s", err, &b, want)
	}
}

func TestMeanText(t *testing.T) {
	for want, l := range map[string]rules.Latency{
		"-":      {},
		"0s":     {Count: 3},
		"2ms":    {Count: 2, Sum: 4 * time.Millisecond},
		"31.6ms": {Count: 1, Sum: 31622069},
		"1.23s":  {Count: 2, Sum: 2468 * time.Millisecond},
	} {
		if got := meanText(l); got != want {
			t.Errorf("%+v: %s, want %s", l, got, want)
		}
	}
}
