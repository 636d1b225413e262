package counterpart

import (
	"context"
	"net/http"
)

// Silent is a server that takes a request and never answers.
type Silent struct{}

// RoundTrip implements http.RoundTripper. It ends with the request's context.
func (Silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}
