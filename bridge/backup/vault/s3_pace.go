package vault

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// A pacedClient sends and reads bodies at a pace, and gives up those that rest.
type pacedClient struct {
	aws.HTTPClient
	pace  *pace
	stall time.Duration
}

// Do implements aws.HTTPClient.
func (c pacedClient) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	r = r.WithContext(ctx)
	if c.pace.rate > 0 && r.Body != nil && r.Body != http.NoBody {
		r.Body = readCloser{c.pace.reader(r.Context(), r.Body), r.Body}
	}
	resp, err := c.HTTPClient.Do(r)
	if err != nil {
		cancel(nil)
		return resp, err
	}
	resp.Body = lively{resp.Body, c.stall, cancel}
	if c.pace.rate > 0 {
		resp.Body = readCloser{c.pace.reader(r.Context(), resp.Body), resp.Body}
	}
	return resp, err
}

// maxStall is how long an answer may rest that has begun: a server that says nothing more
// would else keep a backup, and all after it, waiting for good.
const maxStall = time.Minute

// A lively body is given up when nothing of it comes.
type lively struct {
	io.ReadCloser
	stall  time.Duration
	cancel context.CancelCauseFunc // of the request
}

func (b lively) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.stall, func() { b.cancel(fmt.Errorf("the target has sent nothing for %v", b.stall)) })
	defer timer.Stop()
	return b.ReadCloser.Read(p)
}

func (b lively) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}
