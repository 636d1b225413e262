package upgrade

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/deploy/rig"
)

// An api asks a bridge's AWS APIs with the key of its first start.
type api struct {
	url    string
	key    sigv4test.Key
	client *http.Client
}

func newAPI(b *rig.Bridge) (*api, error) {
	pki := filepath.Join(b.Dir, "pki")
	pem, err := os.ReadFile(filepath.Join(pki, "ca.pem"))
	if err != nil {
		return nil, err
	}
	keys, err := os.ReadFile(filepath.Join(pki, "access-keys"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	a := &api{url: "https://localhost" + b.HTTPS[strings.LastIndexByte(b.HTTPS, ':'):]}
	a.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}},
		Timeout: time.Minute}
	for line := range strings.Lines(string(keys)) {
		name, value, _ := strings.Cut(line, "=")
		switch value = strings.TrimSpace(value); strings.TrimSpace(name) {
		case "aws_access_key_id":
			a.key.ID = value
		case "aws_secret_access_key":
			a.key.Secret = value
		}
	}
	return a, nil
}

// do sends one signed request; headers are pairs. An answer other than 2xx is an
// error.
func (a *api) do(ctx context.Context, service, method, path, body string, headers ...string) (json.RawMessage, error) {
	r, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	sigv4test.Sign(r, []byte(body), a.key, "eu-local-1", service, time.Now())
	resp, err := a.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", resp.Status, text)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return text, nil
}

// kinesis asks for an operation on streams; out may be nil.
func (a *api) kinesis(ctx context.Context, operation string, in map[string]any, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	text, err := a.do(ctx, "kinesis", http.MethodPost, "/", string(body),
		"X-Amz-Target", "Kinesis_20131202."+operation, "Content-Type", "application/x-amz-json-1.1")
	if err != nil || out == nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// active waits until the stream can be used.
func (a *api) active(ctx context.Context, stream string) error {
	return rig.Until(ctx, "stream "+stream, func() (bool, error) {
		var s struct{ StreamDescriptionSummary struct{ StreamStatus string } }
		err := a.kinesis(ctx, "DescribeStreamSummary", map[string]any{"StreamName": stream}, &s)
		return s.StreamDescriptionSummary.StreamStatus == "ACTIVE", err
	})
}

// records reads all that a stream has, shard after shard.
func (a *api) records(ctx context.Context, stream string) (all []Record, err error) {
	var list struct{ Shards []struct{ ShardId string } }
	if err := a.kinesis(ctx, "ListShards", map[string]any{"StreamName": stream}, &list); err != nil {
		return nil, err
	}
	for _, s := range list.Shards {
		var at struct{ ShardIterator string }
		from := map[string]any{"StreamName": stream, "ShardId": s.ShardId, "ShardIteratorType": "TRIM_HORIZON"}
		if err := a.kinesis(ctx, "GetShardIterator", from, &at); err != nil {
			return nil, err
		}
		for at.ShardIterator != "" {
			var page struct {
				Records []struct {
					SequenceNumber string
					Data           []byte
				}
				MillisBehindLatest int64
				NextShardIterator  string
			}
			if err := a.kinesis(ctx, "GetRecords", map[string]any{"ShardIterator": at.ShardIterator},
				&page); err != nil {
				return nil, err
			}
			for _, r := range page.Records {
				all = append(all, Record{s.ShardId, r.SequenceNumber, string(r.Data)})
			}
			at.ShardIterator = page.NextShardIterator
			if len(page.Records) == 0 && page.MillisBehindLatest == 0 {
				break
			}
		}
	}
	return all, nil
}
