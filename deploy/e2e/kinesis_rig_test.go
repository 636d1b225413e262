package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/tidemill/tidemill/deploy/rig"
)

// streamsConfig makes states last long enough to be seen, and lets clients in
// without TLS.
const streamsConfig = `plaintext = "loopback"
[kinesis]
delay = "300ms"
`

// An awsAccess is what AWS's clients are told to reach a bridge.
type awsAccess struct{ url, plainURL, caFile, keysFile string }

func (f *fleet) aws() awsAccess {
	host := "localhost" + f.bridge.HTTPS[strings.LastIndexByte(f.bridge.HTTPS, ':'):]
	pki := filepath.Join(f.bridge.Dir, "pki")
	return awsAccess{"https://" + host, "http://" + f.bridge.HTTPS, filepath.Join(pki, "ca.pem"),
		filepath.Join(pki, "access-keys")}
}

// env is this process's environment with the clients' variables set and
// nothing else of AWS. NODE_EXTRA_CA_CERTS is Node's name for AWS_CA_BUNDLE.
func (a awsAccess) env() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AWS_") {
			env = append(env, e)
		}
	}
	return append(env, "AWS_SHARED_CREDENTIALS_FILE="+a.keysFile, "AWS_CONFIG_FILE="+os.DevNull, "AWS_CA_BUNDLE="+
		a.caFile,
		"NODE_EXTRA_CA_CERTS="+a.caFile, "AWS_ENDPOINT_URL="+a.url, "PLAIN_ENDPOINT_URL="+a.plainURL,
		"AWS_REGION=eu-local-1", "AWS_DEFAULT_REGION=eu-local-1", "AWS_EC2_METADATA_DISABLED=true")
}

// client is the Go SDK's, over "http/1.1" or "h2".
func (a awsAccess) client(t testing.TB, protocol string, options ...func(*kinesis.Options)) *kinesis.Client {
	t.Helper()
	pem, err := os.ReadFile(a.caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	hc := awshttp.NewBuildableClient().WithTransportOptions(func(tr *http.Transport) {
		tr.TLSClientConfig = &tls.Config{RootCAs: roots, NextProtos: []string{protocol}}
		tr.ForceAttemptHTTP2 = protocol == "h2"
	})
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("eu-local-1"), config.WithHTTPClient(hc),
		config.WithBaseEndpoint(a.url), config.WithSharedCredentialsFiles([]string{a.keysFile}),
		config.WithSharedConfigFiles(nil), config.WithSharedConfigProfile("default"))
	if err != nil {
		t.Fatal(err)
	}
	return kinesis.NewFromConfig(cfg, options...)
}

// A stream is one that the Go SDK works on.
type stream struct {
	t    testing.TB
	ctx  context.Context
	c    *kinesis.Client
	name string
	arn  string
}

// newStream creates a stream and waits until it can be used.
func newStream(t testing.TB, ctx context.Context, c *kinesis.Client, name string, shards int32) *stream {
	t.Helper()
	s := &stream{t: t, ctx: ctx, c: c, name: name}
	if _, err := c.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: &name, ShardCount: &shards}); err != nil {
		t.Fatal(err)
	}
	s.active()
	return s
}

// active waits until the stream is ACTIVE, in quick steps.
func (s *stream) active() {
	s.t.Helper()
	w := kinesis.NewStreamExistsWaiter(s.c)
	d, err := w.WaitForOutput(s.ctx, &kinesis.DescribeStreamInput{StreamName: &s.name}, patience,
		func(o *kinesis.StreamExistsWaiterOptions) {
			o.MinDelay, o.MaxDelay = 50*time.Millisecond, 100*time.Millisecond
		})
	if err != nil {
		s.t.Fatal(err)
	}
	s.arn = *d.StreamDescription.StreamARN
}

// shards lists all that are kept.
func (s *stream) shards() []types.Shard {
	s.t.Helper()
	var all []types.Shard
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	err := rig.Until(ctx, "the shards", func() (_ bool, err error) {
		// The client tries once, and may meet a connection that is being closed.
		all, err = listShards(ctx, s.c, &kinesis.ListShardsInput{StreamName: &s.name})
		return err == nil, err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}

func listShards(ctx context.Context, c *kinesis.Client, in *kinesis.ListShardsInput) (all []types.Shard, err error) {
	for {
		out, err := c.ListShards(ctx, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Shards...)
		if out.NextToken == nil {
			return all, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
}

// iterator is one of the shard from its beginning, or after a number.
func (s *stream) iterator(shard, after string) (*string, error) {
	in := &kinesis.GetShardIteratorInput{StreamName: &s.name, ShardId: &shard,
		ShardIteratorType: types.ShardIteratorTypeTrimHorizon}
	if after != "" {
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &after
	}
	out, err := s.c.GetShardIterator(s.ctx, in)
	if err != nil {
		return nil, err
	}
	return out.ShardIterator, nil
}

// drain reads from an iterator until the tip or the end of the shard.
func (s *stream) drain(it *string) (all []types.Record, last *kinesis.GetRecordsOutput) {
	s.t.Helper()
	for it != nil {
		out, err := s.c.GetRecords(s.ctx, &kinesis.GetRecordsInput{ShardIterator: it})
		if err != nil {
			s.t.Fatal(err)
		}
		all, last, it = append(all, out.Records...), out, out.NextShardIterator
		if len(out.Records) == 0 && aws.ToInt64(out.MillisBehindLatest) == 0 {
			break
		}
	}
	return all, last
}

// fails asserts that err is of the SDK's type E.
func fails[E error](t testing.TB, what string, err error) {
	t.Helper()
	var want E
	if !errors.As(err, &want) {
		t.Errorf("%s: %v, want a %T", what, err, want)
	}
}
