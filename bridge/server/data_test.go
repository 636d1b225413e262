package server

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// A requester asks the data plane, with a certificate or signed for a service.
type requester struct {
	*bridge
	client  *http.Client
	service string // "": not signed
}

func (b *bridge) requester(service string, conf *tls.Config) *requester {
	if conf == nil {
		conf = &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}
	}
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	b.t.Cleanup(tr.CloseIdleConnections)
	return &requester{b, &http.Client{Transport: tr, Timeout: patience}, service}
}

func (r *requester) do(method, path, body string, headers ...string) (status int, code, text string) {
	r.t.Helper()
	return r.as(r.key(), method, path, body, headers...)
}

// as is do with a key of its own.
func (r *requester) as(k sigv4test.Key, method, path, body string, headers ...string) (status int, code, text string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "https://"+r.https.Addr().String()+path,
		strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.Host = req.URL.Host
	if r.service != "" {
		sigv4test.Sign(req, []byte(body), k, "eu-local-1", r.service, time.Now())
	}
	resp, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		var e struct{ Message *string }
		if err := json.Unmarshal(raw, &e); err != nil || e.Message == nil {
			r.t.Errorf("%s %s: an error without message: %s", method, path, raw)
		}
	}
	return resp.StatusCode, resp.Header.Get("x-amzn-errortype"), string(raw)
}

// What is published over HTTPS reaches subscribers and the log, and shadows and
// retained messages are there, for each of the services that requests are signed
// for and for certificates.
func TestDataPlane(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("pump-1", all("", ""))
	d := b.connect(id, "pump-1")
	if got := d.subscribe("#"); got != 1 {
		t.Fatalf("%#x", got)
	}
	if got := d.subscribe("$aws/things/+/shadow/update/delta"); got != 1 {
		t.Fatalf("%#x", got)
	}
	for i, r := range []*requester{b.requester("iotdata", nil), b.requester("iotdevicegateway", nil),
		b.requester("execute-api", nil), b.requester("", id.tls(t))} {
		want := func(status int, part, method, path, body string, headers ...string) {
			t.Helper()
			if got, code, text := r.do(method, path, body, headers...); got != status ||
				!strings.Contains(text+code, part) {
				t.Errorf("%s %q %s %s: %d %s %s", r.service, method, path, body, got, code, text)
			}
		}
		hears := func(want string) {
			t.Helper()
			if got := d.next(); got != want {
				t.Errorf("heard %.60q, want %.60q", got, want)
			}
		}
		want(200, `"message":"OK"`, "POST", "/topics/a%2Fb?qos=1", "hello")
		hears("a/b hello")
		want(200, `"traceId":"`, "POST", "/topics/a/b/c", "as a path")
		hears("a/b/c as a path")
		want(200, "OK", "POST", "/topics/kept%2F1?qos=1&retain=true", "k", "x-amz-mqtt5-user-properties",
			base64.StdEncoding.EncodeToString([]byte(`[{"a":"1"},{"b":"2","a":"3"}]`)))
		hears("kept/1 k")
		want(200, `{"topic":"kept/1","payload":"aw==","qos":1,"lastModifiedTime":1`, "GET", "/retainedMessage/kept%2F1",
			"")
		want(200, base64.StdEncoding.EncodeToString([]byte(`[{"a":"1"},{"b":"2"},{"a":"3"}]`)), "GET",
			"/retainedMessage/kept%2F1", "")
		want(200, `{"topic":"kept/1","payloadSize":1,"qos":1,`, "GET", "/retainedMessage", "")
		want(200, "OK", "POST", "/topics/kept%2F1?retain=true", "")
		hears("kept/1 ")
		want(404, "ResourceNotFoundException", "GET", "/retainedMessage/kept%2F1", "")
		want(200, `{"retainedTopics":[]}`, "GET", "/retainedMessage", "")

		shadow := fmt.Sprint("/things/t", i, "/shadow")
		for _, method := range []string{"GET", "POST", "DELETE"} {
			want(404, `{"message":"Thing not found"`, method, shadow, `{"state":{"desired":{"a":1}}}`)
		}
		want(200, `{"results":[],`, "GET", fmt.Sprint("/api/things/shadow/ListNamedShadowsForThing/t", i), "")
		b.update(func(tx *registry.Tx) error { return tx.CreateThing(registry.Thing{Name: fmt.Sprint("t", i)}) })
		want(404, "No shadow exists with name: 't", "GET", shadow, "")
		want(200, `"version":1`, "POST", shadow, `{"state":{"desired":{"a":1}}}`)
		if got := d.next(); !strings.HasPrefix(got, fmt.Sprint("$aws/things/t", i, "/shadow/update/delta {")) {
			t.Error(got)
		}
		want(200, `"desired":{"a":1}`, "GET", shadow, "")
		want(409, "ConflictException", "POST", shadow, `{"state":{},"version":7}`)
		want(400, "InvalidRequestException", "POST", shadow, `{"state":1}`)
		want(200, `"version":1`, "POST", shadow+"?name=config", `{"state":{"reported":{"a":1}}}`)
		want(200, `{"results":["config"],"timestamp":1`, "GET",
			fmt.Sprint("/api/things/shadow/ListNamedShadowsForThing/t", i), "")
		want(200, `"version":1`, "DELETE", shadow+"?name=config", "")

		want(400, "InvalidRequestException", "POST", "/topics/a%2F%23", "wildcard")
		want(400, "InvalidRequestException", "POST", "/topics/a?qos=2", "")
		want(400, "InvalidRequestException", "POST", "/topics/a?retain=yes", "")
		want(400, "InvalidRequestException", "POST", "/topics/a?qos=0&qos=1", "")
		want(400, "InvalidRequestException", "POST", "/topics/a", "", "x-amz-mqtt5-user-properties", "e30=")
		want(400, "InvalidRequestException", "POST", "/topics/a", "\xff", "x-amz-mqtt5-payload-format-indicator",
			"UTF8_DATA")
		want(403, "ForbiddenException", "POST", "/topics/$aws%2Fevents%2Fx", "")
		want(403, "ForbiddenException", "POST", "/topics/$aws%2Fthings%2Ft%2Fshadow%2Fget?retain=true", "")
		want(413, "RequestEntityTooLargeException", "POST", "/topics/a", strings.Repeat("x", 128<<10+1))
		want(404, "UnknownOperationException", "GET", "/topics/a", "")
		want(200, "OK", "POST", "/topics/a?qos=1&contentType=text%2Fplain&responseTopic=r&messageExpiry=60",
			strings.Repeat("x", 128<<10), "x-amz-mqtt5-correlation-data", "AAE=")
		hears("a " + strings.Repeat("x", 128<<10))
	}
}

