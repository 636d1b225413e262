package aws

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
)

const (
	// maxSubscriptions are under way at once; each waits for most of its life.
	maxSubscriptions = 1024
	// beforeHangup is how long a connection stays open after an exception:
	// the Go SDK reports a closed connection instead when it comes at once.
	beforeHangup = 200 * time.Millisecond
	// beforeAnswer lets a client finish with its request. The Go SDK (kinesis
	// 1.56.11, HTTP/1.1) closes the request's body when it sees an answer; if
	// net/http is still looking for that body's end, it gives up the connection
	// and so the subscription. Other operations are tried again, this one is
	// not: on loopback one in some tens failed.
	beforeAnswer = 5 * time.Millisecond
)

// events is what a subscription pushes.
type events interface {
	// next writes the payload of the next event and returns its type; io.EOF
	// is the clean end.
	next(ctx context.Context, w *shape.Writer) (string, error)
	close()
}

// subscription is the action of SubscribeToShard.
func subscription[API any](patterns map[string]string, in func(region string) API,
	f func(API, context.Context, *kinesis.SubscribeToShardInput) (*kinesis.Subscription, error)) action {
	return action{
		input: shape.Of[kinesis.SubscribeToShardInput](patterns),
		subscribe: func(ctx context.Context, region string, input any) (events, error) {
			s, err := f(in(region), ctx, input.(*kinesis.SubscribeToShardInput))
			if err != nil {
				return nil, err
			}
			return shardEvents{s}, nil
		},
	}
}

type shardEvents struct{ *kinesis.Subscription }

func (s shardEvents) close() { s.Close() }

func (s shardEvents) next(ctx context.Context, w *shape.Writer) (string, error) {
	e, err := s.Next(ctx)
	if err != nil {
		return "", err
	}
	w.OpenMap()
	writeRecords(w, e.Records)
	if !e.ContinuationSequenceNumber.IsZero() {
		w.Name("ContinuationSequenceNumber")
		w.Digits(e.ContinuationSequenceNumber)
	}
	w.Name("MillisBehindLatest")
	w.Int(e.MillisBehindLatest)
	writeChildren(w, e.ChildShards)
	w.CloseMap()
	return "SubscribeToShardEvent", nil
}

// push sends events until they end, or the client or the bridge does. The Go
// SDK waits for the initial response.
func (x *exchange) push(all events) error {
	defer all.close()
	x.free() // the body is read
	x.sent = nil
	// A read that waits for the client to hang up would end with the server's
	// timeout, and the request with it.
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Time{})
	wait(x.r.Context(), beforeAnswer)
	x.w.Header().Set("Content-Type", eventsType)
	x.w.WriteHeader(http.StatusOK)
	if err := x.event("initial-response", []byte("{}")); err != nil {
		return nil
	}
	for {
		w := shape.NewWriter(shape.JSON, nil)
		kind, err := all.next(x.r.Context(), w)
		switch {
		case err == nil:
			if err := x.event(kind, w.Bytes()); err != nil {
				return nil // the client is gone
			}
			continue
		case errors.Is(err, io.EOF), x.r.Context().Err() != nil:
			return nil
		}
		x.exception(err)
		return err
	}
}

func (x *exchange) event(kind string, payload []byte) error {
	return x.message("event", ":event-type", kind, payload)
}

func (x *exchange) exception(err error) {
	e := errorOf(err)
	w := shape.NewWriter(shape.JSON, nil)
	w.OpenMap()
	w.Name("message")
	w.Text(e.Message)
	w.CloseMap()
	code := e.Code
	if e.internal() {
		code = kinesis.InternalFailure
	}
	if x.message("exception", ":exception-type", code, w.Bytes()) != nil {
		return
	}
	wait(x.r.Context(), beforeHangup)
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// message sends one message at once, to a client that takes it within
// patience. An encoder keeps as much memory as its largest message had, so none
// is kept.
func (x *exchange) message(kind, nameOfType, typ string, payload []byte) error {
	out := http.NewResponseController(x.w)
	_ = out.SetWriteDeadline(time.Now().Add(patience))
	err := eventstream.NewEncoder().Encode(x.w, eventstream.Message{Payload: payload, Headers: eventstream.Headers{
		{Name: ":message-type", Value: eventstream.StringValue(kind)},
		{Name: nameOfType, Value: eventstream.StringValue(typ)},
		{Name: ":content-type", Value: eventstream.StringValue("application/json")}}})
	if err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_ = out.SetWriteDeadline(time.Time{}) // none while nothing is written
	return nil
}
