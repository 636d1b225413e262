package server

import (
	"crypto/tls"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// A device with what thing create gave it trusts the certificate of mqtt.cert, and
// a reload serves a new one or says what is wrong.
func TestOwnCertificate(t *testing.T) {
	cfg := configure(t)
	dir := t.TempDir()
	cfg.MQTT.Cert, cfg.MQTT.Key = filepath.Join(dir, "own.pem"), filepath.Join(dir, "own-key.pem")
	served := func() { // by another CA each time
		other := filepath.Join(t.TempDir(), "pki")
		if _, err := pki.Open(other, pki.Options{}); err != nil {
			t.Fatal(err)
		}
		for from, to := range map[string]string{"server.pem": cfg.MQTT.Cert, "server-key.pem": cfg.MQTT.Key} {
			text, err := os.ReadFile(filepath.Join(other, from))
			if err == nil {
				err = os.WriteFile(to, text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	served()
	b := start(t, cfg)
	trusts := func(conf *tls.Config, want bool) {
		t.Helper()
		if code, _, err := b.knock(conf, "dev"); (err == nil && code == 0) != want {
			t.Errorf("code %d, %v; want it in: %v", code, err, want)
		}
	}
	conf := b.thing("dev", "").tls(t)
	trusts(conf, true)
	served()
	b.must("POST", "/v1/reload", "", nil)
	trusts(conf, false) // another CA
	chain, err := os.ReadFile(cfg.MQTT.Cert)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := pem.Decode(chain)
	if err := os.WriteFile(cfg.MQTT.Cert, pem.EncodeToMemory(leaf), 0o600); err != nil {
		t.Fatal(err)
	}
	b.must("POST", "/v1/reload", "", nil)
	var id admin.Identity
	b.must("POST", "/v1/things", `{"name":"other","endpoint":"localhost:8883"}`, &id)
	if !strings.Contains(id.Note, "at the end of "+cfg.MQTT.Cert) {
		t.Errorf("note %q", id.Note)
	}
	if err := os.WriteFile(cfg.MQTT.Key, []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, text := b.do("POST", "/v1/reload", ""); code != 400 || !strings.Contains(text, "mqtt.cert: ") {
		t.Errorf("reload of a torn key: %d %s", code, text)
	}
}