// A page of retained messages tells where the next begins.
func TestRetainedPages(t *testing.T) {
	b := start(t, configure(t))
	r := b.requester("iotdata", nil)
	for i := range 5 {
		if status, code, text := r.do("POST", fmt.Sprint("/topics/k%2F", i, "?retain=true"), "x"); status != 200 {
			t.Fatal(status, code, text)
		}
	}
	var got []string
	token := ""
	for range 4 {
		_, _, text := r.do("GET", "/retainedMessage?maxResults=2&nextToken="+token, "")
		var page struct {
			RetainedTopics []struct{ Topic string }
			NextToken      string
		}
		if err := json.Unmarshal([]byte(text), &page); err != nil {
			t.Fatal(err, text)
		}
		for _, m := range page.RetainedTopics {
			got = append(got, m.Topic)
		}
		if token = page.NextToken; token == "" {
			break
		}
	}
	if want := "[k/0 k/1 k/2 k/3 k/4]"; fmt.Sprint(got) != want || token != "" {
		t.Errorf("%v, want %s", got, want)
	}
	for _, q := range []string{"maxResults=0", "maxResults=201", "nextToken=!"} {
		if status, _, text := r.do("GET", "/retainedMessage?"+q, ""); status != 400 {
			t.Errorf("%s: %d %s", q, status, text)
		}
	}
}

