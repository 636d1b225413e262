package wire

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// beats is a subscription of n empty events, one every so often, that ends with
// end.
type beats struct {
	n      int
	every  time.Duration
	end    error
	closed bool
}

func (b *beats) Next(ctx context.Context, w *shape.Writer) (string, error) {
	if b.n == 0 {
		return "", b.end
	}
	b.n--
	select {
	case <-time.After(b.every):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	w.OpenMap()
	w.CloseMap()
	return "SubscribeToShardEvent", nil
}

func (b *beats) Close() { b.closed = true }

// pushing is a Handler of the service stream of b.
func pushing(b *beats) *toy {
	return newToy(func(o *Options) {
		o.Services, o.Verifier, o.Permissive = []*Service{stream(b)}, &sigv4.Verifier{Permissive: true}, true
	})
}

func subscribing(url string) *http.Request { return asking(url, "T.Sub", "{}") }

func asking(url, target, body string) *http.Request {
	r, _ := http.NewRequest("POST", url, strings.NewReader(body))
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("Content-Type", jsonType)
	sigv4test.Sign(r, []byte(body), key, "r", "loom", time.Now())
	return r
}

// messages reads a stream of events to its end and says what was in it.
func messages(t *testing.T, r io.Reader) (all []string) {
	t.Helper()
	for dec := eventstream.NewDecoder(); ; {
		m, err := dec.Decode(r, nil)
		if err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			return all
		}
		all = append(all, header(m, ":message-type")+" "+header(m, ":event-type")+header(m, ":exception-type")+" "+
			string(m.Payload))
	}
}

// header is the text of a header, "" for none.
func header(m eventstream.Message, name string) string {
	v, _ := m.Headers.Get(name).(eventstream.StringValue)
	return string(v)
}

// A subscription outlives the server's timeouts, which are for requests, and
// ends when its events do.
func TestSubscriptionsLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &beats{n: 60, every: 5 * time.Second, end: io.EOF}
		h := pushing(b)
		srv := &http.Server{Handler: h, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
		l := &pipe{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		here, there := net.Pipe()
		l.conns <- there
		began := time.Now()
		r := subscribing("http://x/")
		go func() { _ = r.Write(here) }()
		resp, err := http.ReadResponse(bufio.NewReader(here), r)
		if err != nil {
			t.Fatal(err)
		}
		all := messages(t, resp.Body)
		if took := time.Since(began); len(all) != 61 || took != 5*time.Minute+beforeAnswer ||
			resp.Header.Get("Content-Type") != eventsType {
			t.Errorf("%d messages in %v, %v", len(all), took, resp.Header)
		}
		here.Close()
		srv.Close()
		<-served
		if !b.closed || h.held() != 0 {
			t.Errorf("closed %v, %d held", b.closed, h.held())
		}
	})
}

// So it does over HTTP/2, where the timeouts are those of a request's frames.
func TestSubscriptionsLiveOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &beats{n: 60, every: 5 * time.Second, end: io.EOF}
		h := pushing(b)
		var h2 http.Protocols
		h2.SetUnencryptedHTTP2(true)
		srv := &http.Server{Handler: h, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
			IdleTimeout: 30 * time.Second, Protocols: &h2}
		l := &pipe{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		client := &http.Transport{Protocols: &h2, DialContext: func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			l.conns <- there
			return here, nil
		}}
		began := time.Now()
		resp, err := client.RoundTrip(subscribing("http://x/"))
		if err != nil {
			t.Fatal(err)
		}
		all := messages(t, resp.Body)
		if took := time.Since(began); resp.ProtoMajor != 2 || len(all) != 61 || took != 5*time.Minute+beforeAnswer {
			t.Errorf("%d messages in %v over %s", len(all), took, resp.Proto)
		}
		client.CloseIdleConnections()
		srv.Close()
		<-served
	})
}

