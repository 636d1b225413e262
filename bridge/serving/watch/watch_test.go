package watch

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// A reader is a client of a hub.
type reader struct {
	t     *testing.T
	lines *bufio.Scanner
	end   func()
}

// follow begins to watch, and returns when nothing is missed any more.
func follow(t *testing.T, base string, filters ...string) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"?"+url.Values{"filter": filters}.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{t, bufio.NewScanner(resp.Body), func() { cancel(); resp.Body.Close() }}
	r.lines.Buffer(nil, 8<<20)
	t.Cleanup(r.end)
	if l := r.next(); l.Topic != "" {
		t.Fatalf("the first line is %+v", l)
	}
	return r
}

func (r *reader) next() (l Line) {
	r.t.Helper()
	if !r.lines.Scan() {
		r.t.Fatalf("the answer ended: %v", r.lines.Err())
	}
	if err := json.Unmarshal(r.lines.Bytes(), &l); err != nil {
		r.t.Fatalf("%s: %v", r.lines.Bytes(), err)
	}
	return l
}

// serve runs a hub that tells of each watcher's end.
func serve(t *testing.T) (h *Hub, base string, gone *sync.WaitGroup) {
	t.Helper()
	h, gone = &Hub{}, &sync.WaitGroup{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gone.Add(1)
		defer gone.Done()
		if err := h.Serve(w, r); err != nil {
			code := http.StatusInternalServerError
			if _, ok := errors.AsType[FilterError](err); ok {
				code = http.StatusBadRequest
			} else if errors.Is(err, ErrFull) {
				code = http.StatusTooManyRequests
			}
			http.Error(w, err.Error(), code)
		}
	}))
	t.Cleanup(srv.Close)
	return h, srv.URL, gone
}

func TestWatch(t *testing.T) {
	h, base, gone := serve(t)
	show := func(topic, payload string) {
		h.Show(&message.Message{Topic: topic, Payload: []byte(payload), Time: 5, ClientID: "c", Thing: "pi-1", QoS: 1,
			Retain: true})
	}
	show("dt/pi-1/early", "{}") // to nobody
	all, some := follow(t, base), follow(t, base, "dt/+/climate", "$aws/#")
	for _, p := range [][2]string{
		{"dt/pi-1/climate", `{"t":"<1>"}`}, {"$aws/things/x", "Online"}, {"dt/pi-1/lamp", "\xff\x00"},
		{"dt/pi-1/door", "{\"a\":\"\x9b\"}"}, {"x", ""}, {"$other/x", "1"}, {"dt/pi-2/climate", "21.5"},
	} {
		show(p[0], p[1])
	}
	text := func(l Line) string { return fmt.Sprintf("%s json=%s text=%s data=%x", l.Topic, l.JSON, l.Text, l.Data) }
	for _, c := range []struct {
		name string
		r    *reader
		want []string
	}{
		{"all", all, []string{`dt/pi-1/climate json={"t":"<1>"} text= data=`, "dt/pi-1/lamp json= text= data=ff00",
			"dt/pi-1/door json= text= data=7b2261223a229b227d", "x json= text= data=",
			"dt/pi-2/climate json=21.5 text= data="}},
		{"some", some, []string{`dt/pi-1/climate json={"t":"<1>"} text= data=`, "$aws/things/x json= text=Online data=",
			"dt/pi-2/climate json=21.5 text= data="}},
	} {
		for _, want := range c.want {
			got := c.r.next()
			if text(got) != want || got.Time != 5 || got.Client != "c" || got.Thing != "pi-1" || got.QoS != 1 ||
				!got.Retain || got.Skipped != 0 {
				t.Errorf("%s: got %s (%+v), want %s", c.name, text(got), got, want)
			}
		}
	}
	all.end()
	some.end()
	gone.Wait()
	if h.all.Load() != nil {
		t.Error("a watcher that has left is still shown messages")
	}
}

// A watcher that does not read holds nobody, keeps little, and is told exactly
// how many it missed.
func TestSlowWatcher(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages int
		size     int
	}{{"many", 30 * maxLines, 1000}, {"large", 60, maxBytes / 8}, {"too large", 3, maxBytes}} {
		t.Run(c.name, func(t *testing.T) {
			h, base, _ := serve(t)
			r := follow(t, base, "a")
			payload := []byte(strings.Repeat("x", c.size))
			for range c.messages { // returns, though nobody reads
				h.Show(&message.Message{Topic: "a", Payload: payload})
			}
			for _, w := range *h.all.Load() {
				if n := w.bytes.Load(); n > maxBytes {
					t.Errorf("%d bytes wait, want at most %d", n, maxBytes)
				}
			}
			shown, skipped := 0, uint64(0)
			for shown+int(skipped) < c.messages {
				l := r.next()
				skipped += l.Skipped
				if l.Topic != "" {
					shown++
				}
			}
			if shown+int(skipped) != c.messages || skipped == 0 {
				t.Errorf("%d shown and %d skipped of %d", shown, skipped, c.messages)
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	h, base, gone := serve(t)
	ask := func(query string, code int, want string) {
		t.Helper()
		resp, err := http.Get(base + "?" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		said, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != code || !strings.Contains(string(said), want) {
			t.Errorf("%s: %d %q, %v; want %d %q", query, resp.StatusCode, said, err, code, want)
		}
	}
	ask("filter=a%23", 400, `filter "a#"`)
	ask("filter=a&filter=", 400, `filter ""`)
	ask(strings.Repeat("filter=a&", maxFilters+1), 400, "filters, want at most")
	var readers []*reader
	for range maxWatchers {
		readers = append(readers, follow(t, base))
	}
	ask("", 429, "end one of them first")
	for _, r := range readers {
		r.end()
	}
	gone.Wait()
	follow(t, base)
	if n := len(*h.all.Load()); n != 1 {
		t.Errorf("%d watchers", n)
	}
}

// BenchmarkShow is what a message costs that nobody watches, and one that a
// watcher of another topic does not see.
func BenchmarkShow(b *testing.B) {
	m := &message.Message{Topic: "dt/pi-1/climate", Payload: []byte(`{"temperature":21.5}`)}
	for _, filters := range [][]string{nil, {"cmd/#"}} {
		b.Run(fmt.Sprint(len(filters)), func(b *testing.B) {
			h := &Hub{}
			if filters != nil {
				w, err := newWatcher(filters)
				if err != nil {
					b.Fatal(err)
				}
				if err := h.add(w); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				h.Show(m)
			}
		})
	}
}
