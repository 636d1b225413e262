// Package emit has the emitters that a connector's file can name: S3,
// S3Manifest, DynamoDB, Search, Warehouse and Stream. FORMAT.md describes them.
package emit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/logging"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/hal/secretfile"
)

// An Env is what emitters find where they run.
type Env struct {
	Objects sink.Objects // the bridge's; nil: there is no bridge in this process
	// Append puts a record into a stream of the bridge, durably; nil without one.
	Append func(ctx context.Context, stream, key string, data []byte) error
	HTTP   *http.Client // nil: one of its own
}

var kinds = map[string]func(*parse) connector.Emitter{
	"S3": newS3, "S3Manifest": newS3Manifest, "DynamoDB": newDynamoDB,
	"Search": newSearch, "Warehouse": newWarehouse, "Stream": newStream,
}

// New makes an emitter: kind is one of the package's, doc its JSON. It reports
// all that is wrong with doc, each by its member, reads the files and variables
// of secrets, and asks no store.
func New(kind string, doc json.RawMessage, env Env) (connector.Emitter, error) {
	read := kinds[kind]
	if read == nil {
		return nil, fmt.Errorf("no emitter of that name; there are %s",
			strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	}
	if env.HTTP == nil {
		env.HTTP = newHTTP()
	}
	p := &parse{doc: doc, env: env}
	e := read(p)
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return timed{e, p.env.HTTP}, nil
}

// newHTTP returns a client that notices a service that went away.
func newHTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   16,
		ForceAttemptHTTP2:     true,
	}}
}

// attempt bounds one Emit: a load into a warehouse may take minutes.
const attempt = 15 * time.Minute

// timed bounds the time of each attempt.
type timed struct {
	connector.Emitter
	http *http.Client
}

func (t timed) Emit(ctx context.Context, b *connector.Batch) ([]connector.Failure, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	return t.Emitter.Emit(ctx, b)
}

func (t timed) Close() error {
	t.http.CloseIdleConnections()
	return t.Emitter.Close()
}

// open is an Emitter's Close where there is nothing to close.
type open struct{}

func (open) Close() error { return nil }

// A parse reads an emitter's JSON and gathers what is wrong.
type parse struct {
	doc  json.RawMessage
	env  Env
	errs []error
}

func (p *parse) bad(format string, args ...any) { p.errs = append(p.errs, fmt.Errorf(format, args...)) }

// into reads the document.
func (p *parse) into(v any) { p.errs = append(p.errs, connector.Decode(p.doc, v)...) }

// want checks a member with check.
func (p *parse) want(member, value string, check func(string) error) {
	if value == "" {
		p.bad("%s: missing", member)
	} else if err := check(value); err != nil {
		p.bad("%s: %w", member, err)
	}
}

// aws finds a service of AWS. Nothing is asked; credentials are fetched when
// they are needed.
func (p *parse) aws(at awsapi.Place) aws.Config {
	c, err := at.Config(context.Background())
	if err != nil {
		p.bad("%w", err)
	}
	c.HTTPClient, c.Logger = p.env.HTTP, logging.Nop{} // what matters is in the errors
	return c
}

// A secret is read from a file or from the environment: it does not belong in
// a file of declarations.
type secret struct{ File, Env string }

func (s secret) given() bool { return s != secret{} }

func (p *parse) secret(member string, s secret) string {
	switch {
	case s.File != "" && s.Env != "":
		p.bad("%s: File and Env, want one of them", member)
	case s.File != "":
		text, err := secretfile.Line(s.File)
		if err != nil {
			p.bad("%s.File: %w", member, err)
		}
		return text
	case s.Env != "":
		text := os.Getenv(s.Env)
		if text == "" {
			p.bad("%s.Env: %s is not set", member, s.Env)
		}
		return text
	}
	return ""
}
