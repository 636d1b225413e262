package rules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// replayed compiles a rule of a statement.
func replayed(t testing.TB, name, sql string) *Rule {
	t.Helper()
	return replayedWith(t, nil, name, sql, `"actions":[]`)
}

func replayedWith(t testing.TB, x *iotsql.Services, name, sql, members string) *Rule {
	t.Helper()
	text, err := json.Marshal(sql)
	if err != nil {
		t.Fatal(err)
	}
	r, err := (&Compiler{Services: x, Catalog: &rig{}}).Parse(name,
		fmt.Appendf(nil, `{"sql":%s,"awsIotSqlVersion":"2016-03-23",%s}`, text, members))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A past is an ingest log that was written at times of the test's choice.
type past struct {
	t     *testing.T
	e     *Engine
	store *pebble.Store
	now   time.Time
	batch *streams.Batch
	n     int
}

// dawn is when each past begins.
var dawn = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newPast(t *testing.T, shards int) *past {
	t.Helper()
	p := &past{t: t, now: dawn}
	var err error
	p.store, err = pebble.Open("log", pebble.Options{FS: vfs.NewMem(), Now: func() time.Time { return p.now }})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.store.Create(ingest.Stream, streams.Config{Shards: shards}),
		p.store.Create("out", streams.Config{Shards: 1})); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.store.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, p.store.Close()); err != nil {
			t.Error(err)
		}
	})
	p.batch = p.store.NewBatch()
	p.e = New(p.store, Options{Account: "000000000000", Outbox: func(string) error {
		return nil
	}, Log: slog.New(slog.DiscardHandler)})
	return p
}

// add puts a message that arrives now into the block that commit writes.
func (p *past) add(shard int, topic, payload string) {
	p.n++
	m := message.Message{Topic: topic, Payload: []byte(payload), ClientID: "dev", Protocol: "mqtt",
		Time: p.now.UnixMilli(), Trace: [16]byte{byte(p.n >> 8), byte(p.n), 1}}
	p.batch.Append(ingest.Stream, shard, streams.Record{Time: m.Time, Data: m.AppendRecord(nil)})
}

// commit writes a block in each shard, later than the messages arrived.
func (p *past) commit(later time.Duration) {
	p.t.Helper()
	p.now = p.now.Add(later)
	if err := p.store.Commit(p.t.Context(), p.batch); err != nil {
		p.t.Fatal(err)
	}
	p.batch.Reset()
}

func (p *past) replay(r *Replay) *ReplayReport {
	p.t.Helper()
	report, err := p.e.Replay(p.t.Context(), r, func(uint64, uint64) {})
	if err != nil {
		p.t.Fatal(err)
	}
	return report
}

// numbers are those of a report.
func numbers(r *ReplayReport) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d messages, old %v, new %v", r.Messages, r.Old, r.New)
	sum := r.Unchanged + r.Neither
	for _, d := range r.Differences {
		fmt.Fprintf(&b, ", %d %s", d.Count, d.Kind)
		sum += d.Count
	}
	fmt.Fprintf(&b, ", %d unchanged, %d neither", r.Unchanged, r.Neither)
	if sum != r.Messages {
		fmt.Fprintf(&b, ", which does not add up")
	}
	return b.String()
}

