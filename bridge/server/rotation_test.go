package server

import (
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// Devices of before and after a rotation of the CA connect while it is under way.
// Its end waits for those of before, or takes them their right.
func TestCARotation(t *testing.T) {
	b := start(t, configure(t))
	connects := func(id identity, name string, want bool) {
		t.Helper()
		if code, _, err := b.knock(id.tls(t), name); (err == nil && code == 0) != want {
			t.Errorf("%s: code %d, %v; want it in: %v", name, code, err, want)
		}
	}
	before := b.thing("before", "")
	b.must("POST", "/v1/own-cas/rotate", "", nil)
	after := b.thing("after", "")
	connects(before, "before", true)
	connects(after, "after", true)
	var all []admin.OwnCA
	b.must("GET", "/v1/own-cas", "", &all)
	if len(all) != 2 || all[0].Previous || !all[1].Previous || all[1].Active != 1 {
		t.Errorf("%+v", all)
	}
	if code, text := b.do("POST", "/v1/own-cas/retire", ""); code != 409 ||
		!strings.Contains(text, "1 active certificates are of the CA") {
		t.Errorf("%d %s", code, text)
	}
	if code, text := b.do("POST", "/v1/own-cas/rotate", ""); code != 409 || !strings.Contains(text, "retire") {
		t.Errorf("%d %s", code, text)
	}
	connects(before, "before", true)
	b.must("POST", "/v1/own-cas/retire?force=true", "", nil)
	before.CA = after.CA // it was told of the new CA, and its certificate is of the old one
	connects(before, "before", false)
	connects(after, "after", true)
	b.must("GET", "/v1/own-cas", "", &all)
	if len(all) != 1 {
		t.Errorf("%+v", all)
	}
}

// Metrics and the command's answer say what ends when.
func TestExpiries(t *testing.T) {
	cfg := configure(t)
	cfg.PKI.DeviceLifetime = config.Duration(48 * time.Hour)
	b := start(t, cfg)
	id := b.thing("dev", "")
	var all []admin.Expiry
	b.must("GET", "/v1/expiries", "", &all)
	left := map[string]int{}
	for _, e := range all {
		left[e.Of] = int(time.Until(e.NotAfter).Hours()) / 24
		if e.Of == "device" && e.ID != id.CertificateID {
			t.Errorf("%+v", e)
		}
	}
	if left["mqtt"] != 824 || left["https"] != 824 || left["ca"] < 10000 || left["device"] != 1 {
		t.Errorf("days left: %v", left)
	}
	_, text := b.do("GET", "/metrics", "")
	for _, want := range []string{`tidemill_certificate_expires_in_seconds{of="device"} 1727`,
		`expires_in_seconds{of="ca"} 9.4`,
		"tidemill_device_certificates_expired 0"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}
