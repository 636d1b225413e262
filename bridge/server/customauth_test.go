package server

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/customauth/customauthtest"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// newService is a custom authorizer that knows one password and one token.
func newService(t *testing.T) *customauthtest.Service {
	return customauthtest.New(t, customauthtest.Answer{Principal: "guest1", Policy: all("iot:Publish", "topic/secret")})
}

// as sets user name and password.
func as(user, password string) func(*mqtt.ClientOptions) {
	return func(o *mqtt.ClientOptions) { o.SetUsername(user).SetPassword(password) }
}

// A client without certificate and signature is let in by a custom authorizer on
// every way there is, with the rights that this one says, and not without its
// word.
func TestCustomAuthorizer(t *testing.T) {
	d := newService(t)
	cfg := configure(t)
	cfg.Authorizers = []config.Authorizer{
		{Name: "doors", URL: d.URL, TokenKey: "x-token", SigningDisabled: true, Default: true},
		{Name: "off", URL: d.URL, SigningDisabled: true, Status: "INACTIVE"},
		{Name: "cached", URL: d.URL, TokenKey: "x-token", SigningDisabled: true, Cache: true}}
	b := start(t, cfg)
	id := b.thing("pump-1", "")
	listener := b.connect(b.thing("ears", all("", "")), "ears")
	if got := listener.subscribe("#"); got != 1 {
		t.Fatalf("%#x", got)
	}
	addr := b.https.Addr().String()
	tlsFor := func(names ...string) *tls.Config {
		return &tls.Config{RootCAs: b.roots(), ServerName: "localhost", NextProtos: names}
	}
	connect := func(url string, h http.Header, conf *tls.Config, user, password string) *device {
		return b.over(url, h, conf, "visitor", as(user, password))
	}
	for i, c := range []struct {
		url  string
		h    http.Header
		conf *tls.Config
		user string
	}{
		{"ssl://" + b.MQTTAddr().String(), nil, tlsFor("mqtt"), "me"},
		{"ssl://" + addr, nil, tlsFor("mqtt"), "me?x-amz-customauthorizer-name=doors"},
		{"wss://" + addr + "/mqtt", nil, tlsFor(), "me"},
		{"wss://" + addr + "/mqtt", http.Header{"X-Amz-Customauthorizer-Name": {"doors"}}, tlsFor("http/1.1"), "me"},
	} {
		dev := connect(c.url, c.h, c.conf, c.user, "open sesame")
		dev.ok(dev.Connect())
		dev.publish("open", fmt.Sprint(i))
		if got := listener.next(); got != fmt.Sprint("open ", i) {
			t.Errorf("%d: %q", i, got)
		}
		if err := dev.wait(dev.Publish("secret", 1, false, "x")); err == nil {
			t.Errorf("%d: published what the authorizer denies", i)
		}
		dev.ends()
		wrong := connect(c.url, c.h, c.conf, c.user, "wrong")
		if err := wrong.wait(wrong.Connect()); err == nil {
			t.Errorf("%d: connected with a wrong password", i)
		}
	}
	n := d.Calls()
	for i, c := range []struct {
		url  string
		h    http.Header
		conf *tls.Config
		user string
	}{
		{"ssl://" + b.MQTTAddr().String(), nil, tlsFor(), "me"},                 // no certificate, and another protocol
		{"ssl://" + b.MQTTAddr().String(), nil, tlsFor("x-amzn-mqtt-ca"), "me"}, // likewise
		{"ssl://" + addr, nil, tlsFor("mqtt"), "me?x-amz-customauthorizer-name=nobody"},
		{"ssl://" + addr, nil, tlsFor("mqtt"), "me?x-amz-customauthorizer-name=off"},
		{"wss://" + addr + "/mqtt", http.Header{"X-Amz-Customauthorizer-Name": {"off"}}, tlsFor(), "me"},
	} {
		dev := connect(c.url, c.h, c.conf, c.user, "open sesame")
		if err := dev.wait(dev.Connect()); err == nil {
			t.Errorf("%d: connected", i)
		}
	}
	if got := d.Calls(); got != n {
		t.Errorf("asked %d times about who cannot be let in", got-n)
	}
	certified := b.over("wss://"+addr+"/mqtt", nil, id.tls(t), "pump-1", as("ignored", "wrong"))
	certified.ok(certified.Connect())
	if got := d.Calls(); got != n {
		t.Error("asked about who has a certificate")
	}

	_, metrics := b.do("GET", "/metrics", "")
	for _, want := range []string{`tidemill_https_mqtt_connections{by="websocket"} 1`,
		`tidemill_websockets_refused_total{status="403"} 1`,
		`tidemill_authorizer_answers_total{authorizer="doors",outcome="allowed"} 4`,
		`tidemill_authorizer_answers_total{authorizer="doors",outcome="refused"} 4`} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	r := b.requester("", nil)
	for _, c := range []struct {
		path    string
		headers []string
		want    int
		asked   int
	}{
		{"/topics/open?qos=1", []string{"x-token", "sesame"}, 200, 1},
		{"/topics/open?qos=1&x-token=sesame", nil, 200, 1},
		{"/topics/secret", []string{"x-token", "sesame"}, 403, 1},
		{"/topics/open", []string{"x-token", "wrong"}, 403, 1},
		{"/topics/open", nil, 403, 1},
		{"/topics/open", []string{"x-token", "sesame", "x-amz-customauthorizer-name", "nobody"}, 403, 0},
		{"/topics/open", []string{"x-token", "sesame", "x-amz-customauthorizer-name", "cached"}, 200, 1},
		{"/topics/other", []string{"x-token", "sesame", "x-amz-customauthorizer-name", "cached"}, 200, 0},
		{"/topics/secret", []string{"x-token", "sesame", "x-amz-customauthorizer-name", "cached"}, 403, 0},
		{"/topics/other", []string{"x-token", "wrong", "x-amz-customauthorizer-name", "cached"}, 403, 1},
	} {
		before := d.Calls()
		if got, code, text := r.do("POST", c.path, "x", c.headers...); got != c.want || d.Calls()-before != c.asked {
			t.Errorf("%s %v: %d %s %s, asked %d times", c.path, c.headers, got, code, text, d.Calls()-before)
		}
	}
}

