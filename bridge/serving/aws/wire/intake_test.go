package wire

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// A stall is a body that does not come until the test is over.
type stall chan struct{}

func (s stall) Read([]byte) (int, error) { <-s; return 0, io.ErrUnexpectedEOF }
func (stall) Close() error               { return nil }

// A siege is requests that are under way and have not sent their bodies.
type siege struct {
	h    http.Handler
	body stall
	wg   sync.WaitGroup
}

// send begins n requests, each from an address of its own of so many.
func (s *siege) send(n, addresses int, request func() *http.Request) {
	for i := range n {
		r := request()
		r.Body = s.body
		r.RemoteAddr = fmt.Sprintf("192.0.2.%d:%d", i%addresses, i)
		s.wg.Go(func() { s.h.ServeHTTP(httptest.NewRecorder(), r) })
	}
	synctest.Wait()
}

func (s *siege) end() {
	close(s.body)
	s.wg.Wait()
}

// Who sends bodies slowly keeps nobody out: neither with a wrong secret, nor
// with a certificate that holds, nor by the size that it announces. The services
// take as many requests at once as AWS IoT's and Kinesis's do here.
func TestSlowBodiesKeepNobodyOut(t *testing.T) {
	const control, data, calls = 64, 1024, 2048
	target := func() *toy {
		return newToy(func(o *Options) {
			for i, n := range []int{control, data, calls} {
				o.Services[i].Concurrent = n
			}
		})
	}
	post := func(target string, length int64) *http.Request {
		r := httptest.NewRequest("PUT", target, http.NoBody)
		r.ContentLength, r.Host = length, "h"
		return r
	}
	wrong := func(r *http.Request, service string) *http.Request {
		sigv4test.Sign(r, nil, sigv4test.Key{ID: key.ID, Secret: "guessed"}, "r", service, time.Now())
		return r
	}
	large := func() *http.Request {
		r := post("/", 10<<20)
		r.Method = "POST"
		r.Header.Set("X-Amz-Target", "Loom_2020.Cut")
		r.Header.Set("Content-Type", jsonType)
		return r
	}
	put := func(size int) *http.Request {
		return targeted(key.ID, "Loom_2020.Cut", jsonType, "{"+strings.Repeat(" ", size-2)+"}")
	}
	slowly := func(length int64) func() *http.Request {
		return func() *http.Request {
			r := post("/gates/a", length)
			r.Method = "POST"
			r.Header.Set("Who", "one")
			return r
		}
	}
	open := func() *http.Request { return unsignedBy("other", "/gates/a") }
	for _, c := range []struct {
		name      string
		n         int
		addresses int
		slow      func() *http.Request
		quick     func() *http.Request
	}{
		{"64 of a wrong secret", control, 1, func() *http.Request { return wrong(post("/wheels/x", 1000), "mill") },
			func() *http.Request { return path(key.ID, "mill", "GET", "/wheels/a", "") }},
		{"9 connections of a certificate", 9 * 128, 1, slowly(100), open},
		{"many from many addresses", 2 * data, 200, slowly(100 << 10), open},
		{"30 of 10 MiB and a wrong secret", 30, 3, func() *http.Request {
			return wrong(large(), "loom")
		}, func() *http.Request { return put(9 << 20) }},
		{"calls of a wrong secret", calls, 1, func() *http.Request {
			return wrong(large(), "loom")
		}, func() *http.Request { return put(1 << 20) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				toy := target()
				toy.judge.may = map[string]bool{"gate:Open": true, "gate:Open gate/a": true}
				s := &siege{h: toy, body: make(stall)}
				s.send(c.n, c.addresses, c.slow)
				r := c.quick()
				r.RemoteAddr = "198.51.100.1:1"
				began, w := time.Now(), httptest.NewRecorder()
				s.h.ServeHTTP(w, r)
				if took := time.Since(began); took != 0 || w.Code != 200 {
					t.Errorf("%d %s after %v", w.Code, w.Body, took)
				}
				s.end()
				if n := toy.held(); n != 0 {
					t.Errorf("%d are held after the end", n)
				}
			})
		})
	}
}
