package action

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// targets is a catalog of one stream with two shards and one delivery stream.
type targets struct{}

func (targets) Shards(name string) int {
	if name == "readings" {
		return 2
	}
	return 0
}
func (targets) HasDeliveryStream(name string) bool { return name == "archive" }

func templates(text string) (*iotsql.Template, error) {
	return iotsql.CompileTemplate(text, iotsql.Version2016)
}

func TestCompileRefuses(t *testing.T) {
	for doc, want := range map[string]string{
		`{}`:                                                      "exactly one member",
		`{"kinesis":{},"s3":{}}`:                                  "exactly one member",
		`{"lambda":{"functionArn":"x"}}`:                          `"lambda" is not served`,
		`{"kinesis":{"partitionKey":"x"}}`:                        "streamName: missing",
		`{"kinesis":{"streamName":"${("}}`:                        "streamName",
		`{"s3":{"bucketName":"B","key":"k"}}`:                     "bucketName",
		`{"s3":{"bucketName":"ok-bucket"}}`:                       "key: missing",
		`{"firehose":{"deliveryStreamName":"a","separator":"|"}}`: "separator",
		`{"firehose":{"deliveryStreamName":"a","color":"red"}}`:   "color: unknown member",
		`{"republish":{"topic":"a","qos":2}}`:                     "qos: want 0 to 1",
		`{"republish":{"topic":7}}`:                               "topic: want a text",
		`[]`:                                                      "",
	} {
		if _, err := Compile([]byte(doc), "r", "0", templates, targets{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want word of %q", doc, err, want)
		}
	}
}

func stage(t *testing.T, doc string, in *Input) (*streams.Batch, *streams.Store, error) {
	t.Helper()
	store, err := streams.Open("log", streams.Options{FS: vfs.NewMem(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	for name, shards := range map[string]int{"readings": 2, firehose.StreamName("archive"): 1, OutboxStream("r", "0"): 1} {
		if err := store.Create(name, streams.Config{Shards: shards}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := Compile([]byte(doc), "r", "0", templates, targets{})
	if err != nil {
		t.Fatal(err)
	}
	b := store.NewBatch()
	return b, store, a.Stage(b, in)
}

func TestStage(t *testing.T) {
	message := &iotsql.Message{Topic: "dt/pi-1/climate", Payload: []byte(`{"k":"a/b"}`)}
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
		{"republish loop", `{"republish":{"topic":"dt/pi-1/climate"}}`, maxHops, "republished"},
	} {
		b, _, err := stage(t, c.doc, &Input{Rule: "r", Message: message, Hops: c.hops, Doc: []byte(`{"x":1}`)})
		switch {
		case c.err == "" && (err != nil || b.Len() != 1):
			t.Errorf("%s: staged %d, %v", c.name, b.Len(), err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || b.Len() != 0):
			t.Errorf("%s: staged %d, %v, want word of %q", c.name, b.Len(), err, c.err)
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

func (nobody) Deliver(*Delivery)               {}
func (nobody) Stage(*streams.Batch, *Delivery) {}

func TestOutboxRetriesAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := streams.Open("log", streams.Options{FS: vfs.NewMem(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
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
		x := NewOutboxes(store, Options{
			Objects: o, Republish: nobody{}, GiveUp: time.Hour, Log: slog.New(slog.DiscardHandler),
			Failed: func(_ *streams.Batch, d *Delivery, err error) { gaveUp = append(gaveUp, d.Name) },
		})
		box := OutboxStream("r", "0")
		if err := x.Ensure(box); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		logCtx, cancelLog := context.WithCancel(t.Context())
		var wg, log sync.WaitGroup
		log.Go(func() { _ = store.Run(logCtx) })
		wg.Go(func() { _ = x.Run(ctx) })
		b := store.NewBatch()
		for _, key := range []string{"good", "flaky", "never", "dead", "last"} {
			b.Append(box, 0, streams.Record{Data: (&Delivery{Kind: "s3", Rule: "r", Bucket: "b", Name: key}).append(nil)})
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
		cancelLog()
		log.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}
