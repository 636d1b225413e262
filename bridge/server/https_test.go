package server

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// roots trust the bridge's own authority.
func (b *bridge) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b.pki.CA())
	return pool
}

// key is the access key of the bridge's first start.
func (b *bridge) key() sigv4test.Key {
	files, err := b.pki.ReadAccess()
	if err != nil || files.First == "" {
		b.t.Fatal("no access key", err)
	}
	k := files.Keys[files.First]
	return sigv4test.Key{ID: files.First, Secret: k.Secret, Token: k.Token}
}

// aws asks the HTTPS listener, signed with k, by the protocol given.
func (b *bridge) aws(k sigv4test.Key, h2 bool, method, path, body string) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, "https://"+b.https.Addr().String()+path,
		strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Host = req.URL.Host
	sigv4test.Sign(req, []byte(body), k, "eu-local-1", "iot", time.Now())
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.roots(), ServerName: "localhost"},
		ForceAttemptHTTP2: h2}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(raw)
}

// A rule that is made over HTTPS is in force, and there after a restart.
func TestRulesOverHTTPS(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	k := b.key()
	const doc = `{"sql":"SELECT * FROM 'dt/#'","actions":[],"awsIotSqlVersion":"2016-03-23"}`
	for _, c := range []struct {
		h2           bool
		method, path string
		body         string
		status       int
		want         string
	}{
		{true, "POST", "/rules/hot", doc, 200, ""},
		{false, "POST", "/rules/hot", doc, 409, "exists already"},
		{true, "GET", "/rules/hot", "", 200, "arn:aws:iot:eu-local-1:000000000000:rule/hot"},
		{false, "GET", "/rules?topic=dt/x", "", 200, `"ruleName":"hot"`},
		{true, "GET", "/rules/cold", "", 401, "Access to topic rule 'cold' was denied"},
		{true, "POST", "/rules/bad", `{"sql":"SELECT","actions":[]}`, 400, "line 1, column"},
	} {
		resp, body := b.aws(k, c.h2, c.method, c.path, c.body)
		if resp.StatusCode != c.status || !strings.Contains(body, c.want) || (resp.ProtoMajor == 2) != c.h2 {
			t.Errorf("%s %s: %s %s %s", c.method, c.path, resp.Proto, resp.Status, body)
		}
	}
	if n := len(b.rules.Rules()); n != 1 {
		t.Errorf("%d rules in force", n)
	}
	_, text := b.do("GET", "/metrics", "")
	want := `tidemill_aws_requests_total{code="ResourceAlreadyExistsException",operation="CreateTopicRule"} 1`
	if !strings.Contains(text, want) {
		t.Errorf("no %s in\n%s", want, text)
	}
	var info admin.Info
	if b.must("GET", "/v1/info", "", &info); info.HTTPS != b.https.Addr().String() ||
		!strings.Contains(b.log.String(), `"https":"`+info.HTTPS) {
		t.Errorf("%+v", info)
	}
	if err := errors.Join(b.stop(), b.Close()); err != nil {
		t.Fatal(err)
	}
	b = start(t, cfg)
	if resp, body := b.aws(k, true, "GET", "/rules/hot", ""); resp.StatusCode != 200 {
		t.Errorf("after a restart: %s %s", resp.Status, body)
	}
}

// Access keys are taken from the file again at a reload; a file that is wrong
// leaves those that were.
func TestKeysAreReadAgain(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	old, new := b.key(), sigv4test.Key{ID: "AKIANEW", Secret: "new", Token: "session"}
	status := func(k sigv4test.Key) int {
		resp, _ := b.aws(k, true, "GET", "/rules", "")
		return resp.StatusCode
	}
	write := func(text string) { b.writeKeys(text) }
	write("[default]\naws_access_key_id=AKIANEW\naws_secret_access_key=new\naws_session_token=session\n")
	if a, b := status(old), status(new); a != 200 || b != 403 {
		t.Errorf("before the reload: %d, %d", a, b)
	}
	b.writeGrants("[[access]]\nkey = \"AKIANEW\"\nall = true\n")
	b.must("POST", "/v1/reload", "", nil)
	if a, b := status(old), status(new); a != 403 || b != 200 {
		t.Errorf("after the reload: %d, %d", a, b)
	}
	write("[default]\naws_access_key_id=AKIANEW\n")
	if code, text := b.do("POST", "/v1/reload", ""); code != 400 || !strings.Contains(text, "access-keys: profile") {
		t.Errorf("%d %s", code, text)
	}
	if a := status(new); a != 200 {
		t.Errorf("after a reload that failed: %d", a)
	}
}

