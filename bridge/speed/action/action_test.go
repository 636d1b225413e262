package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// targets is a catalog of one stream with two shards and one delivery stream.
type targets struct{}

func (targets) Shard(name string, h streams.Hash) (int, bool) {
	return slices.IndexFunc(streams.Even(2), func(r streams.Range) bool { return r.Contains(h) }), name == "readings"
}
func (targets) HasDeliveryStream(name string) bool                 { return name == "archive" }
func (targets) Remote(string) bool                                 { return false }
func (targets) Channel(string, bool) error                         { return nil }
func (targets) Queue(*streams.Batch, string, *queue.Message) error { return nil }
func (targets) Room(string) error                                  { return nil }
func (targets) Takes(d *Delivery) error {
	if d.Parameter("metricNamespace") == "taken" {
		return errors.New("taken elsewhere")
	}
	return nil
}

func templates(text string) (*iotsql.Template, error) {
	return iotsql.CompileTemplate(text, iotsql.Version2016)
}

func TestCompileRefuses(t *testing.T) {
	for doc, want := range map[string]string{
		`{}`:                                                                                "exactly one member",
		`{"kinesis":{},"s3":{}}`:                                                            "exactly one member",
		`{"ftp":{"functionArn":"x"}}`:                                                       `"ftp" is not served`,
		`{"kinesis":{"partitionKey":"x"}}`:                                                  "streamName: missing",
		`{"kinesis":{"streamName":"${("}}`:                                                  "streamName",
		`{"s3":{"bucketName":"B","key":"k"}}`:                                               "bucketName",
		`{"s3":{"bucketName":"ok-bucket"}}`:                                                 "key: missing",
		`{"firehose":{"deliveryStreamName":"a","separator":"|"}}`:                           "separator",
		`{"firehose":{"deliveryStreamName":"a","color":"red"}}`:                             "color: unknown member",
		`{"republish":{"topic":"a","qos":2}}`:                                               "qos: want 0 to 1",
		`{"republish":{"topic":7}}`:                                                         "topic: want a text",
		`{"republish":{"topic":"a","headers":{"x":"y"}}}`:                                   "headers.x: unknown member",
		`{"republish":{"topic":"a","headers":{"contentType":7}}}`:                           "headers.contentType: want a text",
		`{"republish":{"topic":"a","headers":{"payloadFormatIndicator":"UTF-8"}}}`:          "headers.payloadFormatIndicator: \"UTF-8\", want",
		`{"republish":{"topic":"a","headers":{"messageExpiry":"soon"}}}`:                    "headers.messageExpiry: \"soon\", want seconds",
		`{"republish":{"topic":"a","headers":{"correlationData":"?"}}}`:                     "headers.correlationData: illegal base64",
		`{"republish":{"topic":"a","headers":{"responseTopic":"a/#"}}}`:                     "headers.responseTopic",
		`{"republish":{"topic":"a","headers":{"contentType":""}}}`:                          "headers.contentType: want a text",
		`{"republish":{"topic":"a","headers":{"userProperties":[{"key":"","value":"v"}]}}}`: "headers.userProperties[0].key: want a text",
		`{"republish":{"topic":"a","headers":{"userProperties":[]}}}`:                       "headers.userProperties: want a list of 1 to 100",
		`{"republish":{"topic":"a","headers":{"userProperties":[{"key":"k"}]}}}`:            "headers.userProperties[0].value: missing",
		`{"republish":{"topic":"a","headers":{"contentType":"${("}}}`:                       "headers.contentType",
		`{"republish":{"topic":"a","headers":[]}}`:                                          "headers.",
		`[]`: "",
	} {
		if _, err := Compile([]byte(doc), "r", "0", templates, targets{}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want word of %q", doc, err, want)
		}
	}
}