// Certificates have the rights of their policies over HTTPS too, at once as they
// change; who is unknown has none.
func TestDataPlanePolicies(t *testing.T) {
	b := start(t, configure(t))
	const arn = "arn:aws:iot:eu-local-1:000000000000:"
	id := b.thing("pump-1", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["iot:Publish","iot:GetRetainedMessage"],"Resource":"`+arn+`topic/open/*"},
		{"Effect":"Allow","Action":"iot:GetThingShadow","Resource":["`+arn+`thing/t1","`+arn+`thing/t2/config"]},
		{"Effect":"Allow","Action":"iot:UpdateThingShadow","Resource":"`+arn+`thing/t1/*"}]}`)
	r := b.requester("", id.tls(t))
	b.update(func(tx *registry.Tx) error {
		return errors.Join(tx.CreateThing(registry.Thing{Name: "t1"}), tx.CreateThing(registry.Thing{Name: "t2"}))
	})
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"POST", "/topics/open%2Fx", 200},
		{"POST", "/topics/open/x", 200},
		{"POST", "/topics/secret", 403},
		{"POST", "/topics/open%2F..%2F..%2Fsecret", 200}, // MQTT knows no such thing: one odd topic
		{"POST", "/topics/open/../secret", 404},
		{"POST", "/topics/open//secret", 404},
		{"POST", "/topics/open%2Fx?retain=true", 403},
		{"GET", "/retainedMessage/open%2Fx", 404},
		{"GET", "/retainedMessage/secret", 403},
		{"GET", "/retainedMessage", 403},
		{"GET", "/things/t1/shadow", 404},
		{"GET", "/things/t1/shadow?name=config", 403},
		{"GET", "/things/t2/shadow", 403},
		{"GET", "/things/t2/shadow?name=config", 404},
		{"GET", "/things/t2%2Fconfig/shadow", 400},
		{"POST", "/things/t1/shadow", 403},
		{"POST", "/things/t1/shadow?name=config", 400}, // allowed, and no document
		{"DELETE", "/things/t1/shadow", 403},
		{"GET", "/api/things/shadow/ListNamedShadowsForThing/t1", 403},
		{"GET", "/rules", 403},     // not of the data plane: wants a signature
		{"GET", "/things/t1", 403}, // likewise
		{"POST", "/topics/$aws%2Fthings%2Ft1%2Fshadow%2Fget", 403},
	} {
		if got, code, text := r.do(c.method, c.path, ""); got != c.want {
			t.Errorf("%s %s: %d %s %s, want %d", c.method, c.path, got, code, text, c.want)
		}
	}
	b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(id.CertificateID, registry.Inactive) })
	if got, code, text := r.do("POST", "/topics/open%2Fx", ""); got != 403 {
		t.Errorf("inactive: %d %s %s", got, code, text)
	}
	b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(id.CertificateID, registry.Active) })
	if got, code, text := r.do("POST", "/topics/open%2Fx", ""); got != 200 {
		t.Errorf("active again: %d %s %s", got, code, text)
	}
	stranger, err := b.pki.Issue("stranger")
	if err != nil {
		t.Fatal(err)
	}
	for name, conf := range map[string]*tls.Config{"no certificate": nil,
		"not registered": identity{admin.Identity{CA: string(b.pki.CA()), Certificate: string(stranger.CertPEM),
			Key: string(stranger.KeyPEM)}}.tls(t)} {
		if got, code, text := b.requester("", conf).do("POST", "/topics/open%2Fx", ""); got != 403 {
			t.Errorf("%s: %d %s %s", name, got, code, text)
		}
	}
	if got, code, text := b.requester("kinesis", nil).do("POST", "/topics/open%2Fx", ""); got == 200 {
		t.Errorf("signed for another service: %d %s %s", got, code, text)
	}
}

// A publish over HTTPS is not answered with OK unless it is on the disk.
func TestDataPlaneIsDurable(t *testing.T) {
	for _, path := range []string{"/topics/a?qos=1", "/topics/a?qos=0", "/topics/a?retain=true"} {
		b := start(t, configure(t))
		r := b.requester("iotdata", nil)
		if status, code, text := r.do("POST", path, "x"); status != 200 {
			t.Fatal(status, code, text)
		}
		b.sick.Store(true)
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+b.https.Addr().String()+path,
			strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = req.URL.Host
		sigv4test.Sign(req, []byte("x"), b.key(), "eu-local-1", "iotdata", time.Now())
		if resp, err := r.client.Do(req); err == nil { // the bridge ends, so the answer may not come through
			resp.Body.Close()
			if resp.StatusCode < 500 {
				t.Errorf("%s: %s without a disk", path, resp.Status)
			}
		}
		if err := b.stop(); err == nil {
			t.Errorf("%s: the disk was not used", path)
		}
	}
}
