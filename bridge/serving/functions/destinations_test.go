package functions

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

type object struct{ bucket, key, text string }

func (o *object) Put(_ context.Context, bucket, key string, write func(io.Writer) error) error {
	var b strings.Builder
	err := write(&b)
	*o = object{bucket, key, b.String()}
	return err
}

// queues of a log in memory: results, which takes 1 KiB a message, and ordered.fifo.
func queues(t testing.TB) *queue.Service {
	t.Helper()
	s, err := queue.Open(pebbletest.Start(t), time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"results", "ordered.fifo"} {
		c := queue.Default()
		c.MaxMessage = 1 << 10
		if _, err := s.Create(name, c); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

const (
	bucketARN = "arn:aws:s3:::bucket"
	queueARN  = "arn:aws:sqs:eu-local-1:000000000000:"
)

func newDestinations(t *testing.T) (*Destinations, *stand, *object) {
	s, o := &stand{}, &object{}
	return &Destinations{Caller: &Caller{Calls: s, Queue: s, Find: s}, Objects: o, Queues: queues(t),
		Region: "eu-local-1", Account: "000000000000"}, s, o
}

func TestSend(t *testing.T) {
	d, s, o := newDestinations(t)
	if err := d.Send(t.Context(), bucketARN, "id", 1, []byte("record")); err != nil || o.bucket != "bucket" ||
		!strings.HasSuffix(o.key, "/id") || o.text != "record" {
		t.Error(o, err)
	}
	if err := d.Send(t.Context(), functionARN, "id", 1, []byte("record")); err != nil || len(s.queued) != 1 {
		t.Error(s.queued, err)
	}
	s.err = lambda.ErrTooLarge // the record is cut for that
	if err := d.Send(t.Context(), functionARN, "id", 1, nil); !errors.Is(err, lambda.ErrTooLarge) {
		t.Error(err)
	}
	if err := d.Send(t.Context(), "arn:aws:sns:eu-local-1:000000000000:topic", "id", 1, nil); err == nil {
		t.Error("taken")
	}
}

// A queue takes any record, whatever texts it has, unless it is too large.
func TestSendToQueue(t *testing.T) {
	d, _, _ := newDestinations(t)
	q, err := d.Queues.Get("results")
	if err != nil {
		t.Fatal(err)
	}
	for record, want := range map[string]string{
		`{"a":"ü\u0001"}`:                           "ü\x01",
		"{\"a\":\"\uFFFE\uFFFF\"}":                  "\uFFFE\uFFFF",
		"{\"a\":\"x\xff\xfe\"}":                     "x\uFFFD\uFFFD",
		`{"a":"` + strings.Repeat("x", 1016) + `"}`: strings.Repeat("x", 1016),
	} {
		if err := d.Send(t.Context(), queueARN+"results", "id", 1, []byte(record)); err != nil {
			t.Errorf("%q: %v", record, err)
			continue
		}
		got, err := q.Receive(t.Context(), 1, time.Hour, 0)
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		var doc struct{ A string }
		if err := json.Unmarshal([]byte(got[0].Body), &doc); err != nil || doc.A != want || got[0].Sender != "lambda" {
			t.Errorf("%q: received %q, %v", record, got[0].Body, err)
		}
	}
	err = d.Send(t.Context(), queueARN+"results", "id", 1, []byte(`{"a":"`+strings.Repeat("x", 1017)+`"}`))
	if !errors.Is(err, lambda.ErrTooLarge) {
		t.Error(err)
	}
	if err := d.Send(t.Context(), queueARN+"gone", "id", 1, []byte("{}")); !errors.Is(err, lambda.ErrNotFound) {
		t.Error(err)
	}
}

func TestRight(t *testing.T) {
	d, _, _ := newDestinations(t)
	for _, c := range []struct {
		to      string
		success bool
		want    string // "": there is none
	}{
		{bucketARN, false, "s3:PutObject arn:aws:s3:::bucket/aws/lambda/async/*"}, {bucketARN, true, ""},
		{queueARN + "results", true, "sqs:SendMessage " + queueARN + "results"}, {queueARN + "none", true, ""},
		{queueARN + "ordered.fifo", false, ""}, {"arn:aws:sqs:eu-local-1:1:results", true, ""},
		{functionARN, true, "lambda:InvokeFunction " + functionARN}, {functionARN + "g", true, ""},
		{"arn:aws:sns:eu-local-1:000000000000:topic", true, ""}, {"f", true, ""}, {"", true, ""},
	} {
		action, resource, err := d.Right(c.to, c.success)
		got := strings.TrimSpace(action + " " + resource)
		if (err == nil) != (c.want != "") || got != c.want {
			t.Errorf("%s: %q, %v, want %q", c.to, got, err, c.want)
		}
	}
}

// Any JSON becomes a message of the same JSON, which a queue takes.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"a":"ü\u0001"}`))
	f.Add([]byte("{\"a\":\"\uFFFE \xff \uFFFF\"}"))
	f.Add([]byte("[1, \"\\\\\uFFFE\"]"))
	q, err := queues(f).Get("results")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		var want, got any
		if json.Unmarshal(record, &want) != nil {
			t.Skip()
		}
		text := message(record)
		if err := json.Unmarshal([]byte(text), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%q became %q: %v", record, text, err)
		}
		if err := q.Stage(nil, &queue.Message{Body: text}); err != nil && len(text) <= q.Config().MaxMessage {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
