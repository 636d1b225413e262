package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/serving/lasting"
)

// as asks like do, as somebody at the other end of the socket.
func (a *api) as(c credential, method, path, body string) (int, string) {
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, path, strings.NewReader(body))
	a.handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), credentialKey{}, c)))
	return w.Code, w.Body.String()
}

// Who asks by the socket may do what the roles allow that the user or one of the
// groups has.
func TestPeers(t *testing.T) {
	a := newAPI(t)
	viewer, operator, group := credential{uid: 1001}, credential{uid: 1002}, credential{uid: 1004, gids: []int{7, 2000}}
	for _, c := range []struct {
		who          credential
		method, path string
		body         string
		want         int
		says         string
	}{
		{credential{uid: 0}, "POST", "/v1/users", `{"name":"alice","roles":["viewer"]}`, 200, ""},
		{credential{uid: os.Getuid()}, "POST", "/v1/users", `{"name":"alice","roles":[]}`, 409, "exists"},
		{viewer, "GET", "/v1/users", "", 200, `"name":"alice"`},
		{viewer, "GET", "/v1/things", "", 200, ""},
		{viewer, "POST", "/v1/things", `{"name":"t"}`, 403, "uid 1001 may not tidemill:CreateThing: it has the role viewer"},
		{viewer, "POST", "/v1/access-keys", `{"user":"alice"}`, 403, "CreateAccessKey"},
		{operator, "POST", "/v1/things", `{"name":"t"}`, 200, ""},
		{operator, "POST", "/v1/own-cas/rotate", "", 403, "RotateCA"},
		{operator, "PUT", "/v1/policies/p", `{}`, 403, "PutPolicy"},
		{operator, "DELETE", "/v1/users/alice", "", 403, "DeleteUser"},
		{group, "DELETE", "/v1/things/t", "", 200, ""},
		{credential{uid: 1001, gids: []int{2000}}, "DELETE", "/v1/things/none", "", 404, ""}, // has both roles
		{credential{uid: 1003}, "GET", "/v1/things", "", 403, "ListThings"},
		{credential{uid: 1004, gids: []int{7}}, "GET", "/v1/info", "", 403, "uid 1004 has no role here"},
		{credential{uid: 1004}, "GET", "/metrics", "", 403, "has no role here"},
		{credential{uid: 0, failed: errors.New("no")}, "GET", "/v1/info", "", 403, "nobody knows who asks"},
	} {
		if code, text := a.as(c.who, c.method, c.path, c.body); code != c.want || !strings.Contains(text, c.says) {
			t.Errorf("uid %d %v: %s %s: %d %s", c.who.uid, c.who.gids, c.method, c.path, code, text)
		}
	}
	if _, err := NewPeers([]Peer{{Roles: []string{"root"}}}); err == nil ||
		!strings.Contains(err.Error(), `admin.peers[0].roles: role "root"`) {
		t.Error(err)
	}
}

// Every row has an action, so that a new one is not the admin's alone by mistake,
// and what changes something is kept by the audit log.
func TestTable(t *testing.T) {
	unchanging := []string{"POST /v1/rules/{name}/why", "POST /v1/replays", "DELETE /v1/replays/{id}",
		"POST /v1/policy-tests"}
	rows := table(Options{})
	for _, x := range rows {
		reads := strings.HasPrefix(x.pattern, "GET ") || slices.Contains(unchanging, x.pattern)
		if x.action == "" || reads != (x.keeps == nothing) {
			t.Errorf("%s: action %q, keeps %d", x.pattern, x.action, x.keeps)
		}
	}
	if n := len(Actions()); n != len(rows) {
		t.Errorf("%d rows, %d patterns", len(rows), n)
	}
}

// peersOwnedBy are Peers of a bridge that runs as a user, with an empty list.
func peersOwnedBy(t *testing.T, uid int) *Peers {
	t.Helper()
	p, err := NewPeers(nil)
	if err != nil {
		t.Fatal(err)
	}
	p.own = uid
	return p
}

