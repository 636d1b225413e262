// Package awsapi is how the bridge comes to AWS's services, or to others that
// speak their protocols: where they are, with which credentials, and which of
// their answers are worth another try. Clients of single services are made of a
// Place's configuration.
package awsapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
)

// A Place is where a service is and who calls it. What is empty is found as
// AWS's tools find it: credentials in the environment, the shared files or the
// machine's role; the endpoint in AWS_ENDPOINT_URL_<SERVICE>, AWS_ENDPOINT_URL or
// the profile's services, else Amazon's.
type Place struct {
	Region      string
	EndpointURL string
	Profile     string // of the shared files
	RoleARN     string // assumed at STS with the credentials found; "": they are used as they are
}

// ErrNoRegion means that nobody says which region is meant.
var ErrNoRegion = errors.New("no Region: neither here nor in AWS_REGION or the AWS configuration")

// Config returns what the SDK's clients are made of. It reads files, and asks
// nobody.
func (p Place) Config(ctx context.Context, opts ...func(*config.LoadOptions) error) (aws.Config, error) {
	if p.Region != "" {
		opts = append(opts, config.WithRegion(p.Region))
	}
	if p.Profile != "" {
		opts = append(opts, config.WithSharedConfigProfile(p.Profile))
	}
	c, err := config.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return c, err
	}
	if c.Region == "" {
		return c, ErrNoRegion
	}
	c.APIOptions = append(c.APIOptions, shortErrors)
	if p.RoleARN != "" { // STS has an endpoint of its own
		c.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), p.RoleARN))
	}
	if p.EndpointURL != "" {
		c.BaseEndpoint = aws.String(p.EndpointURL)
		c.ConfigSources = append([]any{only(p.EndpointURL)}, c.ConfigSources...)
	}
	return c, nil
}

// only is a source of configuration in which all services are at one endpoint. The
// SDK's clients ask the sources, one after the other, before they use BaseEndpoint.
type only string

// GetServiceBaseEndpoint is what clients ask a source of a service's SDK ID.
func (o only) GetServiceBaseEndpoint(context.Context, string) (endpoint string, found bool, err error) {
	return string(o), true, nil
}

// Once is Config for clients that try a call once, for callers that repeat it by
// themselves and keep count. They do not follow redirects.
func (p Place) Once(ctx context.Context) (aws.Config, error) {
	base := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = connections
		t.ResponseHeaderTimeout = answerLimit
	})
	c, err := p.Config(ctx, config.WithHTTPClient(base), func(o *config.LoadOptions) error {
		o.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
		o.Logger = logging.Nop{} // it would write to standard error
		return nil
	})
	if b, ok := c.HTTPClient.(*awshttp.BuildableClient); ok { // with AWS_CA_BUNDLE's authorities, if it is set
		c.HTTPClient = noRedirects(b.GetTransport())
	}
	return c, err
}

// connections is how many are kept open to one host, idle: as many outboxes may
// call it at once. answerLimit is how long one waits for an answer to begin; the
// call's context may end earlier.
const (
	connections = 32
	answerLimit = time.Minute
)

// NewHTTP returns a client for what the SDK does not call, with the bounds of Once.
func NewHTTP() *http.Client {
	return noRedirects(&http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConnsPerHost:   connections,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: answerLimit,
	})
}

func noRedirects(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}