// A pipe listener accepts what is sent to it.
type pipe struct {
	net.Listener
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error {
	close(p.closed)
	return nil
}

// What goes wrong later comes in the stream, as the error's name.
func TestSubscriptionsFail(t *testing.T) {
	for _, c := range []struct {
		end  error
		want string
	}{
		{io.EOF, ""},
		{&Error{Code: "ResourceInUseException", Status: 400, Message: "taken"},
			`exception ResourceInUseException {"message":"taken"}`},
		{errors.New("the disk is sick"), `exception InternalFailureException {"message":"` +
			errorOf(errors.New(""), nil).Message + `"}`},
	} {
		for _, h2 := range []bool{false, true} {
			srv := httptest.NewUnstartedServer(pushing(&beats{n: 1, end: c.end}))
			srv.EnableHTTP2 = h2
			srv.StartTLS()
			resp, err := srv.Client().Do(subscribing(srv.URL))
			if err != nil {
				t.Fatal(err)
			}
			want := "event initial-response {}\nevent SubscribeToShardEvent {}"
			if c.want != "" {
				want += "\n" + c.want
			}
			if got := strings.Join(messages(t, resp.Body), "\n"); got != want || (resp.ProtoMajor == 2) != h2 {
				t.Errorf("%s\n%s\nwant\n%s", resp.Proto, got, want)
			}
			resp.Body.Close()
			srv.Close()
		}
	}
}

// Each event goes out when it is there, and a bridge that stops ends the stream
// without an exception.
func TestSubscriptionsStop(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	srv := httptest.NewUnstartedServer(pushing(&beats{n: 1, every: time.Hour}))
	srv.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	srv.Start()
	defer srv.Close()
	resp, err := srv.Client().Do(subscribing(srv.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, 0x68) // the initial response
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	stop()
	if all := messages(t, io.MultiReader(bytes.NewReader(first), resp.Body)); len(all) != 1 {
		t.Errorf("%q", all)
	}
}

// With all places taken a subscription is told to come again.
func TestSubscriptionsBusy(t *testing.T) {
	h := pushing(&beats{end: io.EOF})
	h.streams[0].try(h.streams[0].size, nil)
	srv := httptest.NewServer(h)
	defer srv.Close()
	resp, err := srv.Client().Do(subscribing(srv.URL))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != 400 ||
		!strings.Contains(string(text), "ThrottlingException") {
		t.Errorf("%s %s", resp.Status, text)
	}
}

// A large body may take its time, in proportion, but not for ever.
func TestSlowUploads(t *testing.T) {
	for _, c := range []struct {
		every time.Duration // for 64 KiB
		want  string
		took  time.Duration
	}{
		{1200 * time.Millisecond, "200 OK", 32 * 1200 * time.Millisecond},
		{4 * time.Second, "400 Bad Request", patience + 32*time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			srv := &http.Server{Handler: pushing(nil), ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second}
			l := &pipe{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
			served := make(chan error, 1)
			go func() { served <- srv.Serve(l) }()
			here, there := net.Pipe()
			l.conns <- there
			began := time.Now()
			body := []byte(`{"x":"` + strings.Repeat("x", 2<<20-8) + `"}`)
			r := asking("http://x/", "T.Slow", "{}")
			r.ContentLength, r.Body = int64(len(body)), io.NopCloser(&drip{body, c.every})
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				_ = r.Write(here)
			}()
			resp, err := http.ReadResponse(bufio.NewReader(here), r)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); resp.Status != c.want || took < c.took || took > c.took+time.Second {
				t.Errorf("%s after %v, want %s after %v", resp.Status, took, c.want, c.took)
			}
			here.Close()
			<-sent
			srv.Close()
			<-served
		})
	}
}

// A drip gives 64 KiB after each pause.
type drip struct {
	left  []byte
	every time.Duration
}

func (d *drip) Read(b []byte) (int, error) {
	if len(d.left) == 0 {
		return 0, io.EOF
	}
	if len(d.left)%(64<<10) == 0 {
		time.Sleep(d.every)
	}
	n := copy(b, d.left[:min(len(d.left), (len(d.left)-1)%(64<<10)+1)])
	d.left = d.left[n:]
	return n, nil
}