// writeGrants writes the file of what access keys may do.
func (b *bridge) writeGrants(text string) {
	b.t.Helper()
	if err := os.WriteFile(pki.GrantsFile(filepath.Join(b.cfg.DataDir, "pki")), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// writeKeys writes the file of access keys.
func (b *bridge) writeKeys(text string) {
	b.t.Helper()
	if err := os.WriteFile(pki.AccessKeysFile(filepath.Join(b.cfg.DataDir, "pki")), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// changeKeys makes those of text the access keys.
func (b *bridge) changeKeys(text string) {
	b.t.Helper()
	b.writeKeys(text)
	b.must("POST", "/v1/reload", "", nil)
}

// Without an address there is no listener, and with one in use no bridge.
func TestNoHTTPS(t *testing.T) {
	cfg := configure(t)
	cfg.HTTPS.Listen = ""
	b := start(t, cfg)
	var info admin.Info
	if b.must("GET", "/v1/info", "", &info); info.HTTPS != "" {
		t.Errorf("%+v", info)
	}
	cfg = configure(t)
	cfg.HTTPS.Listen = b.MQTTAddr().String()
	if err := idle(t, cfg).Listen(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "https.listen: ") {
		t.Error(err)
	}
}

// After a request in chunks, which may have had a length as well, the connection
// ends (RFC 9112, 6.1), and chunks that are none are the client's fault.
func TestChunks(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("dev", all("", ""))
	watcher := b.connect(b.thing("watcher", all("", "")), "watcher")
	if got := watcher.subscribe("torn"); got != 1 {
		t.Fatalf("%#x", got)
	}
	for name, c := range map[string]struct {
		head, body string
		status     int
		ends       bool
	}{
		"a length":            {"Content-Length: 2", "{}", 200, false},
		"chunks":              {"Transfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n", 200, true},
		"both":                {"Content-Length: 3\r\nTransfer-Encoding: chunked", "2\r\n{}\r\n0\r\n\r\n", 200, true},
		"both, in this order": {"Transfer-Encoding: chunked\r\nContent-Length: 3", "2\r\n{}\r\n0\r\n\r\n", 200, true},
		"a chunk of no size":  {"Transfer-Encoding: chunked", "zz\r\n{}\r\n0\r\n\r\n", 400, true},
		"a chunk too long":    {"Transfer-Encoding: chunked", "1\r\n{}\r\n0\r\n\r\n", 400, true},
		"a size too large":    {"Transfer-Encoding: chunked", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n", 400, true},
	} {
		conf := id.tls(t)
		conf.NextProtos = []string{"http/1.1"}
		nc, err := tls.Dial("tcp", b.https.Addr().String(), conf)
		if err != nil {
			t.Fatal(err)
		}
		if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(nc, "POST /topics/a?qos=1 HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n%s", c.head, c.body)
		in := bufio.NewReader(nc)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != c.status || resp.Close != c.ends {
			t.Errorf("%s: %s %s, closes %v, %v", name, resp.Status, text, resp.Close, err)
		}
		if c.ends {
			if _, err := in.ReadByte(); err != io.EOF {
				t.Errorf("%s: the connection goes on: %v", name, err)
			}
		}
		nc.Close()
	}
	// Chunks that stop are no message.
	for _, body := range []string{"5\r\nab", "2\r\nab\r\n", "2\r\nab", "2\r\nab\r\n0\r\n"} {
		conf := id.tls(t)
		conf.NextProtos = []string{"http/1.1"}
		nc, err := tls.Dial("tcp", b.https.Addr().String(), conf)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(nc, "POST /topics/torn?qos=1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%s",
			body)
		if err := errors.Join(nc.CloseWrite(), nc.SetDeadline(time.Now().Add(patience))); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(nc) // none, or that it is bad
		if len(answer) > 0 && !strings.Contains(string(answer), " 400 ") {
			t.Errorf("%q: %s %v", body, answer, err)
		}
		nc.Close()
	}
	watcher.publish("torn", "whole")
	if got := watcher.next(); got != "torn whole" {
		t.Errorf("a torn message was published: %s", got)
	}
}
