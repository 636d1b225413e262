package lambda

import (
	"encoding/base64"
	"encoding/json"
	"net/http"

	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// invoke calls a function: it waits for the answer, queues the call, or only says
// what would be wrong with it.
func (s *service) invoke(r *wire.Request) (any, error) {
	name, qualifier, err := s.qualified(r)
	if err != nil {
		return nil, err
	}
	c := lambda.Call{Function: name, Qualifier: qualifier, Payload: r.Body, RequestID: r.ID,
		Depth: lambda.Depth(r.Header.Get("X-Amzn-Trace-Id"))}
	if c.ClientContext, err = clientContext(r); err != nil {
		return nil, err
	}
	switch kind := r.Header.Get("X-Amz-Invocation-Type"); kind {
	case "", "RequestResponse":
		return s.wait(r, c)
	case "Event":
		if _, err := s.Functions.Check(&c); err != nil {
			return nil, err
		}
		if _, err := s.Queue.Put(r.Context(), c); err != nil {
			return nil, err
		}
		return &wire.Answer{Status: http.StatusAccepted}, nil
	case "DryRun":
		if _, err := s.Functions.Check(&c); err != nil {
			return nil, err
		}
		return &wire.Answer{Status: http.StatusNoContent}, nil
	default:
		return nil, invalid("invocation type %.30q, want RequestResponse, Event or DryRun", kind)
	}
}

// wait calls a function. That it failed is told in a header: the request was well.
func (s *service) wait(r *wire.Request, c lambda.Call) (any, error) {
	result, err := s.Functions.Call(r.Context(), c)
	if err != nil {
		return nil, err
	}
	a := &wire.Answer{Status: http.StatusOK, Body: json.RawMessage(result.Payload),
		Header: map[string]string{"X-Amz-Executed-Version": result.Version}}
	if result.Failed != "" {
		a.Header["X-Amz-Function-Error"] = result.Failed
	}
	if r.Header.Get("X-Amz-Log-Type") == "Tail" {
		a.Header["X-Amz-Log-Result"] = base64.StdEncoding.EncodeToString(result.Log)
	}
	return a, nil
}

// clientContext is the JSON that a client sends beside the event.
func clientContext(r *wire.Request) (string, error) {
	text := r.Header.Get("X-Amz-Client-Context")
	if text == "" {
		return "", nil
	}
	doc, err := base64.StdEncoding.DecodeString(text)
	switch {
	case err != nil || !json.Valid(doc):
		return "", &wire.Error{Code: "InvalidRequestContentException", Status: 400, Type: "User",
			Message: "Client context must be a valid Base64-encoded JSON object."}
	case len(text) > lambda.MaxClientContext:
		return "", invalid("the client context has %d bytes, want at most %d", len(text), lambda.MaxClientContext)
	}
	return string(doc), nil
}
