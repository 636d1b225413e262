package aws

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
	h    *Handler
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
// with a certificate that holds, nor by the size that it announces.
func TestSlowBodiesKeepNobodyOut(t *testing.T) {
	post := func(target string, length int64) *http.Request {
		r := httptest.NewRequest("POST", target, http.NoBody)
		r.ContentLength, r.Host = length, "h"
		return r
	}
	wrong := func(r *http.Request, service string) *http.Request {
		sigv4test.Sign(r, nil, sigv4test.Key{ID: key.ID, Secret: "guessed"}, "r", service, time.Now())
		return r
	}
	publish := func() *http.Request {
		r := httptest.NewRequest("POST", "/topics/a", strings.NewReader("x"))
		r.Header.Set("Who", "other")
		return r
	}
	for _, c := range []struct {
		name      string
		h         func() *Handler
		n         int
		addresses int
		slow      func() *http.Request
		quick     func() *http.Request
	}{
		{"64 of a wrong secret", func() *Handler { return newBench().Handler }, maxRequests, 1,
			func() *http.Request { return wrong(post("/rules/x", 1000), "iot") },
			func() *http.Request {
				r := httptest.NewRequest("GET", "/rules", http.NoBody)
				sigv4test.Sign(r, nil, key, "r", "iot", time.Now())
				return r
			}},
		{"9 connections of a certificate", func() *Handler { return dataHandler(&plane{}) }, 9 * 128, 1,
			func() *http.Request {
				r := post("/topics/a", 100)
				r.Header.Set("Who", "one")
				return r
			}, publish},
		{"many from many addresses", func() *Handler { return dataHandler(&plane{}) }, 2 * maxData, 200,
			func() *http.Request {
				r := post("/topics/a", 100<<10)
				r.Header.Set("Who", "one")
				return r
			}, publish},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &siege{h: c.h(), body: make(stall)}
				s.send(c.n, c.addresses, c.slow)
				r := c.quick()
				r.RemoteAddr = "198.51.100.1:1"
				began, w := time.Now(), httptest.NewRecorder()
				s.h.ServeHTTP(w, r)
				if took := time.Since(began); took != 0 || w.Code == http.StatusTooManyRequests || strings.Contains(w.Body.String(), "Throttling") {
					t.Errorf("%d %s after %v", w.Code, w.Body, took)
				}
				s.end()
				if n := s.h.memory.inUse() + s.h.data.inUse() + s.h.slots.inUse(); n != 0 {
					t.Errorf("%d are held after the end", n)
				}
			})
		})
	}
}

// A key that is held to policies, or is nobody's, sends no body to what is not
// for it.
func TestNoBodyForWhatIsRefused(t *testing.T) {
	h := dataHandler(&plane{})
	for id, code := range map[string]string{"AKIANARROW": "AccessDeniedException", "AKIAOTHER": "UnrecognizedClientException"} {
		r := httptest.NewRequest("POST", "/rules/x", unread{t})
		r.ContentLength, r.Host = 1000, "h"
		sigv4test.Sign(r, nil, sigv4test.Key{ID: id, Secret: "secret"}, "r", "iot", time.Now())
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != 403 || w.Header().Get("X-Amzn-Errortype") != code {
			t.Errorf("%s: %d %s %s", id, w.Code, w.Header(), w.Body)
		}
	}
}

type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}
func (unread) Close() error { return nil }