func stage(t *testing.T, doc string, in *Input) (*streams.Batch, *pebble.Store, error) {
	t.Helper()
	store := pebbletest.Start(t)
	for name, shards := range map[string]int{"readings": 2, firehose.StreamName("archive"): 1,
		OutboxStream("r", "0"): 1} {
		if err := store.Create(name, streams.Config{Shards: shards}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := Compile([]byte(doc), "r", "0", templates, targets{})
	if err != nil {
		t.Fatal(err)
	}
	b := store.NewBatch()
	return b, store, a.Stage(context.Background(), b, in)
}

func TestStage(t *testing.T) {
	for _, c := range []struct {
		name, doc string
		hops      uint8
		err       string // word of the failure; "" for none
	}{
		{"stream", `{"kinesis":{"streamName":"readings","partitionKey":"${topic(2)}"}}`, 0, ""},
		{"stream, random key", `{"kinesis":{"streamName":"readings"}}`, 0, ""},
		{"no such stream", `{"kinesis":{"streamName":"other","partitionKey":"x"}}`, 0, "does not exist"},
		{"empty key", `{"kinesis":{"streamName":"readings","partitionKey":"${none}"}}`, 0, "partition key"},
		{"delivery stream", `{"firehose":{"deliveryStreamName":"archive","separator":"\n"}}`, 0, ""},
		{"no such delivery stream", `{"firehose":{"deliveryStreamName":"other"}}`, 0, "does not exist"},
		{"object", `{"s3":{"bucketName":"bucket","key":"${k}/${topic(2)}.json"}}`, 0, ""},
		{"object with a bad key", `{"s3":{"bucketName":"bucket","key":"../${k}"}}`, 0, "cannot be"},
		{"republish", `{"republish":{"topic":"$$aws/things/${topic(2)}/shadow/update"}}`, 0, ""},
		{"republish to a filter", `{"republish":{"topic":"a/#"}}`, 0, "wildcard"},
		{"republish loop", `{"republish":{"topic":"dt/pi-1/climate"}}`, MaxHops, "republished"},
	} {
		b, _, err := stage(t, c.doc, &Input{Doc: []byte(`{"x":1}`), Input: &iotsql.Input{Rule: "r",
			Message: message.Message{Topic: "dt/pi-1/climate", Payload: []byte(`{"k":"a/b"}`), Hops: c.hops}}})
		switch {
		case c.err == "" && (err != nil || b.Len() != 1):
			t.Errorf("%s: staged %d, %v", c.name, b.Len(), err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || b.Len() != 0):
			t.Errorf("%s: staged %d, %v, want word of %q", c.name, b.Len(), err, c.err)
		}
	}
}

// A document that no stream can hold fails its action, not the commit that it
// shares with all others.
func TestStageTooLarge(t *testing.T) {
	doc := make([]byte, streams.MaxData+1)
	for _, kind := range []string{
		`{"kinesis":{"streamName":"readings"}}`,
		`{"firehose":{"deliveryStreamName":"archive"}}`,
		`{"s3":{"bucketName":"bucket","key":"k"}}`,
		`{"republish":{"topic":"a"}}`,
	} {
		b, _, err := stage(t, kind, &Input{Input: &iotsql.Input{Rule: "r", Message: message.Message{Topic: "t"}},
			Doc: doc})
		if err == nil || !strings.Contains(err.Error(), "want at most") || b.Len() != 0 {
			t.Errorf("%s: staged %d, %v", kind, b.Len(), err)
		}
	}
}

// objects is a store that fails as it is told.
type objects struct {
	mu   sync.Mutex
	puts []string
	fail func(key string, try int) error
}

func (o *objects) Put(_ context.Context, bucket, key string, write func(io.Writer) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.puts = append(o.puts, key)
	n := 0
	for _, k := range o.puts {
		if k == key {
			n++
		}
	}
	return o.fail(key, n)
}

type nobody struct{}

func (nobody) Republish(context.Context, *streams.Batch, *Delivery) (func(error), error) {
	return nil, nil
}

// tried is what drained's Options.Tried is.
var tried func(Attempt)

// drained runs deliveries of these names and ages, in an outbox of rule r,
// against o for as long as said, and returns the drainer and whom it gave up.
func drained(t *testing.T, box string, o *objects, age, length time.Duration, names ...string) (*pebble.Store,
	OutboxStats, string) {
	t.Helper()
	store := pebbletest.Start(t)
	var gaveUp []string
	var told strings.Builder
	boxes := NewOutboxes(store)
	x := NewDrainer(boxes, Options{
		Objects: o, Republish: nobody{}, GiveUp: 24 * time.Hour, Tried: tried,
		Log: slog.New(slog.NewTextHandler(&told, nil)),
		Failed: func(b *streams.Batch, d *Delivery, err error) {
			gaveUp = append(gaveUp, d.Name)
			b.Append(OutboxStream("r", "error"), 0, streams.Record{Data: d.append(nil)})
		},
	})
	for _, b := range []string{box, OutboxStream("r", "error")} {
		if err := boxes.Ensure(b); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	b := store.NewBatch()
	for _, name := range names {
		b.Append(box, 0, streams.Record{Time: time.Now().Add(-age).UnixMilli(),
			Data: (&Delivery{Kind: "s3", Rule: "r", Bucket: "b", Name: name}).append(nil)})
	}
	if err := store.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	wg.Go(func() { _ = x.Run(ctx) })
	time.Sleep(length)
	cancel()
	wg.Wait()
	if strings.Contains(told.String(), "SECRET") {
		t.Errorf("the log has %s", &told)
	}
	return store, x.Stats(), strings.Join(gaveUp, " ")
}

// What an error action cannot deliver ends there: it has no error action.
func TestErrorActionOfAnErrorAction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &objects{fail: func(string, int) error { return sink.ErrName }}
		_, s, gaveUp := drained(t, OutboxStream("r", "0"), o, 0, time.Minute, "a")
		if gaveUp != "a" || s.Failed != 2 || len(o.puts) != 2 {
			t.Errorf("gave up %q, %+v after %d attempts", gaveUp, s, len(o.puts))
		}
	})
}

