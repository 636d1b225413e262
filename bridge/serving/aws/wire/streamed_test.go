package wire

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4"
)

// deadlines keeps what a connection is told.
type deadlines struct {
	*httptest.ResponseRecorder
	read time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error { d.read = t; return nil }

// aBody gives pieces, each after a while.
type aBody struct {
	pieces []int
	each   time.Duration
}

func (b *aBody) Read(p []byte) (int, error) {
	if len(b.pieces) == 0 {
		return 0, io.EOF
	}
	time.Sleep(b.each)
	n := copy(p, make([]byte, b.pieces[0]))
	b.pieces = b.pieces[1:]
	return n, nil
}

func (b *aBody) Close() error { return nil }

// A sender has 30 s, and a second more for each 64 KiB that came; what is done
// with these meanwhile does not count.
func TestPacedReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &deadlines{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("PUT", "/", nil)
		r.Body = &aBody{[]int{64 << 10, 128 << 10, 0}, 10 * time.Second}
		x := &exchange{intake: intake{w: w, r: r}}
		p := &pacedReader{x: x}
		buf := make([]byte, 256<<10)
		for i, want := range []time.Duration{30 * time.Second, 21 * time.Second, 13 * time.Second} {
			time.Sleep(time.Hour) // the disk is slow
			start := time.Now()
			if _, err := p.Read(buf); err != nil {
				t.Fatal(err)
			}
			if got := w.read.Sub(start); got != want {
				t.Errorf("read %d has %v, want %v", i, got, want)
			}
		}
		if _, err := p.Read(buf); err != io.EOF || !w.read.IsZero() {
			t.Errorf("at the end: %v, deadline %v", err, w.read)
		}
		r.Body = io.NopCloser(failing{})
		if _, err := p.Read(buf); !errors.Is(err, sigv4.ErrBody) {
			t.Errorf("broken off: %v", err)
		}
	})
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// What is not the service's own goes to other protocols.
func TestTakesXML(t *testing.T) {
	p := newRESTXML(RESTXML{}, &service{Service: &Service{Signing: []string{"s3"}}}, nil)
	for _, c := range []struct {
		target, authorization string
		want                  bool
	}{
		{"/b/k", "AWS4-HMAC-SHA256 Credential=A/20260101/r/s3/aws4_request, SignedHeaders=host, Signature=0", true},
		{"/b/k", "AWS4-HMAC-SHA256 Credential=A/20260101/r/iotdata/aws4_request, SignedHeaders=host, Signature=0",
			false},
		{"/b/k", "AWS A:x", true},
		{"/b/k?X-Amz-Credential=A%2F20260101%2Fr%2Fs3%2Faws4_request", "", true},
		{"/b/k?X-Amz-Credential=A%2F20260101%2Fr%2Fiot%2Faws4_request", "", false},
		{"/b/k?AWSAccessKeyId=A", "", true},
		{"/s3/b/k", "", true},
		{"/s3/b/k", "AWS4-HMAC-SHA256 Credential=A/20260101/r/iot/aws4_request, SignedHeaders=host, Signature=0",
			false},
		{"/things/a/shadow", "", false},
	} {
		r := httptest.NewRequest(http.MethodGet, c.target, nil)
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		if got := p.takes(r); got != c.want {
			t.Errorf("%s %s: %v", c.target, c.authorization, got)
		}
	}
}
