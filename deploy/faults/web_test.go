package faults

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A halving takes each second part out of a batch. refuse completes the answer with
// the parts that were left out.
type halving func(r *http.Request, body []byte) (sent []byte, refuse func(answer []byte) []byte, ok bool)

// A lane is the requests of one row through a web gate.
type lane struct {
	*meter
	mark   string // what the URL, the target's header or the body has; "": anything
	writes func(r *http.Request, body []byte) bool
	halve  halving // nil: it takes no batches
}

// is says whether a request is of the lane.
func (l *lane) is(r *http.Request, body []byte) bool {
	return strings.Contains(r.URL.RequestURI(), l.mark) || bytes.Contains(body, []byte(l.mark))
}

// A webGate stands before a server of HTTP.
type webGate struct {
	to    string // host:port
	lanes []*lane
	out   *http.Transport
}

// newWebGate opens a gate before a URL and returns its own. The first lane that a
// request is of decides.
func newWebGate(t testing.TB, url string, lanes ...*lane) string {
	g := &webGate{to: strings.TrimPrefix(url, "http://"), lanes: lanes, out: &http.Transport{MaxIdleConnsPerHost: 32}}
	s := httptest.NewServer(g)
	t.Cleanup(func() {
		for _, l := range lanes {
			l.set(pass, 0)
		}
		s.CloseClientConnections()
		s.Close()
		g.out.CloseIdleConnections()
	})
	return s.URL
}

// ServeHTTP implements http.Handler.
func (g *webGate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	l := g.laneOf(r, body)
	var refuse func([]byte) []byte
	switch does := l.now(); {
	case does == half:
		if l.halve == nil {
			break
		}
		sent, f, ok := l.halve(r, body)
		if ok && l.meet() == half {
			body, refuse = sent, f
		}
	case does == away || l.writes == nil || l.writes(r, body):
		if g.meets(w, r, body, l) {
			return
		}
	}
	g.pass(w, r, body, refuse)
}

func (g *webGate) laneOf(r *http.Request, body []byte) *lane {
	for _, l := range g.lanes {
		if l.is(r, body) {
			return l
		}
	}
	return &lane{meter: &meter{}}
}

// meets does to a request what its lane has for it, and says whether it is answered.
func (g *webGate) meets(w http.ResponseWriter, r *http.Request, body []byte, l *lane) bool {
	does := l.meet()
	switch does {
	case away:
		reset(w)
		return true
	case busy, throttled, refused:
		w.WriteHeader(map[way]int{busy: 503, throttled: 429, refused: 400}[does])
		return true
	case before:
		l.hold(r.Context())
		reset(w)
		return true
	case slow:
		time.Sleep(lateBy)
		return false
	case garbage, lost, silent, after:
		resp, answer, err := g.forward(r, body)
		if err == nil && resp.StatusCode >= 300 { // the target itself refuses it
			answered(w, resp, answer)
			return true
		}
	default:
		return false
	}
	switch does {
	case garbage:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte("\x00\xff<what{"))
		return true
	case silent, after:
		l.hold(r.Context())
	}
	reset(w)
	return true
}

// forward does a request and reads the answer.
func (g *webGate) forward(r *http.Request, body []byte) (*http.Response, []byte, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host = "http", g.to
	out.RequestURI = ""
	out.Header.Del("Accept-Encoding") // the transport then reads what is compressed
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	resp, err := g.out.RoundTrip(out)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp, answer, err
}

func (g *webGate) pass(w http.ResponseWriter, r *http.Request, body []byte, refuse func([]byte) []byte) {
	resp, answer, err := g.forward(r, body)
	if err != nil {
		reset(w)
		return
	}
	if refuse != nil {
		answer = refuse(answer)
		resp.Header.Del("X-Amz-Crc32")
	}
	answered(w, resp, answer)
}

func answered(w http.ResponseWriter, resp *http.Response, answer []byte) {
	for name, values := range resp.Header {
		if name != "Content-Length" && name != "Transfer-Encoding" && name != "Connection" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(answer)
}

// reset ends the connection of a request with a reset.
func reset(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}
