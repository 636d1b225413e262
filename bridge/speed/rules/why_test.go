package rules

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

var errUnreachable = errors.New("unreachable")

// objects fail by their key.
type objects struct {
	mu   sync.Mutex
	puts map[string]int
}

func (o *objects) Put(_ context.Context, _, key string, _ func(io.Writer) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.puts[key]++
	switch {
	case key == "never":
		return sink.ErrName
	case key == "flaky" && o.puts[key] < 4, key == "stuck":
		return errUnreachable
	}
	return nil
}

type nobody struct{}

func (nobody) Republish(context.Context, *streams.Batch, *action.Delivery) (func(error), error) {
	return nil, nil
}

// What outboxes tell is shown with the message, and counted.
func TestWhyOfDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, vfs.NewMem())
		boxes := action.NewOutboxes(r.store)
		x := action.NewDrainer(boxes, action.Options{Objects: &objects{puts: map[string]int{}}, Republish: nobody{},
			Log:    r.e.opts.Log,
			Failed: r.e.Fail, Tried: r.e.Tried})
		r.e.opts.Outbox = boxes.Ensure
		r.rules(map[string]string{"r": `{"sql":"SELECT * FROM 'dt/#'","awsIotSqlVersion":"2016-03-23",
		  "actions":[{"s3":{"bucketName":"lake","key":"${topic(2)}"}}],"errorAction":{"kinesis":{"streamName":"errors","partitionKey":"${timestamp()}"}}}`})
		r.run()
		ctx, cancel := context.WithCancel(t.Context())
		var drain sync.WaitGroup
		drain.Go(func() { _ = x.Run(ctx) })
		arrived := time.Now()
		for _, name := range []string{"good", "flaky", "never", "stuck"} {
			r.publish("dt/"+name, `{}`)
		}
		time.Sleep(10 * time.Minute)
		got := map[string]string{}
		all, err := r.e.Recent(t.Context(), r.e.Rule("r"), false, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			w, err := r.e.Why(t.Context(), r.e.Rule("r"), m.ID, time.Hour, nil)
			if err != nil {
				t.Fatal(err)
			}
			o, onError := w.Actions[0].Outcome, w.Actions[1].Outcome
			tries := fmt.Sprint(o.Attempts)
			if o.Attempts > 10 {
				tries = "many"
			}
			got[m.Topic] = fmt.Sprint(m.Result, ", ", o.State, " after ", tries, ": ", o.Error, "; ", onError.State)
		}
		for name, want := range map[string]string{
			"dt/good":  "fired, delivered after 1: ; not run",
			"dt/flaky": "fired, delivered after 4: ; not run",
			"dt/never": "failed, given up after 1: " + sink.ErrName.Error() + "; committed",
			"dt/stuck": "fired, waiting after many: unreachable; not run",
		} {
			if got[name] != want {
				t.Errorf("%s: %s, want %s", name, got[name], want)
			}
		}
		m := r.e.Metrics()[0]
		retries := m.Retries
		m.Retries = 0
		if m.Stats != (Stats{Matched: 4, Fired: 4, Actions: 2, ActionErrors: 1, ErrorActions: 1}) || retries < 10 ||
			m.Slots[0].Failure != 1 || m.Slots[1].Success != 1 || m.Durable.Count != 4 || m.Delivered.Count != 2 {
			t.Errorf("%+v, %d retries", m, retries)
		}
		if _, delivered := r.e.Latencies(); delivered.Count != 2 || delivered.Sum < 500*time.Millisecond ||
			delivered.Sum > time.Minute {
			t.Errorf("delivered %+v", delivered)
		}
		// That an outbox is past a delivery is known even if nobody told how it ended.
		for offset, want := range map[uint64]string{2: StateEnded, 3: StateWaiting} {
			if o := r.e.outcome(&act{state: actWaiting, stream: action.OutboxStream("r", "0"),
				offset: offset}); o.State != want {
				t.Errorf("delivery %d: %+v, want %s", offset, o, want)
			}
		}
		// What is not kept any more may still be in its outbox.
		r.e.Rule("r").count.history.limit(0)
		for _, m := range all {
			w, err := r.e.Why(t.Context(), r.e.Rule("r"), m.ID, time.Hour, func(uint64, uint64) {})
			if err != nil {
				t.Fatal(err)
			}
			if o := w.Actions[0].Outcome; w.Found != "log" || (o != nil) != (m.Topic == "dt/stuck") || o != nil &&
				(o.State != StateWaiting || o.Offset != 3) {
				t.Errorf("%s, not kept: %s, %+v", m.Topic, w.Found, o)
			}
		}
		// The error action sees the time of the message's arrival.
		recs, err := r.store.Read("errors", 0, 0, 10, 0)
		if err != nil || len(recs) != 1 || recs[0].Key != fmt.Sprint(arrived.UnixMilli()) ||
			!strings.Contains(string(recs[0].Data), `"failedAction":"S3Action","failedResource":"lake"`) {
			t.Errorf("%+v, %v", recs, err)
		}
		cancel()
		drain.Wait()
		r.stop()
	})
}

