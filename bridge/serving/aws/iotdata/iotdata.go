// Package iotdata is AWS IoT's data plane over HTTPS: publish, retained messages
// and shadows. Its requests need no signature where a client certificate or an
// authorizer says who asks.
package iotdata

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/shadow"
)

// Data is what the data plane works on. Errors may be *wire.Error, *shadow.Error
// or wrap wire.ErrDenied.
type Data interface {
	// Publish returns when the message is durable. m has all but who published it.
	// may says whether who may publish on a topic, for those that are in the
	// message; on m's own he may.
	Publish(ctx context.Context, who wire.Caller, may func(topic string) bool, m *message.Message) error
	// Retained returns the retained message of a topic, nil for none.
	Retained(topic string) (*Retained, error)
	// ListRetained returns up to n of them, without payload, in the order of
	// their topics from the first after the one given, and the topic to go on
	// after, "" when there are no more.
	ListRetained(after string, n int) (page []Retained, next string, err error)
	// Shadow does what shadow/service.Do does.
	Shadow(ctx context.Context, thing, name string, op shadow.Op, payload []byte) ([]byte, error)
	// ListShadows does what shadow/service.List does.
	ListShadows(thing, token string, size int) (names []string, next string, err error)
}

const (
	// maxBody is the least that a body may have, which a shadow's document needs.
	maxBody = 128 << 10
	// maxRequests are under way at once.
	maxRequests = 1024
)

// owns says whether a path, still escaped, is of the data plane, whose requests
// need not be signed.
func owns(path string) bool {
	rest, thing := strings.CutPrefix(path, "/things/")
	_, last, _ := strings.Cut(rest, "/")
	return strings.HasPrefix(path, "/topics/") ||
		path == "/retainedMessage" || strings.HasPrefix(path, "/retainedMessage/") ||
		strings.HasPrefix(path, "/api/things/shadow/") || thing && last == "shadow"
}

// plane are the operations.
type plane struct {
	Data
	account string
	now     func() time.Time
}

// Service serves d, with messages of at most maxPayload bytes. account is that
// of ARNs; now is the clock of answers, nil: time.Now.
func Service(account string, d Data, maxPayload int, now func() time.Time) *wire.Service {
	if now == nil {
		now = time.Now
	}
	p := &plane{d, account, now}
	shadowOf := func(name, method, path string, op shadow.Op) wire.Operation {
		return wire.Operation{Name: name, Method: method, Path: path,
			Read: readShadow, Resource: p.shadowARN, Run: p.shadow(op)}
	}
	return &wire.Service{
		Name:       "iot",
		Signing:    []string{"iotdata", "iotdevicegateway", "execute-api"},
		Protocol:   wire.RESTJSON{},
		MaxBody:    int64(max(maxPayload, maxBody)),
		Concurrent: maxRequests,
		Unsigned:   owns,
		Errors: []wire.Rule{
			wire.As(ofShadow),
			// AWS's data plane says it so, though its model has UnauthorizedException.
			wire.Say(wire.ErrDenied, "ForbiddenException", http.StatusForbidden, "Forbidden"),
		},
		Operations: []wire.Operation{
			{Name: "Publish", Method: "POST", Path: "/topics/:topic+", Read: readMessage, Resource: p.topicARN,
				Run: p.publish},
			{Name: "GetRetainedMessage", Method: "GET", Path: "/retainedMessage/:topic+", Resource: p.topicARN,
				Run: p.retained},
			{Name: "ListRetainedMessages", Method: "GET", Path: "/retainedMessage", Run: p.listRetained},
			shadowOf("GetThingShadow", "GET", "/things/:thing/shadow", shadow.OpGet),
			shadowOf("UpdateThingShadow", "POST", "/things/:thing/shadow", shadow.OpUpdate),
			shadowOf("DeleteThingShadow", "DELETE", "/things/:thing/shadow", shadow.OpDelete),
			{Name: "ListNamedShadowsForThing", Method: "GET",
				Path: "/api/things/shadow/ListNamedShadowsForThing/:thing", Run: p.listShadows},
		},
	}
}

func (p *plane) arn(r *wire.Request, kind, name string) string {
	return "arn:aws:iot:" + r.Region + ":" + p.account + ":" + kind + "/" + name
}

func (p *plane) topicARN(r *wire.Request) string { return p.arn(r, "topic", r.Path("topic")) }

// bad is an error in what the caller sent.
func bad(format string, args ...any) error {
	return wire.Errorf(http.StatusBadRequest, "InvalidRequestException", format, args...)
}

// number reads a parameter of the query, otherwise if it is not given.
func number(r *wire.Request, name string, otherwise, least, most int) (int, error) {
	text := r.Query.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, bad("%s: %.20q, want %d to %d", name, text, least, most)
	}
	return n, nil
}
