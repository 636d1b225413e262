package server

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/notice"
)

// About a service that is away there is a line when that begins, one a minute with
// the count of refusals, and one when it answers again.
func TestServiceIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		w := &webhooks{new(notice.Log), slog.New(slog.NewTextHandler(&text, nil))}
		report := w.report("authorizer")
		for range 1000 { // 100 s
			report("doors", http.ErrServerClosed)
			time.Sleep(100 * time.Millisecond)
		}
		report("doors", nil)
		report = w.report("hook")
		report("doors", http.ErrServerClosed)
		for range 3 {
			time.Sleep(time.Minute)
			w.notices.Flush()
		}
		var got []string
		for line := range strings.Lines(text.String()) {
			_, line, _ = strings.Cut(line, "msg=")
			got = append(got, strings.TrimSpace(line))
		}
		const fails = `"it fails or is away: who needs its word is refused" authorizer=doors err="http: Server closed" count=`
		if len(got) != 4 || got[0] != fails+"1" || got[1] != fails+"600" || !strings.Contains(got[2], " hook=doors ") ||
			!strings.HasPrefix(got[3], `"it answers again" authorizer=doors since=`) ||
			!strings.HasSuffix(got[3], " count=399") {
			t.Errorf("%s", strings.Join(got, "\n"))
		}
	})
}

// A thousand clients and devices that are refused while the services are away
// leave few lines, whatever way they came, and are counted.
func TestRefusalsWhileServicesAreAway(t *testing.T) {
	var well atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !well.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, `{"isAuthenticated":true,"principalId":"guest","policyDocuments":[%s]}`, all("", ""))
	}))
	t.Cleanup(web.Close)
	const function = "arn:aws:lambda:eu-local-1:000000000000:function:vet"
	cfg := configure(t)
	cfg.Authorizers = []config.Authorizer{{Name: "doors", URL: web.URL, SigningDisabled: true, Default: true}}
	cfg.Hooks = []config.Hook{{ARN: function, URL: web.URL}}
	b := start(t, cfg)
	err := b.registry.Update(func(tx *registry.Tx) error {
		_, err := tx.CreateTemplate(registry.Template{Name: "fleet", Enabled: true,
			Hook: &registry.Hook{Target: function}},
			[]byte(`{"Resources":{"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}}},
				"Parameters":{"AWS::IoT::Certificate::Id":{"Type":"String"}}}`))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := b.Server.provision.CreateCertificate(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	connect := func() error {
		_, err := b.authorizer.Connect(t.Context(), &gateway.Connect{ClientID: "x", Password: []byte("p")})
		return err
	}
	const n = 500
	for i := range n {
		err := connect()
		if err == nil {
			t.Fatal("let in")
		}
		b.refusals.Denied(&net.TCPAddr{IP: net.IPv4(10, 0, byte(i/250), byte(i%250)), Port: 1}, "x", err)
		_, answer := b.Server.provision.Handle(t.Context(),
			&provision.Request{Topic: "$aws/provisioning-templates/fleet/provision/json",
				Payload: []byte(`{"certificateOwnershipToken":"` + made.Token + `"}`)})
		if !strings.Contains(string(answer), "ServiceUnavailable") {
			t.Fatalf("%s", answer)
		}
	}
	dev := b.over("ssl://"+b.MQTTAddr().String(), nil,
		&tls.Config{RootCAs: b.roots(), ServerName: "localhost", NextProtos: []string{"mqtt"}}, "y", as("me", "x"))
	if err := dev.wait(dev.Connect()); err == nil {
		t.Error("let in")
	}
	_, metrics := b.do("GET", "/metrics", "")
	for _, want := range []string{`tidemill_authorizer_answers_total{authorizer="doors",outcome="failed"} 501`,
		`tidemill_hook_calls_total{hook="` + function + `",outcome="failed"} 500`} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	well.Store(true)
	if err := connect(); err != nil {
		t.Error(err)
	}
	b.notices.Close()
	lines := slices.DeleteFunc(strings.Split(b.log.String(), "\n"), func(l string) bool {
		return !strings.Contains(l, "503") && !strings.Contains(l, "answers again") &&
			!strings.Contains(l, "client refused")
	})
	if len(lines) < 4 || len(lines) > 20 { // one of each a minute, and the machine may be slow
		t.Errorf("%d lines:\n%.5000s", len(lines), strings.Join(lines, "\n"))
	}
	if text := strings.Join(lines, "\n"); !strings.Contains(text, `"it answers again","authorizer":"doors"`) ||
		!strings.Contains(text, `"hook":"`+function) ||
		strings.Contains(text, "client refused") {
		t.Errorf("%.5000s", text)
	}
}