// The log is searched for what is not kept.
func TestWhySearchesTheLog(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.rules(map[string]string{"hot": toOut("SELECT n FROM 'dt/#' WHERE n = 1")})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.store.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
		_ = r.store.Close()
	}()
	b := r.store.NewBatch()
	const messages = 3 * searchRecords
	for i := range messages {
		m := message.Message{Topic: "dt/a", Payload: fmt.Appendf(nil, `{"n":%d}`, i), Time: time.Now().UnixMilli(),
			Trace: [16]byte{1, byte(i >> 8), byte(i)}}
		b.Append(ingest.Stream, i%2, streams.Record{Key: "dev", Data: m.AppendRecord(nil)})
	}
	// names another in its payload
	decoy := message.Message{Topic: "dt/a", Payload: append([]byte{1, 0, 1}, make([]byte, 13)...), Trace: [16]byte{2}}
	b.Append(ingest.Stream, 1, streams.Record{Data: decoy.AppendRecord(nil)})
	if err := r.store.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	rule := r.e.Rule("hot")
	id := func(i int) string { return message.Trace([16]byte{1, byte(i >> 8), byte(i)}).String() }
	var searched, of uint64
	why := func(id string, since time.Duration) (*Why, error) {
		searched = 0
		return r.e.Why(t.Context(), rule, id, since, func(n, all uint64) { searched, of = n, all })
	}
	w, err := why(id(1), time.Hour)
	if err != nil || w.Found != "log" || w.Message.Position != "1/0" || !w.Fired || searched > messages ||
		searched < searchRecords || of != messages+1 {
		t.Errorf("%+v, %v after %d of %d", w, err, searched, of)
	}
	if !strings.Contains(fmt.Sprint(w.Notes), "they are 1 messages behind it") {
		t.Errorf("notes: %q", w.Notes)
	}
	if w, err := why(id(messages-1), time.Hour); err != nil || w.Fired || searched > searchRecords {
		t.Errorf("the newest: %+v, %v after %d", w, err, searched)
	}
	if w, err := why("0/3", time.Hour); err != nil || w.Message.ID != id(6) || searched != 0 {
		t.Errorf("by position: %+v, %v after %d", w, err, searched)
	}
	for id, want := range map[string]error{
		"0/99999": errNoMessage, "7/0": streams.ErrShard, "0/x": ErrID, "/": ErrID, "1234": ErrID,
		message.Trace([16]byte{9}).String(): errNoMessage, "zz000000-0000-0000-0000-000000000000": ErrID,
	} {
		if w, err := why(id, time.Hour); !errors.Is(err, want) {
			t.Errorf("%s: %+v, %v, want %v", id, w, err, want)
		}
	}
	time.Sleep(2 * time.Millisecond)
	if _, err := why(id(1), time.Millisecond); !errors.Is(err, errNoMessage) || searched != 0 {
		t.Errorf("beyond since: %v after %d", err, searched)
	}
	gone, stop := context.WithCancel(t.Context())
	if _, err := r.e.Why(gone, rule, message.Trace([16]byte{9}).String(), time.Hour, func(uint64, uint64) {
		stop()
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("with nobody waiting: %v", err)
	}
	all, err := r.e.Recent(t.Context(), rule, false, time.Hour)
	if err != nil || len(all) != keepPerRule || all[0].Kept || all[0].Result != "where false" {
		t.Errorf("%d recent, %v", len(all), err)
	}
	if all, err := r.e.Recent(t.Context(), rule, true, time.Hour); err != nil || len(all) != 0 {
		t.Errorf("%d failed, %v", len(all), err)
	}
}

// A kept message that retention has dropped still has its outcome.
func TestWhyAfterRetention(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.run()
	defer r.stop()
	r.rules(map[string]string{"all": toOut("SELECT n FROM 'dt/#'")})
	r.publish("dt/a", `{"n":1}`)
	r.stats("all", Stats{Matched: 1, Fired: 1, Actions: 1})
	rule := r.e.Rule("all")
	all, err := r.e.Recent(t.Context(), rule, false, time.Hour)
	if err != nil || len(all) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if err := r.store.Trim(ingest.Stream, streams.ShardOf("dev-1", 2), 1); err != nil {
		t.Fatal(err)
	}
	w, err := r.e.Why(t.Context(), rule, all[0].ID, time.Hour, nil)
	if err != nil || w.Found != "kept" || !w.Fired || w.Message.Payload != nil ||
		w.Actions[0].Outcome.State != StateCommitted ||
		w.Actions[0].Outcome.Stream != "out" || !strings.Contains(fmt.Sprint(w.Notes), "retention") {
		t.Errorf("%+v, %v", w, err)
	}
	if all, err := r.e.Recent(t.Context(), rule, false, time.Hour); err != nil || len(all) != 1 || all[0].Topic != "" {
		t.Errorf("%+v, %v", all, err)
	}
}