// Without authorizers, who shows nothing has no way in.
func TestNoAuthorizer(t *testing.T) {
	b := start(t, configure(t))
	addr := b.https.Addr().String()
	conf := &tls.Config{RootCAs: b.roots(), ServerName: "localhost", NextProtos: []string{"mqtt"}}
	for _, at := range []string{b.MQTTAddr().String(), addr} {
		dev := b.over("ssl://"+at, nil, conf, "x", as("me", "open sesame"))
		if err := dev.wait(dev.Connect()); err == nil {
			t.Errorf("%s: connected", at)
		}
	}
	if c, status := b.wss("wss://"+addr+"/mqtt", http.Header{"X-Amz-Customauthorizer-Name": {"x"}}, nil,
		"mqtt"); c != nil || status != 403 {
		t.Errorf("%d", status)
	}
}

// A key that is held to policies has what they allow, and nothing beside MQTT
// and the data plane.
func TestKeyWithPolicies(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	// before the grant of all in the data directory
	cfg.Access = []config.Access{{Key: b.key().ID, Policies: []string{"narrow"}}}
	b.must("POST", "/v1/reload", "", nil)
	// The policy is not there yet: nothing is allowed.
	r, rules := b.requester("iotdata", nil), b.requester("iot", nil)
	want := func(r *requester, path string, status int) {
		t.Helper()
		if got, code, text := r.do(map[bool]string{true: "GET", false: "POST"}[path == "/rules"], path,
			"x"); got != status {
			t.Errorf("%s: %d %s %s, want %d", path, got, code, text, status)
		}
	}
	want(r, "/topics/open", 403)
	const arn = "arn:aws:iot:eu-local-1:000000000000:"
	b.must("PUT", "/v1/policies/narrow", `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"`+arn+`client/app-*"},
		{"Effect":"Allow","Action":"iot:Publish","Resource":"`+arn+`topic/open"}]}`, nil)
	want(r, "/topics/open", 200)
	want(r, "/topics/open?retain=true", 403)
	want(r, "/topics/secret", 403)
	want(rules, "/rules", 403)
	if resp, text, err := b.ask(speaking(true, false, false), "https", "ListStreams", "{}"); err != nil ||
		resp.StatusCode == 200 || !strings.Contains(text, "AccessDenied") {
		t.Errorf("data streams: %v %s", err, text)
	}
	dial := func(clientID string) *device {
		url, h := b.signed(sigv4test.Python1, time.Now())
		return b.over(url, h, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}, clientID)
	}
	other := dial("other")
	if err := other.wait(other.Connect()); err == nil {
		t.Error("connected with another client id")
	}
	app := dial("app-1")
	app.ok(app.Connect())
	app.publish("open", "x")
	if got := app.subscribe("open"); got != 0x80 {
		t.Errorf("%#x", got)
	}
	b.must("PUT", "/v1/policies/narrow", all("iot:Connect", "client/*"), nil)
	app.ends()
}

