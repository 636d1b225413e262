package rules

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// rig is a store with an ingest log and two user streams, and an engine over
// it.
type rig struct {
	t     *testing.T
	store *pebble.Store
	in    *ingest.Ingest
	e     *Engine
	stop  func()
}

// Shard and HasDeliveryStream make the rig the rules' catalog.
func (r *rig) Shard(name string, h streams.Hash) (int, bool) {
	shard, err := streams.Route(r.store, name, h)
	return shard, err == nil
}

func (r *rig) HasDeliveryStream(string) bool                      { return false }
func (r *rig) Remote(string) bool                                 { return false }
func (r *rig) Channel(string, bool) error                         { return nil }
func (r *rig) Queue(*streams.Batch, string, *queue.Message) error { return nil }
func (r *rig) Room(string) error                                  { return nil }
func (r *rig) Takes(*action.Delivery) error                       { return nil }

func newRig(t *testing.T, fs vfs.FS) *rig {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, err := pebble.Open("log", pebble.Options{FS: fs, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	for name, shards := range map[string]int{ingest.Stream: 2, "out": 1, "errors": 1} {
		if err := store.Create(name, streams.Config{Shards: shards}); err != nil &&
			!strings.Contains(err.Error(), "exists") {
			t.Fatal(err)
		}
	}
	in, err := ingest.New(store, ingest.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, store: store, in: in}
	r.e = New(store, Options{Account: "000000000000", Log: log,
		Outbox: func(string) error { return nil }})
	return r
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	logCtx, cancelLog := context.WithCancel(context.Background())
	var engine, log sync.WaitGroup
	log.Go(func() { _ = r.store.Run(logCtx) })
	engine.Go(func() { _ = r.e.Run(ctx) })
	r.stop = func() {
		cancel()
		engine.Wait()
		cancelLog()
		log.Wait()
		if err := r.store.Close(); err != nil {
			r.t.Error(err)
		}
	}
}

func (r *rig) rules(docs map[string]string) {
	r.t.Helper()
	var all []*Rule
	for name, doc := range docs {
		rule, err := (&Compiler{Catalog: r}).Parse(name, []byte(doc))
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, rule)
	}
	if err := r.e.Set(all); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) publish(topic, payload string) {
	r.t.Helper()
	done := make(chan error, 1)
	r.in.Publish(&message.Message{Topic: topic, Payload: []byte(payload), QoS: 1, ClientID: "dev-1", Protocol: "mqtt",
		Time: time.Now().UnixMilli()}, nil, func(err error) { done <- err })
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
}

// records waits until a stream has n records and returns their data.
func (r *rig) records(stream string, n int) []string {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		recs, err := r.store.Read(stream, 0, 0, 100_000, 64<<20)
		if err != nil {
			r.t.Fatal(err)
		}
		if len(recs) >= n || time.Now().After(deadline) {
			var all []string
			for _, rec := range recs {
				all = append(all, string(rec.Data))
			}
			return all
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// stats waits until a rule has the counts, which follow the commit that made
// its outputs visible.
func (r *rig) stats(rule string, want Stats) {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for r.e.Stats()[rule] != want {
		if time.Now().After(deadline) {
			r.t.Errorf("%s counts %+v, want %+v", rule, r.e.Stats()[rule], want)
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func toOut(sql string) string {
	doc, _ := json.Marshal(map[string]any{"sql": sql, "awsIotSqlVersion": "2016-03-23",
		"actions": []any{map[string]any{"kinesis": map[string]string{"streamName": "out", "partitionKey": "k"}}}})
	return string(doc)
}

func TestRulesFire(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.run()
	defer r.stop()
	r.rules(map[string]string{
		"hot":   toOut("SELECT temp, topic(2) AS thing FROM 'dt/#' WHERE temp > 30"),
		"basic": toOut("SELECT v, topic() AS t FROM 'never/matched'"),
		"off":   strings.Replace(toOut("SELECT * FROM 'dt/#'"), `"sql"`, `"ruleDisabled":true,"sql"`, 1),
	})
	r.publish("dt/a/c", `{"temp":31}`)
	r.publish("dt/a/c", `{"temp":29}`)
	r.publish("dt", `{"temp":99}`) // dt/# does not match dt
	r.publish("$aws/rules/basic/x/y", `{"v":1}`)
	r.publish("$aws/rules/nosuch/x", `{"v":2}`)
	r.publish("$aws/rules/off/x", `{"v":3}`)
	r.publish("dt/b/c", `{"temp":32}`)
	want := []string{`{"temp":31,"thing":"a"}`, `{"v":1,"t":"x/y"}`, `{"temp":32,"thing":"b"}`}
	if got := r.records("out", 3); !slices.Equal(got, want) {
		t.Errorf("out holds %q, want %q", got, want)
	}
	if n := r.e.NotFound(); n != 2 {
		t.Errorf("%d messages by Basic Ingest for no rule, want 2", n)
	}
	r.stats("hot", Stats{Matched: 3, Unmet: 1, Fired: 2, Actions: 2})
}

// A message that fires with nothing of its payload is counted, and Why says so.
func TestPayloadThatIsNoObjectIsCounted(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.run()
	defer r.stop()
	r.rules(map[string]string{"all": toOut("SELECT *, topic(2) AS d FROM 'dt/+'")})
	for _, payload := range []string{`{"v":1}`, `{"v":nan}`, `Online`, `[{"n":"v"}]`} {
		r.publish("dt/a", payload)
	}
	want := []string{`{"v":1,"d":"a"}`, `{"d":"a"}`, `{"d":"a"}`, `{"d":"a"}`}
	if got := r.records("out", 4); !slices.Equal(got, want) {
		t.Errorf("out holds %q, want %q", got, want)
	}
	r.stats("all", Stats{Matched: 4, Fired: 4, Unmerged: 3, Actions: 4})
	all, err := r.e.Recent(t.Context(), r.e.Rule("all"), false, time.Hour)
	if err != nil || len(all) != 4 {
		t.Fatalf("%v, %v", all, err)
	}
	told := 0
	for _, m := range all {
		w, err := r.e.Why(t.Context(), r.e.Rule("all"), m.ID, time.Hour, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range w.Steps {
			if strings.Contains(step.Note, "no JSON object") {
				told++
			}
		}
	}
	if told != 3 {
		t.Errorf("%d of 3 explanations name the payload that is gone", told)
	}
}

func TestErrorAction(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.run()
	defer r.stop()
	r.rules(map[string]string{"lost": `{"sql":"SELECT * FROM 'dt/#'","awsIotSqlVersion":"2016-03-23",
	  "actions":[{"kinesis":{"streamName":"gone","partitionKey":"k"}},{"kinesis":{"streamName":"out","partitionKey":"k"}}],
	  "errorAction":{"kinesis":{"streamName":"errors","partitionKey":"k"}}}`})
	r.publish("dt/a", `{"temp":31}`)
	if got := r.records("out", 1); !slices.Equal(got, []string{`{"temp":31}`}) {
		t.Errorf("the good action made %q", got)
	}
	got := r.records("errors", 1)
	if len(got) != 1 {
		t.Fatalf("errors hold %q", got)
	}
	// The members and names of the guide's page about error actions.
	trace := got[0][strings.Index(got[0], "TraceId")+10:][:36]
	if want := `{"ruleName":"lost","topic":"dt/a","cloudwatchTraceId":"` + trace +
		`","clientId":"dev-1","base64OriginalPayload":"eyJ0ZW1wIjozMX0=",` +
		`"failures":[{"failedAction":"KinesisAction","failedResource":"gone","errorMessage":"stream gone does not ` +
		`exist"}]}`; got[0] != want {
		t.Errorf("%s, want\n%s", got[0], want)
	}
	r.stats("lost", Stats{Matched: 1, Fired: 1, Actions: 1, ActionErrors: 1, ErrorActions: 1})
}

// failedResource is what an action acted on after substitution.
func TestFailedResource(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.run()
	defer r.stop()
	const actions = `{"kinesis":{"streamName":"gone-${topic(2)}","partitionKey":"k"}},
	  {"s3":{"bucketName":"UPPER/${topic(2)}","key":"k"}},{"republish":{"topic":"out/${topic(2)}/#"}},
	  {"s3":{"bucketName":"${none}","key":"k"}}`
	r.rules(map[string]string{"lost": `{"sql":"SELECT * FROM 'dt/#'","awsIotSqlVersion":"2016-03-23",
	  "actions":[` + actions + `],"errorAction":{"kinesis":{"streamName":"errors","partitionKey":"k"}}}`})
	r.publish("dt/a", `{"temp":31}`)
	got := r.records("errors", 1)
	if len(got) != 1 {
		t.Fatalf("errors hold %q", got)
	}
	for _, want := range []string{`"KinesisAction","failedResource":"gone-a"`, `"S3Action","failedResource":"UPPER/a"`,
		`"RepublishAction","failedResource":"out/a/#"`,
		`"S3Action","failedResource":"${none}"`} {
		if !strings.Contains(got[0], want) {
			t.Errorf("%s, want %s", got[0], want)
		}
	}
}

// Failures are logged with the host alone of a URL, and their document has all of it.
func TestLoggedFailures(t *testing.T) {
	all := []failure{{"HttpAction", "http://h/p?k=SECRET", "e"}, {"KinesisAction", "gone", "e"}}
	if got := logged(all); got[0].FailedResource != "http://h" || got[1].FailedResource != "gone" ||
		all[0].FailedResource != "http://h/p?k=SECRET" {
		t.Errorf("%+v of %+v", got, all)
	}
}

// A worker that stops and starts anywhere makes each output once, in order.
func TestOutputsOnceAcrossRestarts(t *testing.T) {
	fs := vfs.NewMem()
	const rounds, each = 8, 50
	var want []string
	for range rounds {
		r := newRig(t, fs)
		r.rules(map[string]string{"all": toOut("SELECT n FROM 'dt/#'")}) // before run: what is left over meets it
		r.run()
		for range each {
			doc := fmt.Sprintf(`{"n":%d}`, len(want))
			r.publish("dt/a", doc)
			want = append(want, doc)
		}
		r.records("out", len(want)-each/2)
		r.stop()
	}
	r := newRig(t, fs)
	r.rules(map[string]string{"all": toOut("SELECT n FROM 'dt/#'")})
	r.run()
	defer r.stop()
	if got := r.records("out", len(want)); !slices.Equal(got, want) {
		t.Errorf("%d outputs, want %d in order", len(got), len(want))
	}
}

// lying says that streams exist which do not, so that commits fail.
type lying struct{ *rig }

func (lying) Shard(string, streams.Hash) (int, bool) { return 0, true }

// set brings rules in force that are compiled by it.
func (l lying) set(docs map[string]string) {
	l.t.Helper()
	var all []*Rule
	for name, doc := range docs {
		rule, err := (&Compiler{Catalog: l}).Parse(name, []byte(doc))
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, rule)
	}
	if err := l.e.Set(all); err != nil {
		l.t.Fatal(err)
	}
}

// While a commit fails nothing behind it takes effect; afterwards all does,
// once and in order, and is counted once.
func TestFailedCommitHoldsBackWhatFollows(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	lying{r}.set(map[string]string{
		"all":   toOut("SELECT n FROM 'dt/#'"),
		"ghost": strings.Replace(toOut("SELECT n FROM 'dt/#' WHERE n = 2500"), `"out"`, `"ghost"`, 1),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.store.Run(ctx) }()
	b := r.store.NewBatch()
	var want []string
	for n := range 7000 {
		doc := fmt.Sprintf(`{"n":%d}`, n)
		want = append(want, doc)
		m := message.Message{Topic: "dt/a", Payload: []byte(doc), ClientID: "dev-1", Protocol: "mqtt"}
		b.Append(ingest.Stream, 0, streams.Record{Key: "dev-1", Data: m.AppendRecord(nil)})
	}
	if err := r.store.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	engineCtx, stopEngine := context.WithCancel(ctx)
	engineEnded := make(chan error, 1)
	go func() { engineEnded <- r.e.Run(engineCtx) }()
	if got := r.records("out", groupRecords); len(got) != groupRecords {
		t.Errorf("%d outputs before the failure, want %d", len(got), groupRecords)
	}
	time.Sleep(50 * time.Millisecond)
	if got := r.records("out", 0); len(got) != groupRecords {
		t.Errorf("%d outputs behind a failed commit", len(got)-groupRecords)
	}
	if err := r.store.Create("ghost", streams.Config{Shards: 1}); err != nil {
		t.Fatal(err)
	}
	if got := r.records("out", len(want)); !slices.Equal(got, want) {
		t.Errorf("%d outputs, want %d in order", len(got), len(want))
	}
	stopEngine()
	<-engineEnded
	if s := r.e.Stats()["all"]; s.Matched != 7000 || s.Actions != 7000 {
		t.Errorf("%+v", s)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := r.store.Close(); err != nil {
		t.Error(err)
	}
}

// What had no effect is not met again, and not counted again, after a commit
// behind it failed.
func TestFailedCommitLeavesCountsOfWhatWasBefore(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	lying{r}.set(map[string]string{
		"never": toOut("SELECT n FROM 'dt/#' WHERE n < 0"),
		"ghost": strings.Replace(toOut("SELECT n FROM 'ghost'"), `"out"`, `"ghost"`, 1),
	})
	r.run()
	defer func() { r.stop() }()
	for n := range 3 {
		r.publish("dt/a", fmt.Sprintf(`{"n":%d}`, n))
	}
	r.stats("never", Stats{Matched: 3, Unmet: 3})
	r.publish("ghost", `{"n":3}`)
	time.Sleep(50 * time.Millisecond) // the commit fails meanwhile, or the test shows less
	if err := r.store.Create("ghost", streams.Config{Shards: 1}); err != nil {
		t.Fatal(err)
	}
	r.records("ghost", 1)
	r.stats("never", Stats{Matched: 3, Unmet: 3})
}

// A message that had no effect has none after a restart with other rules,
// once the bridge stopped or had time to note how far it came.
func TestNewRuleLeavesMessagesOfBefore(t *testing.T) {
	for what, killed := range map[string]bool{"stopped at once": false, "killed later": true} {
		synctest.Test(t, func(t *testing.T) {
			fs := vfs.NewCrashableMem()
			r := newRig(t, fs)
			r.rules(map[string]string{"never": toOut("SELECT n FROM 'dt/#' WHERE n < 0")})
			r.run()
			r.publish("dt/a", `{"n":1}`)
			r.stats("never", Stats{Matched: 1, Unmet: 1})
			if killed {
				time.Sleep(lazyCommit + time.Second)
				synctest.Wait()
				fs, r.stop = fs.CrashClone(vfs.CrashCloneCfg{}), sync.OnceFunc(r.stop)
			}
			r.stop()
			r = newRig(t, fs)
			r.rules(map[string]string{"all": toOut("SELECT n FROM 'dt/#'")})
			r.run()
			r.publish("dt/a", `{"n":2}`)
			if got := r.records("out", 1); !slices.Equal(got, []string{`{"n":2}`}) {
				t.Errorf("%s: %q", what, got)
			}
			r.stop()
		})
	}
}

// A call that breaks off since the bridge stops is not the message's end.
func TestStopDuringACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		answers := false
		var r *rig
		start := func() {
			r = newRig(t, fs)
			rule, err := (&Compiler{Catalog: r,
				Services: &iotsql.Services{Shadows: shadowFunc(func(ctx context.Context) ([]byte, error) {
					if !answers {
						<-ctx.Done()
					}
					return []byte(`{"v":1}`), ctx.Err()
				})}}).Parse("asks", []byte(toOut("SELECT n, get_thing_shadow('x', 'r').v AS v FROM 'dt/#'")))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.e.Set([]*Rule{rule}); err != nil {
				t.Fatal(err)
			}
			r.run()
		}
		start()
		r.publish("dt/a", `{"n":1}`)
		synctest.Wait() // in the call
		r.stop()
		answers = true
		start()
		if got := r.records("out", 1); !slices.Equal(got, []string{`{"n":1,"v":1}`}) {
			t.Errorf("out holds %q", got)
		}
		r.stop()
	})
}

type shadowFunc func(context.Context) ([]byte, error)

func (f shadowFunc) Shadow(ctx context.Context, _, _ string) ([]byte, error) { return f(ctx) }

// What is evaluated while a commit is under way is counted, though nothing
// follows it.
func TestCountedWithoutMore(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.rules(map[string]string{"low": toOut("SELECT n FROM 'dt/#' WHERE n < 2000")})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.store.Run(ctx) }()
	b := r.store.NewBatch()
	for n := range 2010 {
		m := message.Message{Topic: "dt/a", Payload: fmt.Appendf(nil, `{"n":%d}`, n), ClientID: "dev-1",
			Protocol: "mqtt"}
		b.Append(ingest.Stream, 0, streams.Record{Key: "dev-1", Data: m.AppendRecord(nil)})
	}
	if err := r.store.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	engineCtx, stopEngine := context.WithCancel(ctx)
	engineEnded := make(chan error, 1)
	go func() { engineEnded <- r.e.Run(engineCtx) }()
	r.stats("low", Stats{Matched: 2010, Unmet: 10, Fired: 2000, Actions: 2000})
	stopEngine()
	<-engineEnded
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := r.store.Close(); err != nil {
		t.Error(err)
	}
}

// A group that makes much ends early; nothing is lost by that.
func TestLargeOutputsAreSplit(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	docs := map[string]string{}
	for i := range 8 {
		docs[fmt.Sprint("r", i)] = toOut("SELECT n, pad FROM 'dt/#'")
	}
	r.rules(docs)
	r.run()
	defer r.stop()
	b := r.store.NewBatch()
	const messages = 40
	for n := range messages {
		m := message.Message{Topic: "dt/a", Payload: fmt.Appendf(nil, `{"n":%d,"pad":"%040000d"}`, n, n),
			ClientID: "dev-1"}
		b.Append(ingest.Stream, 0, streams.Record{Key: "dev-1", Data: m.AppendRecord(nil)})
	}
	if err := r.store.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	got := r.records("out", messages*len(docs))
	if len(got) != messages*len(docs) {
		t.Fatalf("%d outputs, want %d", len(got), messages*len(docs))
	}
	for i, doc := range got {
		if want := fmt.Sprintf(`{"n":%d,`, i/len(docs)); !strings.HasPrefix(doc, want) {
			t.Fatalf("output %d begins %.20s, want %s", i, doc, want)
		}
	}
}

// A message that no rule wants costs no memory.
func TestNoMemoryForWhatDoesNotMatch(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.store.Close()
	r.rules(map[string]string{
		"hot":   toOut("SELECT temp, hum, topic() AS t FROM 'dt/#' WHERE temp > 1000"),
		"other": toOut("SELECT * FROM 'other/+'"),
	})
	w := newWorker(r.e, 0, nil, r.e.opts.Log)
	g := &w.groups[0]
	var recs []streams.Record
	for i := range 100 {
		m := message.Message{Topic: fmt.Sprint("dt/", i), Payload: []byte(`{"temp":31,"hum":48.5}`), QoS: 1,
			ClientID:  fmt.Sprint("dev-", i),
			Principal: strings.Repeat("0a", 32), SourceIP: "10.0.0.9", Protocol: "mqtt", Time: 1700000000000,
			Trace: [16]byte{1}}
		recs = append(recs, streams.Record{Offset: uint64(i), Data: m.AppendRecord(nil)})
	}
	// some, where sync.Pool is made to lose things
	if n := testing.AllocsPerRun(20, func() { w.evaluate(t.Context(), g, recs) }); n >= float64(len(recs)) {
		t.Errorf("%v allocations for %d messages", n, len(recs))
	}
	if s := g.tallies[r.e.rules.Load().byName["hot"]]; s.matched == 0 || s.fired != 0 {
		t.Errorf("%+v", s)
	}
}

func TestTraceID(t *testing.T) {
	id := message.Trace([16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255}).String()
	if id != "00010203-0405-0607-0809-0a0b0c0d0eff" {
		t.Error(id)
	}
	r := newRig(t, vfs.NewMem())
	r.run()
	defer r.stop()
	r.rules(map[string]string{"trace": toOut("SELECT TraceId() AS id FROM 'dt/#'")})
	r.publish("dt/a", `{}`)
	if got := r.records("out", 1); len(got) != 1 || len(got[0]) != len(`{"id":""}`)+36 {
		t.Errorf("%q", got)
	}
}

func TestParseRefuses(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	defer r.store.Close()
	for doc, want := range map[string]string{
		`{"sql":"SELECT FROM 'a'"}`:                      "sql",
		`{"sql":"SELECT * FROM 'a' WHERE temp > 'hot'"}`: `sql: line 1, column 32: > takes numbers, and this is "hot"`,
		`{"sql":"SELECT * FROM 'a'","actions":[{"republish":{"roleArn":"r","topic":"x/${topic() * 'x'}"}}]}`: `topic: line 1, column 15: * takes numbers`,
		`{"sql":"SELECT * FROM 'a'","actions":[{"nope":{}}]}`:                                                "actions[0]",
		`{"sql":"SELECT * FROM 'a'","errorAction":{"nope":{}}}`:                                              "errorAction",
		`{"sql":"SELECT * FROM 'a'","colour":"red"}`:                                                         "colour",
	} {
		if _, err := (&Compiler{Catalog: r}).Parse("r", []byte(doc)); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want word of %q", doc, err, want)
		}
	}
	if _, err := (&Compiler{Catalog: r}).Parse("bad name", []byte(`{"sql":"SELECT * FROM 'a'"}`)); err == nil {
		t.Error("a name with a space was accepted")
	}
}

var _ action.Catalog = (*rig)(nil)
