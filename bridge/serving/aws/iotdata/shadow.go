package iotdata

import (
	"encoding/json"
	"net/http"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/shadow"
)

// shadowCodes are the names of a shadow.Error, by its code.
var shadowCodes = map[int]string{
	400: "InvalidRequestException",
	403: "UnauthorizedException",
	404: "ResourceNotFoundException",
	405: "MethodNotAllowedException",
	409: "ConflictException",
	413: "RequestEntityTooLargeException",
	415: "UnsupportedDocumentEncodingException",
	429: "ThrottlingException",
	500: "InternalFailureException",
}

// ofShadow puts a refusal of the shadow service in AWS's words.
func ofShadow(e *shadow.Error) *wire.Error {
	if shadowCodes[e.Code] == "" {
		return nil
	}
	return &wire.Error{Code: shadowCodes[e.Code], Status: e.Code, Message: e.Message}
}

// readShadow checks which shadow a request is about. A thing's name has no slash,
// so that one resource is never another's.
func readShadow(r *wire.Request) (any, error) {
	if !shadow.ValidThing(r.Path("thing")) {
		return nil, shadow.ErrThingName
	}
	return nil, nil
}

func (p *plane) shadowARN(r *wire.Request) string {
	resource := r.Path("thing")
	if name := r.Query.Get("name"); name != "" {
		resource += "/" + name
	}
	return p.arn(r, "thing", resource)
}

func (p *plane) shadow(op shadow.Op) func(*wire.Request) (any, error) {
	return func(r *wire.Request) (any, error) {
		if p.data.Shadows == nil {
			return nil, errOtherShadows
		}
		thing := r.Path("thing")
		if p.data.HasThing != nil {
			if ok, err := p.data.HasThing(thing); err != nil {
				return nil, err
			} else if !ok {
				return nil, shadow.ErrThing
			}
		}
		doc, err := p.data.Shadows.Do(r.Context(), thing, r.Query.Get("name"), op, r.Body)
		return json.RawMessage(doc), err
	}
}

var errOtherShadows = &wire.Error{Code: "ServiceUnavailableException", Status: http.StatusServiceUnavailable,
	Message: "another bridge has the shadows: broker.shadows is false here"}

func (p *plane) listShadows(r *wire.Request) (any, error) {
	n, err := number(r, "pageSize", 25, 1, 100)
	if err != nil {
		return nil, err
	}
	if p.data.Shadows == nil {
		return nil, errOtherShadows
	}
	names, next, err := p.data.Shadows.List(r.Path("thing"), r.Query.Get("nextToken"), int(n))
	if err != nil {
		return nil, err
	}
	return struct {
		Results []string `json:"results"`
		Next    string   `json:"nextToken,omitempty"`
		At      int64    `json:"timestamp"`
	}{append([]string{}, names...), next, p.now().Unix()}, nil
}
