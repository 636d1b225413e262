package wire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
)

const (
	eventsType = "application/vnd.amazon.eventstream"

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

// Events are what a Stream pushes.
type Events interface {
	// Next waits for the next event, writes its payload and returns its type;
	// io.EOF is the clean end.
	Next(ctx context.Context, w *shape.Writer) (kind string, err error)
	Close()
}

// push sends events until they end, or the client or the bridge does. The Go
// SDK waits for the initial response.
func (x *exchange) push(all Events) error {
	defer all.Close()
	x.free() // the body is read
	x.Body, x.Input = nil, nil
	x.status = http.StatusOK
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
		kind, err := all.Next(x.r.Context(), w)
		switch {
		case err == nil:
			if err := x.event(kind, w.Bytes()); err != nil {
				return nil // the client is gone
			}
			continue
		case errors.Is(err, io.EOF):
			return nil
		case x.r.Context().Err() != nil:
			if err = x.ended(); err == nil {
				return nil
			}
		}
		x.exception(err)
		return err
	}
}

func (x *exchange) event(kind string, payload []byte) error {
	return x.message("event", ":event-type", kind, payload)
}

func (x *exchange) exception(err error) {
	e := x.errorOf(err)
	w := shape.NewWriter(shape.JSON, nil)
	w.OpenMap()
	w.Name("message")
	w.Text(e.Message)
	w.CloseMap()
	code := e.Code
	if e.internal() {
		code = "InternalFailureException"
	}
	if x.message("exception", ":exception-type", code, w.Bytes()) != nil {
		return
	}
	wait(context.WithoutCancel(x.r.Context()), beforeHangup)
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
