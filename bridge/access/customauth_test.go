package access

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

const patience = 20 * time.Second // for what must come; no test waits so long

// A doorman is a custom authorizer that knows one password.
type doorman struct {
	*httptest.Server
	mu     sync.Mutex // guards what follows
	asked  int
	deny   bool
	name   string
	policy string
}

func newDoorman(t *testing.T) *doorman {
	d := &doorman{name: "visitor1", policy: all("iot:Publish", "topic/secret")}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Token        string
			ProtocolData struct{ MQTT struct{ Password []byte } }
		}
		err := json.NewDecoder(r.Body).Decode(&q)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asked++
		ok := err == nil && !d.deny && (string(q.ProtocolData.MQTT.Password) == "open sesame" || q.Token == "sesame")
		fmt.Fprintf(w, `{"isAuthenticated":%v,"principalId":%q,"policyDocuments":[%s],"disconnectAfterInSeconds":300,"refreshAfterInSeconds":300}`,
			ok, d.name, d.policy)
	}))
	t.Cleanup(d.Close)
	return d
}

func (d *doorman) calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

// The authorizer is asked again when it said, and the connection ends when it
// said, or when its word is no longer to be had.
func TestAuthorizerIsAskedAgain(t *testing.T) {
	d := newDoorman(t)
	b := newSite(t, config.Authorizer{Name: "doors", URL: d.URL, SigningDisabled: true, Default: true})
	ends := func(end, refresh time.Duration) (*customSession, chan string) {
		session, err := b.Connect(t.Context(),
			&gateway.Connect{ClientID: "x", Password: []byte("open sesame"), Via: gateway.Via{}})
		if err != nil {
			t.Fatal(err)
		}
		g := session.(*customSession)
		g.ends, g.refresh = time.Now().Add(end), refresh
		reasons := make(chan string, 10)
		ended := g.Begin(func(reason string) { reasons <- reason })
		t.Cleanup(ended)
		return g, reasons
	}
	again := &gateway.Connect{ClientID: "x", Password: []byte("open sesame")}
	for range 3 { // as the gateway does while the registry changes
		if _, err := b.Connect(t.Context(), again); err != nil || d.calls() != 1 {
			t.Errorf("asked %d times, %v", d.calls(), err)
		}
	}
	_, reasons := ends(10*time.Millisecond, time.Hour)
	if got := <-reasons; got != gateway.ReasonCustomAuth {
		t.Error(got)
	}
	g, reasons := ends(time.Hour, 10*time.Millisecond)
	if g.May("iot:Publish", "secret") || !g.May("iot:Publish", "open") {
		t.Error("not as the authorizer said")
	}
	d.mu.Lock()
	d.policy = all("iot:Publish", "topic/open")
	d.mu.Unlock()
	// The next one comes after the five minutes that the answer says.
	for end := time.Now().Add(patience); !g.May("iot:Publish", "secret") ||
		g.May("iot:Publish", "open"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not asked again")
		}
	}
	select {
	case got := <-reasons:
		t.Error(got)
	default:
	}
	for _, change := range []func(){func() { d.name = "guest2" }, func() { d.deny = true }} {
		_, reasons = ends(time.Hour, 50*time.Millisecond)
		d.mu.Lock()
		change()
		d.mu.Unlock()
		select {
		case got := <-reasons:
			if got != gateway.ReasonForbidden {
				t.Error(got)
			}
		case <-time.After(patience):
			t.Error("still connected")
		}
	}
}
