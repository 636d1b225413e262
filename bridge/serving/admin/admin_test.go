package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/clock"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
	"github.com/tidemill/tidemill/bridge/serving/watch"
	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	buckets "github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// The parts of a bridge that tests set.
type (
	nobody    struct{}                 // connected
	files     map[string]error         // of bridge.d that are refused
	running   []connector.Info         // connectors
	heldClock struct{ accepted *bool } // a clock
)

func (nobody) Each(func(*gateway.Client)) {}

func (f files) Refused() map[string]error { return f }

func (r running) List() []connector.Info { return r }

func (c heldClock) Status() clock.Status { return clock.Status{Held: !*c.accepted} }

func (c heldClock) Accept() error { *c.accepted = true; return nil }

// An api is the API over stores of which nothing runs.
type api struct {
	t       testing.TB
	handler http.Handler
	log     strings.Builder
}

func newAPI(t testing.TB) *api {
	t.Helper()
	a := &api{t: t}
	log, dir := slog.New(slog.NewTextHandler(&a.log, nil)), t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	closed := func(c func() error) {
		t.Cleanup(func() {
			if err := c(); err != nil {
				t.Error(err)
			}
		})
	}
	reg, err := registrytest.Open(filepath.Join(dir, "registry.db"))
	must(err)
	closed(reg.Close)
	who, err := people.Open(reg, log)
	must(err)
	closed(who.Close)
	peers, err := NewPeers([]Peer{{UID: 1001, GID: -1, Roles: []string{people.Viewer}},
		{UID: 1002, GID: -1, Roles: []string{people.Operator}}, {UID: -1, GID: 2000, Roles: []string{people.Operator}},
		{UID: 1003, GID: -1, Roles: []string{people.DeviceData}}})
	must(err)
	store, err := pebble.Open(filepath.Join(dir, "log"), pebble.Options{Log: slog.New(slog.DiscardHandler)})
	must(err)
	closed(store.Close)
	kept, err := buckets.Open(filepath.Join(dir, "objects"), buckets.Options{})
	must(err)
	closed(kept.Close)
	ca, err := pki.Open(filepath.Join(dir, "pki"), pki.Options{ServerNames: []string{"bridge.example"}})
	must(err)
	api, err := kinesis.Open(store, kinesis.Options{Account: "000000000000", Region: "eu-local-1", Log: log,
		MaxShards: 500})
	must(err)
	a.handler = New(Options{
		Info: Info{Version: "test", Data: dir}, Account: "000000000000", Region: "eu-local-1",
		People: who, Peers: peers, Declared: func() []people.KeyInfo {
			return []people.KeyInfo{{ID: "AKIAOFAFILE", Declared: "pki/access-keys", Status: registry.Active}}
		},
		Registry: reg, Issuer: ca, Clients: nobody{},
		Endpoint: func(given string) (string, error) {
			if given == "nowhere" {
				return "", errors.New("endpoint: it is nowhere")
			}
			return "bridge.example:8883", nil
		},
		Store: store, DataStreams: api, Connectors: running{{File: "a.json"}}, Objects: kept,
		Declarations: files{"b.json": errors.New("b is wrong"), "a.json": errors.New("a is wrong")},
		Reload:       func() (int, error) { return 3, nil }, Clock: heldClock{new(bool)},
		Metrics: http.NotFoundHandler(), Watch: &watch.Hub{}, Log: log,
	})
	return a
}