func TestReplayKinds(t *testing.T) {
	p := newPast(t, 2)
	big := strings.Repeat("x", 1000) // an evaluation that replaces each x by it fails
	type member = map[string]any
	table := []struct {
		topic string
		doc   member
		kind  string // of difference
		old   string // results
		new   string
	}{
		{"other/a", member{"v": 30}, "", "", ""},
		{"dt/a", member{"v": 5}, "", "", ""},
		{"dt/a", member{"v": 30}, "", "", ""},
		{"dt/a", member{"v": 15}, "no longer fires", `{"v":15,"n":0}`, "where false"},
		{"dt/a/b", member{"v": 30}, "no longer fires", `{"v":30,"n":0}`, "from does not match"},
		{"dt/a", member{"v": -1}, "newly fires", "where false", `{"n":0,"v":-1}`},
		{"new/a", member{"v": 31}, "", "", ""},
		{"dt/a", member{"v": 30, "a": "x", "b": "xx"}, "changed output", `{"v":30,"n":1}`, `{"n":4,"v":30}`},
		{"dt/a", member{"v": 30, "a": big}, "newly fires", "iotsql: the result is over the size limit",
			`{"n":0,"v":30}`},
		{"dt/a", member{"v": 30, "b": big}, "no longer fires", `{"v":30,"n":0}`,
			"iotsql: the result is over the size limit"},
		{"dt/a", member{"v": 15, "a": big}, "no longer fails", "iotsql: the result is over the size limit",
			"where false"},
		{"dt/a", member{"v": -2, "b": big}, "newly fails", "where false", "iotsql: the result is over the size limit"},
		{"dt/a", member{"v": 30, "a": big, "b": big}, "", "", ""},
		{"$aws/rules/hot/dt/a/b", member{"v": 31}, "", "", ""},
		{"$aws/rules/hot/x", member{"v": 16}, "no longer fires", `{"v":16,"n":0}`, "where false"},
		{"$aws/rules/warm/dt/a", member{"v": 16}, "", "", ""},
	}
	for i, c := range table {
		for _, name := range []string{"a", "b"} {
			if c.doc[name] == nil {
				c.doc[name] = ""
			}
		}
		payload, _ := json.Marshal(c.doc)
		p.add(i%2, c.topic, string(payload))
		p.commit(time.Millisecond)
	}
	old := "SELECT v, length(replace(a, 'x', a)) AS n FROM 'dt/#' WHERE v > 10"
	new := "SELECT length(replace(b, 'x', b)) AS n, v FROM 'dt/+' WHERE v > 20 OR v < 0"
	report := p.replay(&Replay{Old: replayed(t, "hot", old), New: replayed(t, "hot", new), Examples: 100})
	const want = "16 messages, old {13 7 3}, new {12 5 3}, 2 newly fires, 4 no longer fires, 1 changed output, 1 " +
		"newly fails, 1 no longer fails, 2 unchanged, 5 neither"
	if got := numbers(report); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// Each of them is an example.
	byKind := map[string][]ReplayExample{}
	for _, d := range report.Differences {
		byKind[d.Kind] = d.Examples
	}
	for i, c := range table {
		if c.kind == "" {
			continue
		}
		all := byKind[c.kind]
		if len(all) == 0 {
			t.Errorf("%d: too few examples of %s", i, c.kind)
			continue
		}
		x := all[0]
		byKind[c.kind] = all[1:]
		if x.Topic != c.topic || end(&x.Old) != c.old || end(&x.New) != c.new ||
			x.Position != fmt.Sprintf("%d/%d", i%2, i/2) ||
			!x.Time.Equal(dawn.Add(time.Duration(i)*time.Millisecond)) ||
			x.ID != message.Trace([16]byte{0, byte(i + 1), 1}).String() ||
			x.ClientID != "dev" || x.Payload.JSON == nil {
			t.Errorf("%d: %s: %+v, old %s, new %s", i, c.kind, x, end(&x.Old), end(&x.New))
		}
	}
	for kind, rest := range byKind {
		if len(rest) > 0 {
			t.Errorf("%s: one too many: %+v", kind, rest)
		}
	}
	if got := fmt.Sprint(report.Topics); got != "[{dt/a 7 map[changed output:1 newly fails:1 newly fires:2 no "+
		"longer fails:1 no longer fires:2]} "+
		"{$aws/rules/hot/x 1 map[no longer fires:1]} {dt/a/b 1 map[no longer fires:1]}]" || report.TopicsInAll != 3 ||
		report.MoreTopics {
		t.Errorf("topics %s of %d", got, report.TopicsInAll)
	}
	if !report.First.Equal(dawn) || !report.Last.Equal(dawn.Add(15*time.Millisecond)) || report.Partial ||
		report.Shards != 2 ||
		report.Records != 16 || report.Read != 16 || report.SQL != new || report.OldSQL != old ||
		report.Rule != "hot" || report.Against != "hot" {
		t.Errorf("%+v", report)
	}
	if got := strings.Join(report.Notes,
		"\n"); got != "documents are compared as JSON values: the order of members, space, and how a number or "+
		"text is spelled make no change" {
		t.Errorf("notes: %s", got)
	}
}

