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

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/broker"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/route"
	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/service"
)

// Data is what the data plane works on.
type Data struct {
	Messages Messages
	Retained Retained
	// Shadows; nil: another bridge has them.
	Shadows Shadows
	// HasThing says whether the registry has a thing. Nil: what has shadows need not
	// be in the registry, as where devices are a broker's.
	HasThing func(thing string) (bool, error)
}

// Messages takes messages; a route.Router does.
type Messages interface {
	// Submit returns when m is durable. m has all but its thing, and the sender may
	// publish to its topic.
	Submit(ctx context.Context, m *message.Message, from route.Sender) error
}

// Retained are the retained messages; a gateway.Retained has them.
type Retained interface {
	// Get returns the message of a topic and when it was set.
	Get(topic string) (m *message.Message, at time.Time, ok bool)
	// List calls f for messages in the order of their topics, from the first behind
	// the one given, until f returns false.
	List(after string, f func(m *message.Message, at time.Time) bool)
}

// Shadows are what shadow/service.Service has.
type Shadows interface {
	Do(ctx context.Context, thing, name string, op shadow.Op, payload []byte) ([]byte, error)
	List(thing, token string, size int) (names []string, next string, err error)
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
	data    Data
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
			Read: readShadow, Resource: p.shadowARN, Run: p.shadow(op), Stores: op == shadow.OpUpdate}
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
			wire.Say(service.ErrClosed, "ServiceUnavailableException", http.StatusServiceUnavailable,
				"the bridge is stopping"),
			// AWS's data plane says it so, though its model has UnauthorizedException.
			wire.Say(wire.ErrDenied, "ForbiddenException", http.StatusForbidden, "Forbidden"),
			wire.Say(gateway.ErrNotAuthorized, "ForbiddenException", http.StatusForbidden, "Forbidden"),
			wire.Is(route.ErrRefused, "ForbiddenException", http.StatusForbidden),
			wire.Is(route.ErrThrottled, "ThrottlingException", http.StatusTooManyRequests),
			wire.Is(gateway.ErrQuota, "ThrottlingException", http.StatusTooManyRequests),
			wire.Is(broker.ErrFull, "ThrottlingException", http.StatusTooManyRequests),
			wire.Is(packet.ErrTooLarge, "RequestEntityTooLargeException", http.StatusRequestEntityTooLarge),
			wire.Is(packet.ErrMalformed, "InvalidRequestException", http.StatusBadRequest),
			wire.Is(packet.ErrProtocol, "InvalidRequestException", http.StatusBadRequest),
			wire.As(func(e *gateway.LimitError) *wire.Error {
				return wire.Errorf(http.StatusBadRequest, "InvalidRequestException", "%v", e)
			}),
		},
		Operations: []wire.Operation{
			{Name: "Publish", Method: "POST", Path: "/topics/:topic+", Read: readMessage, Resource: p.topicARN,
				Run: p.publish, Stores: true},
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
	return arn.IoT(r.Region, p.account, kind+"/"+name)
}

func (p *plane) topicARN(r *wire.Request) string { return p.arn(r, "topic", r.Path("topic")) }

// bad is an error in what the caller sent.
func bad(format string, args ...any) error {
	return wire.Errorf(http.StatusBadRequest, "InvalidRequestException", format, args...)
}

// number reads a parameter of the query, otherwise if it is not given.
func number(r *wire.Request, name string, otherwise, least, most int64) (int64, error) {
	text := r.Query.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, bad("%s: %.20q, want %d to %d", name, text, least, most)
	}
	return n, nil
}
