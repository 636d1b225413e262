package wire

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A held caller is an access key that may end.
type held struct {
	named
	ended *atomic.Bool
}

func (h held) Holds() bool { return !h.ended.Load() }

// A trickle is a body that calls half after its first byte and comes to its end
// after a while.
type trickle struct {
	io.Reader
	takes time.Duration
	half  func()
}

func (b *trickle) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p[:min(len(p), 1)])
	if half := b.half; half != nil {
		b.half = nil
		time.Sleep(b.takes)
		half()
	}
	return n, err
}

func (*trickle) Close() error { return nil }

// A request whose right ends while its body comes does nothing, by whatever the
// right ended and in each protocol.
func TestRightEndsDuringBody(t *testing.T) {
	large := `{"Name":"a"}` + strings.Repeat(" ", peeked+1)
	requests := map[string]func(id string) *http.Request{
		"REST": func(id string) *http.Request { return path(id, "mill", "PUT", "/wheels/a", "some") },
		"JSON": func(id string) *http.Request { return targeted(id, "Loom_2020.Weave", jsonType, large) },
	}
	keyEnds := func(_ *judge, ended *atomic.Bool) { ended.Store(true) }
	nothing := func(*judge, *atomic.Bool) {}
	for name, request := range requests {
		for what, c := range map[string]struct {
			id    string
			takes time.Duration
			ends  func(*judge, *atomic.Bool)
			code  int
		}{
			"nothing ends":        {key.ID, time.Second, nothing, 200},
			"nothing of one ends": {"AKIAHELD", time.Second, nothing, 200},
			"the key ends":        {key.ID, time.Second, keyEnds, 403},
			"the key of one ends": {"AKIAHELD", time.Second, keyEnds, 403},
			"the policy ends":     {"AKIAHELD", time.Second, func(j *judge, _ *atomic.Bool) { clear(j.may) }, 403},
			"soon":                {"AKIAHELD", prompt + 1, keyEnds, 403},
		} {
			synctest.Test(t, func(t *testing.T) {
				var ended atomic.Bool
				toy := newToy(func(o *Options) {
					o.Key = func(_ *http.Request, id string) Caller { return held{named(id), &ended} }
				})
				toy.judge.may = map[string]bool{"mill:PutWheel": true, "mill:PutWheel arn:aws:mill:::wheel/a": true,
					"loom:Weave": true, "loom:Weave cloth/a": true}
				r := request(c.id)
				r.Body = &trickle{r.Body, c.takes, func() { c.ends(toy.judge, &ended) }}
				if w := answer(toy, r); w.Code/100 != c.code/100 {
					t.Errorf("%s, %s: %d %s", name, what, w.Code, w.Body)
				}
				if n := toy.held(); n != 0 {
					t.Errorf("%s, %s: %d are held", name, what, n)
				}
			})
		}
	}
}