// What follows ends with the right to it, and who may not change a rule is shown no
// secret of it.
func TestPeersLasting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPeers([]Peer{{UID: 1001, GID: -1, Roles: []string{people.Viewer}},
			{UID: 1002, GID: -1, Roles: []string{people.Operator}}})
		if err != nil {
			t.Fatal(err)
		}
		as := func(uid int) context.Context {
			return context.WithValue(t.Context(), credentialKey{}, credential{uid: uid})
		}
		follow := p.authorized(row{action: "GetMessages", answer: func(_ http.ResponseWriter, r *http.Request) error {
			<-r.Context().Done()
			return nil
		}}, "arn:aws:tidemill:r:a:")
		ended := make(chan error, 1)
		r := httptest.NewRequest("GET", "/v1/watch", nil).WithContext(as(1001))
		go func() { ended <- follow(httptest.NewRecorder(), r) }()
		time.Sleep(time.Minute)
		select {
		case err := <-ended:
			t.Fatalf("ended: %v", err)
		default:
		}
		secret := map[string]any{"name": "headers[0].value", "value": "hunter2"}
		for uid, shows := range map[int]bool{1001: false, 1002: true} {
			text, err := json.Marshal(p.shown(as(uid), secret))
			if err != nil || strings.Contains(string(text), "hunter2") != shows {
				t.Errorf("uid %d: %s %v", uid, text, err)
			}
			if got := p.readable(as(uid), "$outbox/r/0") == nil; got != shows || p.readable(as(uid), "$audit") != nil {
				t.Errorf("uid %d reads an outbox: %v", uid, got)
			}
			const record = `{"id":"","action":"CreateTopicRule","after":{"url":"https://h/hunter2"}}`
			got := string(p.showing(as(uid), audit.Stream)([]byte(record)))
			if strings.Contains(got, "hunter2") != shows || !strings.Contains(got, "https://h/") ||
				!strings.Contains(got, "CreateTopicRule") || string(p.showing(as(uid), "s")([]byte(record))) != record {
				t.Errorf("uid %d: %s", uid, got)
			}
		}
		if err := p.Replace([]Peer{{UID: 1001, Roles: []string{"root"}}}); err == nil {
			t.Error("a role that there is not")
		}
		if err := p.Replace([]Peer{{UID: 1002, GID: -1, Roles: []string{people.Operator}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * lasting.AskAgain)
		select {
		case err := <-ended:
			if !errors.Is(err, errForbidden) {
				t.Error(err)
			}
		default:
			t.Error("it goes on")
		}
	})
}

// limited is a listener of a real socket, and what dials it.
func limited(t *testing.T, p *Peers) (net.Listener, func() net.Conn) {
	t.Helper()
	if !KnowsPeers {
		t.Skip("this system does not tell")
	}
	dir, err := os.MkdirTemp("", "peer") // short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return p.Limit(l), func() net.Conn {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
}

// The other end of a real socket is found out.
func TestWithPeer(t *testing.T) {
	l, dial := limited(t, peersOwnedBy(t, os.Getuid()))
	dial()
	here, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	ctx := WithPeer(t.Context(), here)
	c, ok := ctx.Value(credentialKey{}).(credential)
	if !ok || c.failed != nil || c.uid != os.Getuid() || c.pid != os.Getpid() || !slices.Contains(c.gids, os.Getgid()) {
		t.Errorf("%+v", c)
	}
	if who, from := peerOf(ctx); !strings.HasPrefix(who, "uid ") || !strings.HasPrefix(from, "pid ") {
		t.Error(who, from)
	}
	for _, g := range groups {
		if !slices.Contains(c.gids, g) {
			t.Errorf("group %d is missing of %v", g, c.gids)
		}
	}
	u := here.(*peerConn).Conn.(*net.UnixConn)
	if err := here.Close(); err != nil {
		t.Fatal(err)
	}
	if c := credentialOf(u); c.failed == nil {
		t.Errorf("who has gone is uid %d", c.uid)
	}
}

// Who has no role has few connections, and others their share.
func TestLimitOfPeers(t *testing.T) {
	if os.Getuid() == 0 {
		t.Log("root has no limit: the share is counted by hand")
	}
	l, dial := limited(t, peersOwnedBy(t, os.Getuid()))
	p := l.(*limitedPeers)
	dial()
	c, err := l.Accept()
	if err != nil || p.open[os.Getuid()] != 1 {
		t.Fatal(err, p.open)
	}
	if err := errors.Join(c.Close(), c.Close()); err == nil || len(p.open) != 0 {
		t.Errorf("closed twice: %v, %v are open", err, p.open)
	}
	p.peers = peersOwnedBy(t, -2) // nobody but root
	if os.Getuid() == 0 {
		return
	}
	for range maxRoleless {
		dial()
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
	}
	more := dial()
	go func() { _, _ = l.Accept() }()
	if _, err := more.Read(make([]byte, 1)); err == nil {
		t.Error("one more is open")
	}
}