// The log of what is given up has no more of a URL than its host.
func TestGivenUpURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &objects{fail: func(string, int) error { return sink.ErrName }}
		const name = "HTTPS://203.0.113.1/p?k=SECRET"
		_, _, gaveUp := drained(t, OutboxStream("r", "0"), o, 0, time.Minute, name)
		if gaveUp != name {
			t.Errorf("gave up %q", gaveUp)
		}
	})
}

// A bridge that was down for days gives its targets time to come back too; a
// clock that was years ahead when something was put does not keep it for years.
func TestGiveUpByAge(t *testing.T) {
	for _, c := range []struct {
		name        string
		age, length time.Duration
		fail        int // attempts
		gaveUp      string
	}{
		{"target comes back", 72 * time.Hour, 2 * time.Hour, 20, ""},
		{"target stays away", 72 * time.Hour, 2 * time.Hour, 1 << 30, "a b c"},
		{"young", time.Hour, 2 * time.Hour, 1 << 30, ""},
		{"from the future", -10_000 * time.Hour, 25 * time.Hour, 1 << 30, "a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &objects{fail: func(_ string, try int) error {
					if try <= c.fail {
						return errors.New("unreachable")
					}
					return nil
				}}
				_, s, gaveUp := drained(t, OutboxStream("r", "0"), o, c.age, c.length, "a", "b", "c")
				if gaveUp != c.gaveUp || c.fail == 20 && s.Delivered != 3 {
					t.Errorf("gave up %q, want %q; %+v", gaveUp, c.gaveUp, s)
				}
			})
		})
	}
}

// A staging republisher adds to the first batch what fails to be committed, and
// remembers what it is told.
type staging struct{ told []error }

func (s *staging) Republish(_ context.Context, b *streams.Batch, _ *Delivery) (func(error), error) {
	if len(s.told) == 0 {
		b.Append("no stream", 0, streams.Record{})
	}
	return func(err error) { s.told = append(s.told, err) }, nil
}

