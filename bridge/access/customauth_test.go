package access

import (
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/customauth/customauthtest"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

const patience = time.Minute // for what must come; no test waits so long

// newService is a custom authorizer that knows one password and one token.
func newService(t *testing.T) *customauthtest.Service {
	return customauthtest.New(t, customauthtest.Answer{Principal: "visitor1", Policy: all("iot:Publish", "topic/secret")})
}

// The authorizer is asked again when it said, and the connection ends when it
// said, or when its word is no longer to be had.
func TestAuthorizerIsAskedAgain(t *testing.T) {
	d := newService(t)
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
		if _, err := b.Connect(t.Context(), again); err != nil || d.Calls() != 1 {
			t.Errorf("asked %d times, %v", d.Calls(), err)
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
	d.Change(func(a *customauthtest.Answer) { a.Policy = all("iot:Publish", "topic/open") })
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
	for _, change := range []func(*customauthtest.Answer){
		func(a *customauthtest.Answer) { a.Principal = "visitor2" },
		func(a *customauthtest.Answer) { a.Deny = true }} {
		_, reasons = ends(time.Hour, 50*time.Millisecond)
		d.Change(change)
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
