package awsapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// errAnswer is of an answer that is longer than any that the service gives.
var errAnswer = errors.New("the answer is too long")

// Asking is c for calls whose answers matter: they are waited for as long as the
// call's context says, and at most so many bytes of one are read.
func Asking(c aws.Config, most int64) aws.Config {
	client := c.HTTPClient
	if h, ok := client.(*http.Client); ok {
		if t, ok := h.Transport.(*http.Transport); ok {
			patient := t.Clone()
			patient.ResponseHeaderTimeout = 0
			client = noRedirects(patient)
		}
	}
	c.HTTPClient = &asking{client, most}
	return c
}

// An asking implements aws.HTTPClient.
type asking struct {
	aws.HTTPClient
	most int64
}

// Do implements aws.HTTPClient.
func (a *asking) Do(r *http.Request) (*http.Response, error) {
	resp, err := a.HTTPClient.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > a.most {
		return nil, errors.Join(fmt.Errorf("%w: %d bytes, want at most %d", errAnswer, resp.ContentLength, a.most),
			resp.Body.Close())
	}
	resp.Body = &boundedBody{resp.Body, a.most, a.most}
	return resp, nil
}

// boundedBody is a body that fails where it becomes too long.
type boundedBody struct {
	io.ReadCloser
	left, most int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, fmt.Errorf("%w: want at most %d bytes", errAnswer, b.most)
	}
	return n, err
}