// end is what a rule made, in one text.
func end(e *ReplayEnd) string {
	switch {
	case e.Document != nil && e.Result == "fired" && e.Error == "":
		return string(e.Document.JSON)
	case e.Error != "" && e.Result == "failed":
		return e.Error
	}
	return e.Result
}

// Rules that only spell their documents differently do not differ; without an
// old rule whatever fires is new.
func TestReplayAgainst(t *testing.T) {
	p := newPast(t, 1)
	for i := range 10 {
		p.add(0, "dt/a", fmt.Sprintf(`{"a":%d,"b":"x"}`, i))
	}
	p.add(0, "$aws/rules/other/dt", `{"a":7}`)
	p.commit(0)
	disabled := replayedWith(t, nil, "hot", "SELECT a FROM 'dt/a'", `"actions":[],"ruleDisabled":true`)
	toOut := `"actions":[{"kinesis":{"streamName":"out","partitionKey":"k"}}]`
	hot := replayedWith(t, nil, "hot", "SELECT a, b FROM 'dt/a' WHERE a > 4", toOut)
	for name, c := range map[string]struct {
		old, new *Rule
		numbers  string
		notes    string
	}{
		"order": {replayed(t, "hot", "SELECT a, b FROM 'dt/a'"),
			replayed(t, "hot", "SELECT b, a * 1.0 AS a FROM 'dt/a'"),
			"old {10 10 0}, new {10 10 0}, 0 newly fires, 0 no longer fires, 0 changed output, 0 newly fails, 0 " +
				"no longer fails, 10 unchanged, 1 neither",
			"JSON values"},
		"same": {hot, replayed(t, "hot", "SELECT a, b FROM 'dt/a' WHERE a > 4"),
			"old {10 5 0}, new {10 5 0}, 0 newly fires, 0 no longer fires, 0 changed output, 0 newly fails, 0 no " +
				"longer fails, 5 unchanged, 6 neither",
			"the two statements are the same, so nothing can differ; the actions of the two rules differ; only"},
		"same actions": {hot, replayedWith(t, nil, "hot", "SELECT a, b FROM 'dt/a' WHERE a > 4",
			strings.ReplaceAll(toOut, ":", " : ")),
			"old {10 5 0}, new {10 5 0}, 0 newly fires, 0 no longer fires, 0 changed output, 0 newly fails, 0 no " +
				"longer fails, 5 unchanged, 6 neither",
			"the two statements are the same, so nothing can differ"},
		"none": {nil, hot,
			"old {0 0 0}, new {10 5 0}, 5 newly fires, 0 no longer fires, 0 changed output, 0 newly fails, 0 no " +
				"longer fails, 0 unchanged, 6 neither",
			"there is no rule to compare with"},
		"disabled": {disabled, disabled,
			"old {0 0 0}, new {10 10 0}, 10 newly fires, 0 no longer fires, 0 changed output, 0 newly fails, 0 no " +
				"longer fails, 0 unchanged, 1 neither",
			"the rule in force is disabled, so it never fires; the new rule is disabled; it is evaluated as if it were enabled"},
		"other name": {replayed(t, "other", "SELECT a FROM 'no'"), replayed(t, "hot", "SELECT a FROM 'no'"),
			"old {1 1 0}, new {0 0 0}, 0 newly fires, 1 no longer fires, 0 changed output, 0 newly fails, 0 no " +
				"longer fails, 0 unchanged, 10 neither",
			"JSON values"},
		"other version": {replayed(t, "hot", "SELECT sql_version() AS v FROM 'dt/a'"),
			older(t, "hot", "SELECT sql_version() AS v FROM 'dt/a'"),
			"old {10 10 0}, new {10 10 0}, 0 newly fires, 0 no longer fires, 10 changed output, 0 newly fails, 0 " +
				"no longer fails, 0 unchanged, 1 neither",
			"JSON values"},
	} {
		report := p.replay(&Replay{Old: c.old, New: c.new})
		if got := numbers(report); got != "11 messages, "+c.numbers {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, c.numbers)
		}
		if got := strings.Join(report.Notes, "; "); !strings.Contains(got, c.notes) ||
			strings.Contains(got, "actions") != strings.Contains(c.notes, "actions") {
			t.Errorf("%s: notes %s", name, got)
		}
		for _, d := range report.Differences {
			if len(d.Examples) > 0 {
				t.Errorf("%s: examples that nobody asked for: %+v", name, d)
			}
		}
	}
}