// Who staged something is told when its commit failed, and then of the next one.
func TestFailedCommitIsTold(t *testing.T) {
	store := pebbletest.Start(t)
	ctx := t.Context()
	s := new(staging)
	boxes := NewOutboxes(store)
	x := NewDrainer(boxes, Options{Republish: s, Log: slog.New(slog.DiscardHandler)})
	name := OutboxStream("r", "0")
	if err := boxes.Ensure(name); err != nil {
		t.Fatal(err)
	}
	b := store.NewBatch()
	b.Append(name, 0, streams.Record{Data: (&Delivery{Kind: "republish", Rule: "r", Name: "t"}).append(nil)})
	if err := store.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	info, err := store.Describe(name)
	if err != nil {
		t.Fatal(err)
	}
	bx := x.open(info)
	for _, want := range []error{streams.ErrNotFound, nil} {
		if err := bx.Once(ctx); !errors.Is(err, want) {
			t.Fatal(err)
		}
		if got := s.told[len(s.told)-1]; !errors.Is(got, want) {
			t.Errorf("told %v, want %v", s.told, want)
		}
	}
	if len(s.told) != 2 {
		t.Errorf("told %v", s.told)
	}
}

// What is done stays done while the next delivery is retried for hours.
func TestDoneBeforeAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &objects{fail: func(key string, _ int) error {
			if key == "dead" {
				return errors.New("unreachable")
			}
			return nil
		}}
		box := OutboxStream("r", "0")
		store, _, _ := drained(t, box, o, 0, time.Hour, "a", "b", "dead", "c")
		info, err := store.Describe(box)
		if err != nil {
			t.Fatal(err)
		}
		pos, err := store.Get([]byte(fmt.Sprintf("outbox/%s/%d", box, info.ID)))
		if err != nil || len(pos) != 8 || pos[7] != 2 {
			t.Errorf("position %v, %v; want 2", pos, err)
		}
	})
}

func TestOutboxRetriesAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := pebbletest.Start(t)
		o := &objects{fail: func(key string, try int) error {
			switch {
			case key == "flaky" && try < 5, key == "dead":
				return errors.New("unreachable")
			case key == "never":
				return sink.ErrName
			}
			return nil
		}}
		var gaveUp []string
		boxes := NewOutboxes(store)
		x := NewDrainer(boxes, Options{
			Objects: o, Republish: nobody{}, GiveUp: time.Hour, Log: slog.New(slog.DiscardHandler),
			Failed: func(_ *streams.Batch, d *Delivery, err error) { gaveUp = append(gaveUp, d.Name) },
		})
		box := OutboxStream("r", "0")
		if err := boxes.Ensure(box); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = x.Run(ctx) })
		b := store.NewBatch()
		for _, key := range []string{"good", "flaky", "never", "dead", "last"} {
			b.Append(box, 0, streams.Record{Data: (&Delivery{Kind: "s3", Rule: "r", Bucket: "b",
				Name: key}).append(nil)})
		}
		if err := store.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		if s := x.Stats(); s.Delivered != 3 || s.Failed != 2 {
			t.Errorf("%+v", s)
		}
		if strings.Join(gaveUp, " ") != "never dead" {
			t.Errorf("gave up %v", gaveUp)
		}
		oldest, next, err := store.Bounds(box, 0)
		if err != nil || oldest != next {
			t.Errorf("left in the outbox: %d to %d, %v", oldest, next, err)
		}
		cancel()
		wg.Wait()
	})
}

// full is a catalog whose outboxes and buffers take no more.
type full struct{ targets }

func (full) Room(stream string) error { return fmt.Errorf("%s is full", stream) }

func TestStageIntoAFullBacklogFails(t *testing.T) {
	for doc, want := range map[string]string{
		`{"s3":{"bucketName":"bucket","key":"k"}}`:                 "$outbox/r/0 is full",
		`{"republish":{"topic":"a"}}`:                              "$outbox/r/0 is full",
		`{"firehose":{"deliveryStreamName":"archive"}}`:            "$firehose/archive is full",
		`{"kinesis":{"streamName":"readings","partitionKey":"k"}}`: "", // its retention bounds it
	} {
		a, err := Compile([]byte(doc), "r", "0", templates, full{})
		if err != nil {
			t.Fatal(err)
		}
		b := new(streams.Batch)
		err = a.Stage(context.Background(), b,
			&Input{Input: &iotsql.Input{Rule: "r", Message: message.Message{Topic: "dt/x"}}, Doc: []byte("{}")})
		if want == "" && (err != nil || b.Len() != 1) || want != "" &&
			(err == nil || err.Error() != want || b.Len() != 0) {
			t.Errorf("%s: staged %d, %v, want %q", doc, b.Len(), err, want)
		}
	}
}
