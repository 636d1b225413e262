package server

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/rules"
)

const secretRole = "'arn:aws:iam::000000000000:role/any'"

// A rule's http action has a secret in a header, and its statement in the document. A
// secret that changes holds for the next message. What explains a rule, lists it, logs
// its failures or reports them to its error action has no secret.
func TestSecrets(t *testing.T) {
	posted := make(chan string, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posted <- r.Header.Get("X-Key") + " " + string(body)
		http.Error(w, "not for "+r.Header.Get("X-Key"), http.StatusForbidden)
	}))
	defer srv.Close()
	cfg := configure(t)
	cfg.Egress.Allow = []string{srv.Listener.Addr().String()}
	const call = "get_secret('line/api', 'SecretString', 'key', " + secretRole + ")"
	declareFiles(t, cfg, map[string]string{
		"streams/a.json": `{"StreamName":"failures"}`,
		"rules/out.json": `{"sql":"SELECT n, ` + call + ` AS k FROM 'dt/#'","awsIotSqlVersion":"2016-03-23","actions":[
		  {"http":{"url":"` + srv.URL + `/in","headers":[{"key":"X-Key","value":"${` + call + `}"}]}},
		  {"kinesis":{"streamName":"${` + call + `}","partitionKey":"k"}}],
		  "errorAction":{"kinesis":{"streamName":"failures","partitionKey":"k"}}}`,
	})
	b := start(t, cfg)
	path := filepath.Join(cfg.DataDir, "secrets", "line%2Fapi")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	d := b.connect(b.thing("dev", ""), "dev")
	secrets := []string{"hunter-two", "hunter-three"}
	for n, secret := range secrets {
		write(`{"key":"` + secret + `"}`)
		d.publish("dt/dev/x", `{"n":1}`)
		select {
		case got := <-posted:
			if got != secret+` {"n":1,"k":"`+secret+`"}` {
				t.Errorf("posted %q", got)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("nothing was posted")
		}
		b.eventually("the failures are reported", func() bool { return len(b.documents("failures")) == 2*(n+1) })
	}

	shown := map[string]string{"the log": b.log.String(), "error documents": strings.Join(b.documents("failures"), "\n")}
	var recent []rules.Recent
	b.must("GET", "/v1/rules/out/recent", "", &recent)
	for _, r := range recent {
		_, shown["why "+r.ID] = b.do("GET", "/v1/rules/out/why?message="+r.ID, "")
	}
	text, err := json.Marshal(recent)
	if err != nil {
		t.Fatal(err)
	}
	shown["recent"] = string(text)
	_, shown["test"] = b.do("POST", "/v1/rules/out/why", `{"topic":"dt/other/x","payload":"e30="}`)
	_, shown["replay"] = b.do("POST", "/v1/replays", replayRequest("SELECT "+call+" AS was FROM 'dt/#'", `,"against":"out"`))
	_, shown["outboxes"] = b.do("GET", "/v1/outboxes", "")
	viewer := b.user("vera", "viewer")
	iot := b.requester("iot", nil)
	status, _, rule := iot.as(viewer, "GET", "/rules/out", "")
	if shown["rule"] = rule; status != 200 || !strings.Contains(rule, "get_secret") {
		t.Errorf("a viewer gets %d %s", status, rule)
	}
	for _, part := range []string{"why " + recent[0].ID, "test", "replay", "error documents", "the log"} {
		if !strings.Contains(shown[part], "[redacted]") {
			t.Errorf("%s has nothing redacted: %s", part, shown[part])
		}
	}
	for part, text := range shown {
		for _, secret := range secrets {
			if strings.Contains(text, secret) || text == "" {
				t.Errorf("%s shows %s: %.3000s", part, secret, text)
			}
		}
	}

	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	d.publish("dt/dev/x", `{"n":2}`)
	b.eventually("what others could read is not used", func() bool {
		return strings.Contains(b.log.String(), "others can get at what is private")
	})
}
