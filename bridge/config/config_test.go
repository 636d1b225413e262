package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func none(string) string { return "" }

func load(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bridge.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(path, none, nil)
}

func TestSampleSaysTheDefaults(t *testing.T) {
	got, err := load(t, Sample)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Load("", none, nil)
	if err != nil {
		t.Fatal(err)
	}
	want.MQTT.ServerNames = []string{}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("sample  %+v\ndefault %+v", got, want)
	}
}

func TestEveryErrorByKey(t *testing.T) {
	_, err := load(t, `
data_dir = ""
account = "1"
region = "Mars!"
colour = "red"
[mqtt]
listen = "8883"
connect_timeout = "0s"
max_payload = 5
max_inflight = 0
max_queue = 1
max_connections = -1
tls = false
[admin]
listen = "x"
[ingest]
shards = 0
retention = "1s"
max_bytes = 4096
[log]
level = "loud"
format = "xml"
`)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, key := range []string{"data_dir", "account", "region", "colour: unknown key", "mqtt.tls: unknown key", "mqtt.listen",
		"mqtt.connect_timeout", "mqtt.max_payload", "mqtt.max_inflight", "mqtt.max_queue", "mqtt.max_connections", "admin.listen",
		"ingest.shards", "ingest.retention", "ingest.max_bytes: 4096, want at least 64 MiB", "log.level", "log.format"} {
		if !strings.Contains(err.Error(), key) {
			t.Errorf("no word of %s in:\n%v", key, err)
		}
	}
	for _, text := range []string{"data_dir = 7", "[ingest]\nretention = 5", "[ingest]\nretention = \"-1h\"",
		"[mqtt]\nmax_queue = \"4 MB\"", "[mqtt]\nmax_queue = -1", "data_dir = "} {
		if _, err := load(t, text); err == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

func TestOrderOfSources(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bridge.toml")
	text := "data_dir = \"file\"\n[mqtt]\nlisten = \":1\"\nmax_queue = \"1 GiB\"\n[ingest]\nretention = \"90m\"\n[log]\nlevel = \"warn\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"TIDEMILL_BRIDGE_DATA_DIR": "env", "TIDEMILL_BRIDGE_MQTT_LISTEN": ":2"}
	c, err := Load(path, func(k string) string { return env[k] }, map[string]string{"data_dir": "flag"})
	if err != nil {
		t.Fatal(err)
	}
	if c.DataDir != "flag" || c.MQTT.Listen != ":2" || c.Log.Level != "warn" || c.MQTT.MaxQueue != 1<<30 ||
		time.Duration(c.Ingest.Retention) != 90*time.Minute || c.Admin.Socket != filepath.Join("flag", "admin.sock") {
		t.Errorf("%+v", c)
	}
}