// older compiles a rule of the first version.
func older(t *testing.T, name, sql string) *Rule {
	t.Helper()
	r, err := (&Compiler{}).Parse(name, fmt.Appendf(nil, `{"sql":%q,"actions":[]}`, sql))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// From is taken and To is not, to the millisecond, however late a block was
// committed; blocks out of the range are not read.
func TestReplayRange(t *testing.T) {
	p := newPast(t, 2)
	for i := range 60 { // one message a second, a block of both shards every 10 s, committed 30 s late
		p.add(i%2, "dt/a", fmt.Sprintf(`{"i":%d}`, i))
		if i%10 == 9 {
			p.commit(30 * time.Second)
			p.now = p.now.Add(-30 * time.Second)
		}
		p.now = p.now.Add(time.Second)
	}
	p.now = p.now.Add(time.Hour)
	p.add(0, "dt/a", `{"i":60}`)
	p.commit(0)
	at := func(s float64) time.Time { return dawn.Add(time.Duration(s * float64(time.Second))) }
	late := p.now.Add(-time.Second)
	for _, c := range []struct {
		name        string
		from, to    time.Time
		shards      []int
		messages    uint64
		first, last time.Time
		records     uint64 // at most
	}{
		{"all", time.Time{}, time.Time{}, nil, 61, at(0), p.now, 61},
		{"from before all", at(-3600), time.Time{}, nil, 61, at(0), p.now, 61},
		{"from a message", at(20), time.Time{}, nil, 41, at(20), p.now, 61},
		{"from after it", at(20.0001), time.Time{}, nil, 40, at(21), p.now, 61},
		{"to a message", time.Time{}, at(20), nil, 20, at(0), at(19), 60},
		{"to after it", time.Time{}, at(20.0001), nil, 21, at(0), at(20), 60},
		{"both", at(7), at(8), nil, 1, at(7), at(7), 60},
		{"nothing between", at(7.2), at(7.9), nil, 0, time.Time{}, time.Time{}, 60},
		{"the same", at(7), at(7), nil, 0, time.Time{}, time.Time{}, 60},
		{"the last block", late, time.Time{}, nil, 1, p.now, p.now, 1},
		{"before all", time.Time{}, at(-70), nil, 0, time.Time{}, time.Time{}, 0},
		{"after all", p.now.Add(time.Second), time.Time{}, nil, 0, time.Time{}, time.Time{}, 0},
		{"a shard", time.Time{}, at(50), []int{1, 1}, 25, at(1), at(49), 30},
	} {
		r := p.replay(&Replay{New: replayed(t, "hot", "SELECT i FROM 'dt/#'"), From: c.from, To: c.to,
			Shards: c.shards})
		if r.Messages != c.messages || r.New.Fired != c.messages || !r.First.Equal(c.first) || !r.Last.Equal(c.last) ||
			r.Records > c.records || r.Read != r.Records ||
			!r.RetainedSince.IsZero() || !r.From.Equal(c.from) || !r.To.Equal(c.to) {
			t.Errorf("%s: %d messages of %d records, %v to %v, want %d, %d, %v to %v", c.name, r.Messages, r.Records,
				r.First, r.Last, c.messages, c.records, c.first, c.last)
		}
	}
	for name, r := range map[string]*Replay{
		"ends before it begins": {From: at(2), To: at(1)}, "no such shard": {Shards: []int{0, 2}},
		"negative shard": {Shards: []int{-1}},
	} {
		r.New = replayed(t, "hot", "SELECT i FROM 'dt/#'")
		if _, err := p.e.Replay(t.Context(), r, func(uint64, uint64) {}); !errors.Is(err, ErrReplay) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReplayRetention(t *testing.T) {
	p := newPast(t, 2)
	for i := range 40 {
		p.add(i%2, "dt/a", `{}`)
		p.commit(0)
		p.now = p.now.Add(time.Second)
	}
	// 0 to 8 s, 1 to 7 s
	if err := errors.Join(p.store.Trim(ingest.Stream, 0, 5), p.store.Trim(ingest.Stream, 1, 4)); err != nil {
		t.Fatal(err)
	}
	r := &Replay{New: replayed(t, "hot", "SELECT * FROM 'dt/#'"), From: dawn.Add(2 * time.Second)}
	if got := p.replay(r); !got.RetainedSince.Equal(dawn.Add(9*time.Second)) || got.Messages != 31 ||
		!got.First.Equal(dawn.Add(9*time.Second)) || got.Lost != 0 {
		t.Errorf("%+v", got)
	}
	r.From = dawn.Add(9 * time.Second)
	if got := p.replay(r); !got.RetainedSince.IsZero() || got.Messages != 31 {
		t.Errorf("from where the log begins: %+v", got)
	}
	// While it runs retention takes what was still to be read.
	r.From = time.Time{}
	told := 0
	got, err := p.e.Replay(t.Context(), r, func(read, of uint64) {
		if told++; told == 1 {
			if err := p.store.Trim(ingest.Stream, 1, 10); err != nil {
				t.Error(err)
			}
			p.add(1, "dt/a", `{}`) // which came too late
			p.commit(0)
		}
	})
	if err != nil || got.Lost != 6 || got.Messages != 25 || got.Read != 31 || got.Partial ||
		!got.RetainedSince.IsZero() {
		t.Errorf("%v, %+v", err, got)
	}
	for shard := range 2 {
		if err := p.store.Trim(ingest.Stream, shard, 21); err != nil {
			t.Fatal(err)
		}
	}
	r.From = dawn
	if got := p.replay(r); got.RetainedSince.IsZero() || got.Messages != 0 || got.Differences[0].Examples == nil {
		t.Errorf("nothing left: %+v", got)
	}
}

// many is a past of n messages over some shards.
func many(t *testing.T, shards, n int) *past {
	p := newPast(t, shards)
	for i := range n {
		p.add(i%shards, fmt.Sprintf("dt/%d/x", i%7), fmt.Sprintf(`{"i":%d}`, i))
		p.now = p.now.Add(time.Millisecond)
		if i%1000 == 999 {
			p.commit(0)
		}
	}
	p.commit(0)
	return p
}

// Examples are the same ones whenever, and by however many goroutines, and
// spread over all that there are.
func TestReplayExamples(t *testing.T) {
	p := many(t, 4, 20_000)
	r := &Replay{New: replayed(t, "hot", "SELECT i, newuuid() AS u FROM 'dt/#'"), Examples: 50}
	want := p.replay(r)
	all := want.Differences[fires].Examples
	if len(all) != 50 || !slices.IsSortedFunc(all, func(a, b ReplayExample) int { return a.Time.Compare(b.Time) }) {
		t.Fatalf("%d examples: %+v", len(all), all)
	}
	quarters := [4]int{}
	for _, x := range all {
		quarters[x.Time.Sub(dawn)/(5*time.Second)]++
	}
	if slices.Min(quarters[:]) < 4 { // 12.5 on average
		t.Errorf("examples by quarter: %v", quarters)
	}
	for _, jobs := range []int{1, 3, 100} {
		r.Jobs = jobs
		got := p.replay(r)
		got.Elapsed = want.Elapsed
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d jobs: %+v\nwant %+v", jobs, got, want)
		}
	}
	r.Examples = MaxExamples + 1
	if n := len(p.replay(r).Differences[fires].Examples); n != MaxExamples {
		t.Errorf("%d examples", n)
	}
	r.Examples = -1
	if n := len(p.replay(r).Differences[fires].Examples); n != 0 {
		t.Errorf("%d examples", n)
	}
}

func TestReplayExcerpts(t *testing.T) {
	p := newPast(t, 1)
	long := `{"a":"` + strings.Repeat("y", maxExcerpt) + `"}`
	p.add(0, "dt/a", long)
	p.commit(0)
	x := p.replay(&Replay{New: replayed(t, "hot", "SELECT * FROM 'dt/#'"), Examples: 1}).Differences[fires].Examples[0]
	for _, e := range []*Excerpt{x.Payload, x.New.Document} {
		if e.JSON != nil || string(e.Bytes) != long[:maxExcerpt] || e.Of != len(long) {
			t.Errorf("%+v", e)
		}
	}
}

// Ended in the middle, the report is of what was read.
func TestReplayEnds(t *testing.T) {
	p := many(t, 2, 4*replayRecords)
	ctx, stop := context.WithCancel(t.Context())
	var told []uint64
	r := &Replay{New: replayed(t, "hot", "SELECT i FROM 'dt/#'")}
	got, err := p.e.Replay(ctx, r, func(read, of uint64) {
		if told = append(told, read); of != 4*replayRecords {
			t.Errorf("%d of %d", read, of)
		}
		if len(told) == 3 {
			stop()
		}
	})
	if err != nil || !got.Partial || got.Messages != 2*replayRecords || got.Read != got.Messages ||
		got.New.Fired != got.Messages ||
		!slices.Equal(told, []uint64{0, replayRecords, 2 * replayRecords}) {
		t.Errorf("%v, %+v, told %v", err, got, told)
	}
	// Both shards had their turn.
	if want := dawn.Add((2*replayRecords - 1) * time.Millisecond); !got.Last.Equal(want) || !got.First.Equal(dawn) {
		t.Errorf("%v to %v", got.First, got.Last)
	}
	// Ended during an evaluation, that does not count.
	ctx, stop = context.WithCancel(t.Context())
	defer stop()
	calls := 0
	x := &iotsql.Services{Shadows: shadows(func(ctx context.Context) ([]byte, error) {
		if calls++; calls == 10 {
			stop()
			return nil, ctx.Err()
		}
		return []byte(`{"v":1}`), nil
	})}
	r = &Replay{New: replayedWith(t, x, "hot", "SELECT get_thing_shadow('a', 'r').v AS v FROM 'dt/#'", `"actions":[]`),
		Services: x}
	if got, err := p.e.Replay(ctx, r, func(uint64, uint64) {}); err != nil || !got.Partial || got.Messages != 9 ||
		got.Read != 9 || got.New.Fired != 9 || got.New.Errors != 0 {
		t.Errorf("%v, %+v", err, got)
	}
}

// shadows answers get_thing_shadow.
type shadows func(ctx context.Context) ([]byte, error)

func (f shadows) Shadow(ctx context.Context, _, _ string) ([]byte, error) { return f(ctx) }

func (f shadows) Invoke(ctx context.Context, _ string, _ []byte) ([]byte, error) { return f(ctx) }

func TestReplayAsks(t *testing.T) {
	p := newPast(t, 1)
	for range 10 {
		p.add(0, "dt/a", `{"v":1}`)
	}
	p.commit(0)
	calls, failures := 0, 0
	ask := shadows(func(context.Context) ([]byte, error) {
		switch calls++; calls {
		case 3:
			return nil, errors.New("no")
		case 4:
			panic("a fault")
		}
		return []byte(`{"v":1}`), nil
	})
	x := &iotsql.Services{Shadows: ask, Lambdas: ask, Failed: func(string, error) { failures++ }}
	r := &Replay{Services: x, Examples: 10, Old: replayed(t, "hot", "SELECT newuuid() AS u, rand() AS r FROM 'dt/#'"),
		New: replayedWith(t, x, "hot", "SELECT newuuid() AS u, rand() AS r FROM 'dt/#' WHERE get_thing_shadow('a', 'r').v = v",
			`"actions":[]`)}
	report := p.replay(r)
	if got := numbers(report); got != "10 messages, old {10 10 0}, new {10 8 1}, 0 newly fires, 2 no longer fires,"+
		" 0 changed output, 0 newly fails, 0 no longer fails, 8 unchanged, 0 neither" {
		t.Error(got)
	}
	if x := report.Differences[stops].Examples[1].New; x.Error != "evaluation broke off: a fault" {
		t.Errorf("%+v", x)
	}
	want := []string{"rand() and newuuid() come to the same for both rules, but not to what they were when the messages arrived",
		"get_thing_shadow: answered as things are now, not as they were when the messages arrived",
		"get_thing_shadow failed 1 times; its value was Undefined then"}
	if !slices.Equal(report.Notes[1:], want) {
		t.Errorf("notes %q", report.Notes)
	}
	if failures != 0 {
		t.Errorf("%d failures are counted as those of rules in force", failures)
	}
	calls = 10
	if r.Old = r.New; p.replay(r).Unchanged != 10 || calls != 20 {
		t.Errorf("the same statement is evaluated %d times for 10 messages", calls-10)
	}
	lambda := replayedWith(t, x, "cold", "SELECT aws_lambda('f', *) AS r FROM 'dt/#'", `"actions":[]`)
	plain := replayed(t, "hot", "SELECT * FROM 'dt/#'")
	calls = 10
	for _, r := range []*Replay{{New: lambda, Services: x}, {New: plain, Old: lambda, Services: x}} {
		if _, err := p.e.Replay(t.Context(), r, func(uint64, uint64) {}); !errors.Is(err, ErrReplay) ||
			!strings.Contains(err.Error(), "rule cold: aws_lambda may have effects") {
			t.Errorf("aws_lambda: %v", err)
		}
	}
	if calls != 10 {
		t.Error("it was called")
	}
}

// A replay leaves the log, the rules' counters and what is kept of them alone,
// while the rules run.
func TestReplayHasNoEffect(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.run()
	defer r.stop()
	r.rules(map[string]string{"hot": toOut("SELECT v FROM 'dt/#' WHERE v > 2")})
	for i := range 5 {
		r.publish("dt/a", fmt.Sprintf(`{"v":%d}`, i))
	}
	counted := Stats{Matched: 5, Unmet: 3, Fired: 2, Actions: 2}
	r.stats("hot", counted)
	state := func() string {
		var b strings.Builder
		for _, s := range r.store.List() {
			for shard := range s.Shards {
				oldest, next, err := r.store.Bounds(s.Name, shard)
				fmt.Fprintln(&b, s.Name, shard, oldest, next, err)
			}
		}
		recent, err := r.e.Recent(t.Context(), r.e.Rule("hot"), false, time.Hour)
		fmt.Fprintln(&b, r.e.Metrics(), recent, err, len(r.e.Rules()), r.e.NotFound())
		return b.String()
	}
	before := state()
	new, err := (&Compiler{Catalog: r}).Parse("hot", []byte(toOut("SELECT * FROM 'dt/#'")))
	if err != nil {
		t.Fatal(err)
	}
	report, err := r.e.Replay(t.Context(), &Replay{Old: r.e.Rule("hot"), New: new, Examples: 2},
		func(uint64, uint64) {})
	if err != nil || report.Differences[fires].Count != 3 || report.Unchanged != 2 {
		t.Errorf("%v, %+v", err, report)
	}
	if after := state(); after != before {
		t.Errorf("before\n%safter\n%s", before, after)
	}
	if got := new.metrics().Stats; got != (Stats{}) {
		t.Errorf("the new rule counts %+v", got)
	}
	r.publish("dt/a", `{"v":9}`)
	counted.Matched, counted.Fired, counted.Actions = 6, 3, 3
	r.stats("hot", counted) // the rule in force still is
	if got := r.records("out", 3); len(got) != 3 {
		t.Errorf("out holds %q", got)
	}
}
