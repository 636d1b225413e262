package emit

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/sink/s3"
)

// s3Server is an S3 in this process, with the bucket archive.
func s3Server(t *testing.T) (url string, store *s3.Store) {
	t.Helper()
	amazon(t)
	mem := s3mem.New()
	if err := mem.CreateBucket("archive"); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(gofakes3.New(mem).Server())
	t.Cleanup(srv.Close)
	c, err := awsapi.Place{EndpointURL: srv.URL}.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return srv.URL, s3.New(c)
}

func TestS3(t *testing.T) {
	url, remote := s3Server(t)
	dir, err := objects.Open(t.TempDir(), objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, c := range []struct {
		name, doc, key, content string
		gzip                    bool
		from                    sink.Getter
	}{
		{"the bridge's own", `{"Bucket":"archive"}`, "100-102", "abc", false, dir},
		{"prefix and delimiter", `{"Bucket":"archive","Prefix":"r/!{timestamp:yyyy/MM/dd}/!{stream}/!{shard}/",` +
			`"Delimiter":"\n","EndpointURL":"` + url + `"}`,
			"r/2026/03/01/readings/shardId-000000000001/100-102", "a\nb\nc\n", false, remote},
		{"gzip", `{"Bucket":"archive","Compression":"GZIP","EndpointURL":"` + url + `"}`, "100-102.gz", "abc", true,
			remote},
		{"suffix", `{"Bucket":"archive","Compression":"GZIP","Suffix":""}`, "100-102", "abc", true, dir},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEmitter(t, "S3", Env{Objects: dir}, "%s", c.doc)
			var first []byte
			for range 2 {
				same(t, "outcome", outcome(t, e, batch("a", "b", "c")), []string{"", "", ""})
				got, _, err := c.from.Get(t.Context(), "archive", c.key, 1000)
				if err != nil {
					t.Fatal(err)
				}
				if first != nil && !bytes.Equal(first, got) {
					t.Errorf("the second attempt wrote %x, the first %x", got, first)
				}
				first = got
				if c.gzip {
					z, err := gzip.NewReader(bytes.NewReader(got))
					if err != nil {
						t.Fatal(err)
					}
					if got, err = io.ReadAll(z); err != nil {
						t.Fatal(err)
					}
				}
				same(t, "content", string(got), c.content)
			}
		})
	}
	if _, _, err := remote.Get(t.Context(), "archive", "none", 10); !errors.Is(err, sink.ErrNotFound) {
		t.Errorf("no such object: %v", err)
	}
	if _, _, err := remote.Get(t.Context(), "archive", "100-102.gz", 10); err == nil {
		t.Error("more than allowed was read")
	}
	e := newEmitter(t, "S3", Env{}, `{"Bucket":"missing","EndpointURL":%q}`, url)
	if failed, err := e.Emit(t.Context(), batch("a")); err == nil {
		t.Errorf("no bucket: %v", failed)
	}
}

func TestS3Manifest(t *testing.T) {
	dir, err := objects.Open(t.TempDir(), objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var put []string
	down := errors.New("down")
	env := Env{Objects: dir, Append: func(_ context.Context, stream, key string, data []byte) error {
		if _, _, err := dir.Get(t.Context(), "archive", string(data), 100); err != nil {
			t.Errorf("the key is told before the object is there: %v", err)
		}
		put = append(put, stream+" "+key+" "+string(data))
		if len(put) == 1 {
			return down
		}
		return nil
	}}
	e := newEmitter(t, "S3Manifest", env, `{"Bucket":"archive","Prefix":"x/","Manifest":{"StreamName":"keys"}}`)
	if _, err := e.Emit(t.Context(), batch("a", "b")); !errors.Is(err, down) {
		t.Errorf("err = %v", err)
	}
	same(t, "outcome", outcome(t, e, batch("a", "b")), []string{"", ""})
	same(t, "manifest", put, []string{"keys keys x/100-101", "keys keys x/100-101"})
}