// An authorizer that is made through the API is asked from then on, until it is
// deactivated; its function must be one of the configuration's hooks.
func TestAuthorizerOverREST(t *testing.T) {
	d := newService(t)
	cfg := configure(t)
	const function = "arn:aws:lambda:eu-local-1:000000000000:function:doors"
	cfg.Hooks = []config.Hook{{ARN: function, URL: d.URL}}
	b := start(t, cfg)
	connect := func() error {
		d := b.over("ssl://"+b.MQTTAddr().String(), nil, &tls.Config{RootCAs: b.roots(), ServerName: "localhost",
			NextProtos: []string{"mqtt"}}, "visitor", as("me?x-amz-customauthorizer-name=doors", "open sesame"))
		tok := d.Connect()
		return d.wait(tok)
	}
	if err := connect(); err == nil {
		t.Error("in without an authorizer")
	}
	b.control("POST", "/authorizer/doors", `{"authorizerFunctionArn":"arn:of:none","signingDisabled":true}`, 400)
	b.control("POST", "/authorizer/doors", `{"authorizerFunctionArn":"`+function+`"}`, 400) // no keys
	b.control("POST", "/authorizer/doors", `{"authorizerFunctionArn":"`+function+
		`","tokenKeyName":"x-token","tokenSigningPublicKeys":{"a":"no key"}}`, 400)
	b.control("POST", "/authorizer/doors", `{"authorizerFunctionArn":"`+function+
		`","tokenKeyName":"x-token","signingDisabled":true}`, 200)
	b.control("POST", "/authorizer/doors", `{"authorizerFunctionArn":"`+function+`","signingDisabled":true}`, 409)
	if err := connect(); err == nil {
		t.Error("in by an authorizer that is not active")
	}
	if text := b.control("POST", "/authorizer/doors/test", `{"token":"sesame"}`, 200); !strings.Contains(text,
		`"isAuthenticated":true,"principalId":"guest1"`) {
		t.Error(text)
	}
	if text := b.control("POST", "/authorizer/doors/test",
		`{"mqttContext":{"username":"me","password":"bm8=","clientId":"c"}}`, 200); !strings.Contains(text,
		`"isAuthenticated":false`) {
		t.Error(text)
	}
	b.control("PUT", "/authorizer/doors", `{"status":"ACTIVE","enableCachingForHttp":true}`, 200)
	if err := connect(); err != nil {
		t.Error(err)
	}
	if text := b.control("GET", "/authorizer/doors", "", 200); !strings.Contains(text, `"status":"ACTIVE"`) ||
		!strings.Contains(text, `"enableCachingForHttp":true`) {
		t.Error(text)
	}
	b.control("POST", "/default-authorizer", `{"authorizerName":"doors"}`, 200)
	b.control("GET", "/default-authorizer", "", 200)
	if text := b.control("GET", "/authorizers/?status=ACTIVE", "", 200); !strings.Contains(text,
		`"authorizerName":"doors"`) {
		t.Error(text)
	}
	b.control("DELETE", "/authorizer/doors", "", 409)
	b.control("DELETE", "/default-authorizer", "", 200)
	b.control("PUT", "/authorizer/doors", `{"status":"INACTIVE"}`, 200)
	if err := connect(); err == nil {
		t.Error("in by an authorizer that was deactivated")
	}
	b.control("DELETE", "/authorizer/doors", "", 200)
	b.control("GET", "/authorizer/doors", "", 404)
}

// Where the configuration has a default authorizer the API sets none, which
// would not be asked.
func TestDefaultOfConfiguration(t *testing.T) {
	d := newService(t)
	cfg := configure(t)
	const function = "arn:aws:lambda:eu-local-1:000000000000:function:doors"
	cfg.Hooks = []config.Hook{{ARN: function, URL: d.URL}}
	cfg.Authorizers = []config.Authorizer{{Name: "fixed", URL: d.URL, Default: true, Status: "ACTIVE"}}
	b := start(t, cfg)
	b.control("POST", "/authorizer/doors", `{"authorizerFunctionArn":"`+function+
		`","signingDisabled":true,"status":"ACTIVE"}`, 200)
	b.control("POST", "/default-authorizer", `{"authorizerName":"none"}`, 404)
	b.control("POST", "/default-authorizer", `{"authorizerName":"doors"}`, 409)
	b.control("GET", "/default-authorizer", "", 404)
}
