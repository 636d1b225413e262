package s3

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// An object is larger than what all bodies may have together.
func TestMemoryIsBounded(t *testing.T) {
	x, key := newSite(t, false, func(o *wire.Options) { o.MaxMemory = 1 << 20 }), "k"
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	if _, err := x.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: &key,
		Body: bytes.NewReader(data)}); err != nil {
		t.Fatal(err)
	}
	got, err := x.GetObject(t.Context(), &s3.GetObjectInput{Bucket: bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(b, data) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// raw sends a signed PUT whose body is to have 10 bytes, and returns the
// connection.
func (x *site) raw(t *testing.T, key sigv4test.Key, hash string) (net.Conn, *bufio.Reader) {
	t.Helper()
	r, err := http.NewRequest("PUT", x.server.URL+"/bucket/k", strings.NewReader("0123456789"))
	if err != nil {
		t.Fatal(err)
	}
	r.RequestURI = "/bucket/k"
	r.Header.Set("X-Amz-Content-Sha256", hash)
	sigv4test.Sign(r, []byte("0123456789"), key, "us-east-1", "s3", time.Now())
	c, err := net.Dial("tcp", x.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "PUT /bucket/k HTTP/1.1\r\nHost: %s\r\nContent-Length: 10\r\nExpect: 100-continue\r\n", r.Host)
	if err := r.Header.Write(c); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "\r\n")
	return c, bufio.NewReader(c)
}

func status(t *testing.T, in *bufio.Reader) string {
	t.Helper()
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// hashOf10 is SHA-256 of 0123456789.
const hashOf10 = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882"

// A body is asked for when the signature holds, and counts when it has come as a
// whole and is what was signed.
func TestContinue(t *testing.T) {
	x := newSite(t, false)
	c, in := x.raw(t, sigv4test.Key{ID: wiretest.Key.ID, Secret: "wrong"}, hashOf10)
	if got := status(t, in); got != "HTTP/1.1 403 Forbidden" {
		t.Errorf("another secret: %s", got)
	}
	c.Close()
	for body, want := range map[string]string{"0123456789": "HTTP/1.1 200 OK", "012345678x": "HTTP/1.1 400 Bad Request"} {
		c, in := x.raw(t, wiretest.Key, hashOf10)
		if got := status(t, in); got != "HTTP/1.1 100 Continue" {
			t.Fatalf("before the body: %s", got)
		}
		_, _ = in.ReadString('\n')
		fmt.Fprint(c, body)
		if got := status(t, in); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	c, in = x.raw(t, wiretest.Key, hashOf10)
	status(t, in)
	fmt.Fprint(c, "01234")
	c.Close() // half of it
	if got, _, err := x.store.Get(t.Context(), "bucket", "k", 10); string(got) != "0123456789" {
		t.Errorf("it is %q, %v", got, err)
	}
	for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		left, err := os.ReadDir(filepath.Join(x.store.Path(), ".tmp"))
		if err != nil || time.Now().After(until) {
			t.Fatal(errors.Join(err, fmt.Errorf("left beside: %v", left)))
		}
		if len(left) == 0 {
			break
		}
	}
}