func (a *api) do(method, path, body string) (int, string) {
	w := httptest.NewRecorder()
	a.handler.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// must decodes the answer into out, if that is not nil.
func (a *api) must(method, path, body string, out any) {
	a.t.Helper()
	code, text := a.do(method, path, body)
	if code != http.StatusOK {
		a.t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(text), out); err != nil {
			a.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
}

// A request that is wrong is told what is wrong with it, and the bridge logs
// nothing of it.
func TestRefuses(t *testing.T) {
	a := newAPI(t)
	var id Identity
	a.must("POST", "/v1/things", `{"name":"dev"}`, &id)
	a.must("POST", "/v1/streams", `{"name":"readings","shards":1,"retention_ns":86400000000000}`, nil)
	for _, c := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"POST", "/v1/things", `{"name":"no spaces"}`, 400, "no spaces"},
		{"POST", "/v1/things", `{"nam":"x"}`, 400, "nam: unknown member"},
		{"POST", "/v1/things", `{"name":"x"} {"name":"y"}`, 400, "no more"},
		{"POST", "/v1/things", `{"name":"x","endpoint":"nowhere"}`, 400, "endpoint"},
		{"POST", "/v1/things", `{"name":"x","sensor":"nose"}`, 400, "want one of none, host, bme280, sim"},
		{"POST", "/v1/things", `{"name":"` + strings.Repeat("x", maxBody) + `"}`, 413, "too large"},
		{"POST", "/v1/certificates", `{"name":"","status":"ACTIVE"}`, 400, "want 1 to 64 bytes"},
		{"POST", "/v1/certificates", `{"csr":"nonsense","status":"ACTIVE"}`, 400, ""},
		{"PUT", "/v1/certificates", `{"certificate":"x","ca":"y","pinned":true}`, 400, "not both"},
		{"POST", "/v1/certificates/none", `{"status":"ACTIVE"}`, 404, "none"},
		{"POST", "/v1/certificates/" + id.CertificateID, `{"status":"MAYBE"}`, 400, "MAYBE"},
		{"GET", "/v1/policies/none", "", 404, "none"},
		{"PUT", "/v1/policies/x", `{"Version":"2012-10-17"}`, 400, "Statement"},
		{"POST", "/v1/policies/none/targets", `{"certificate":"` + id.CertificateID + `"}`, 404, "none"},
		{"DELETE", "/v1/policies/none/targets/" + id.CertificateID, "", 404, "none"},
		{"POST", "/v1/policies/tidemill-thing/default", `{"version":0}`, 400, "want a version from 1"},
		{"DELETE", "/v1/policies/tidemill-thing/versions/one", "", 400, "want a version from 1"},
		{"GET", "/v1/who-can?action=fly&resource=x", "", 400, "want an action"},
		{"POST", "/v1/streams", `{"name":"$mine","shards":1}`, 400, "StreamName"},
		{"POST", "/v1/streams", `{"name":"x","shards":0}`, 400, "ShardCount"},
		{"POST", "/v1/streams", `{"name":"x","shards":1,"retention_ns":-1}`, 400, "retention"},
		{"POST", "/v1/streams", `{"name":"readings","shards":3}`, 200, ""},
		{"GET", "/v1/streams/records?name=none", "", 404, "none"},
		{"PUT", "/v1/objects?bucket=schemas&key=", "", 400, "key of 0 bytes"},
		{"PUT", "/v1/objects?bucket=S&key=x", "", 400, "bucket"},
		{"PUT", "/v1/objects?bucket=schemas&key=a", "x", 200, ""},
		{"PUT", "/v1/objects?bucket=schemas&key=a/b", "x", 200, ""},
		{"GET", "/v1/watch?filter=a%23", "", 400, `filter \"a#\"`},
		{"GET", "/v1/nothing", "", 404, ""},
		{"DELETE", "/v1/things", "", 405, ""},
	} {
		code, text := a.do(c.method, c.path, c.body)
		if code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s %s: %d %.200s, want %d and %q", c.method, c.path, code, text, c.code, c.says)
		}
		if c.says != "" && json.Unmarshal([]byte(text), new(Error)) != nil {
			t.Errorf("%s %s: another form of an error: %s", c.method, c.path, text)
		}
	}
	if a.log.Len() > 0 {
		t.Errorf("logged: %s", a.log.String())
	}
}

// A thing gets what its device connects with, and is gone with its certificates.
func TestThings(t *testing.T) {
	a := newAPI(t)
	var id Identity
	a.must("POST", "/v1/things", `{"name":"dev","sensor":"sim"}`, &id)
	if id.Endpoint != "bridge.example:8883" || id.Note != "" || id.Key == "" || id.CA == "" ||
		!strings.Contains(id.AgentConfig, `thing = "dev"`) || !strings.Contains(id.AgentConfig, `kind = "sim"`) {
		t.Errorf("%+v", id)
	}
	var things []ThingInfo
	a.must("GET", "/v1/things", "", &things)
	if len(things) != 1 || things[0].Name != "dev" ||
		!slices.Equal(things[0].Certificates, []string{id.CertificateID}) || !things[0].Since.IsZero() {
		t.Errorf("%+v", things)
	}
	var detail CertificateDetail
	a.must("GET", "/v1/certificates/"+id.CertificateID, "", &detail)
	if detail.Status != "ACTIVE" || !slices.Equal(detail.Things, []string{"dev"}) || detail.PEM != id.Certificate ||
		!detail.NotAfter.After(time.Now()) {
		t.Errorf("%+v", detail)
	}
	var gone []CertificateInfo
	a.must("DELETE", "/v1/things/dev?certificates=delete", "", &gone)
	if len(gone) != 1 || gone[0].Status != "DELETED" {
		t.Errorf("%+v", gone)
	}
	if code, text := a.do("GET", "/v1/certificates/"+id.CertificateID, ""); code != 404 {
		t.Errorf("%d %s", code, text)
	}
}

// What the parts of the bridge say is passed on.
func TestPassesOn(t *testing.T) {
	a := newAPI(t)
	for _, c := range []struct{ method, path, want string }{
		{"POST", "/v1/reload", `{"declarations":3}`},
		{"GET", "/v1/refused", `[{"file":"a.json","why":"a is wrong"},{"file":"b.json","why":"b is wrong"}]`},
		{"GET", "/v1/info", `"version":"test"`},
		{"GET", "/v1/connectors", `"file":"a.json"`},
		{"GET", "/v1/clock", `"held":true`},
		{"POST", "/v1/clock/accept", `"held":false`},
	} {
		if code, text := a.do(c.method, c.path, ""); code != 200 || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %s, want %s", c.method, c.path, code, text, c.want)
		}
	}
}

// A bridge is alive when it answers, and ready when nothing says why not.
func TestHealth(t *testing.T) {
	for _, err := range []error{nil, errors.New("the log is away")} {
		h := Health(func() error { return err })
		want := map[string]string{"/healthz": "200 alive", "/readyz": "200 ready"}
		if err != nil {
			want["/readyz"] = "503 the log is away"
		}
		for path, want := range want {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if got := fmt.Sprintf("%d %s", w.Code, strings.TrimSpace(w.Body.String())); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
	}
}
