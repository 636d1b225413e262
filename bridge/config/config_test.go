package config

import (
	"fmt"
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
max_topic = 65536
max_slashes = 256
max_filters = -1
max_subscriptions = 100001
max_unreleased = 65536
tls = false
[https]
listen = "y"
plaintext = "yes"
permissive = true
max_connections = 0
max_memory = "1 MiB"
[kinesis]
delay = "2h"
max_shards = -1
[admin]
listen = "x"
[ingest]
shards = 0
retention = "1s"
max_bytes = 4096
[rules]
max_backlog = 1
give_up = "1ms"
[log]
level = "loud"
format = "xml"
`)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, key := range []string{"data_dir", "account", "region", "colour: unknown key", "mqtt.tls: unknown key",
		"mqtt.listen",
		"mqtt.connect_timeout", "mqtt.max_payload", "mqtt.max_inflight", "mqtt.max_queue", "mqtt.max_connections",
		"mqtt.max_topic", "mqtt.max_slashes", "mqtt.max_filters", "mqtt.max_subscriptions", "mqtt.max_unreleased",
		"https.listen", "https.plaintext", "https.permissive", "https.max_connections", "https.max_memory",
		"kinesis.delay", "kinesis.max_shards", "admin.listen",
		"ingest.shards", "ingest.retention", "ingest.max_bytes: 4096, want at least 64 MiB", "rules.max_backlog", "rules.give_up",
		"log.level", "log.format"} {
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

// Wrong types are reported with all else, not the first alone.
func TestTypeErrorsAllAtOnce(t *testing.T) {
	_, err := load(t, `
data_dir = 7
ingest = 5
Region = "x"
[mqtt]
listen = [":1"]
server_names = ["ok.example.org", 3]
connect_timeout = 5
max_queue = "4 MB"
max_inflight = "many"
[log]
level = "loud"
`)
	if err == nil {
		t.Fatal("accepted")
	}
	t.Log(err)
	for _, want := range []string{"data_dir: is of type integer, want string", "ingest: want a table",
		"Region: unknown key",
		"mqtt.listen: ", "mqtt.server_names: ", "mqtt.connect_timeout: ", "mqtt.max_queue: ", "mqtt.max_inflight: ",
		"log.level: "} {
		if strings.Count(err.Error(), "\n"+want) != 1 {
			t.Errorf("not once at the start of a line: %s", want)
		}
	}
}

// A Unix socket's path has little room, and Go takes one that begins with @ for
// a name without a file.
func TestSocket(t *testing.T) {
	for path, ok := range map[string]bool{"admin.sock": true, "/run/" + strings.Repeat("x", 102): true,
		"/run/" + strings.Repeat("x", 103): false, "@tidemill": false} {
		_, err := load(t, fmt.Sprintf("[admin]\nsocket = %q", path))
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "admin.socket: ") {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := load(t, fmt.Sprintf("data_dir = %q", "/"+strings.Repeat("d", 100))); err == nil ||
		!strings.Contains(err.Error(), "admin.socket: ") {
		t.Errorf("long data directory: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	for text, ok := range map[string]bool{":0": true, ":8883": true, "127.0.0.1:1": true, "[::1]:65535": true,
		"host:80": true,
		"":        false, ":": false, "8883": false, ":65536": false, ":-1": false, "::1:80": false, "host": false,
		":mqtt": false} {
		if _, err := load(t, fmt.Sprintf("[mqtt]\nlisten = %q", text)); (err == nil) != ok {
			t.Errorf("mqtt.listen %q: %v", text, err)
		}
	}
	for name, ok := range map[string]bool{"bridge": true, "a.example.org": true, "*.example.org": true,
		"192.0.2.1": true, "2001:db8::1": true,
		"": false, "a b": false, "a..b": false, "-a": false, "é": false, "https://a": false} {
		if _, err := load(t, fmt.Sprintf("[mqtt]\nserver_names = [%q]", name)); (err == nil) != ok {
			t.Errorf("mqtt.server_names %q: %v", name, err)
		}
	}
}

// A certificate without its key is nothing that could be served.
func TestOwnCertificates(t *testing.T) {
	for _, section := range []string{"mqtt", "https"} {
		for text, ok := range map[string]bool{"cert = \"c\"\nkey = \"k\"": true, "cert = \"c\"": false,
			"key = \"k\"": false} {
			if _, err := load(t, "["+section+"]\n"+text); (err == nil) != ok || err != nil &&
				!strings.Contains(err.Error(), section+".cert: want cert and key") {
				t.Errorf("[%s] %s: %v", section, text, err)
			}
		}
	}
}

// Whatever the text, Load gives a configuration that is sound, or errors.
func FuzzLoad(f *testing.F) {
	f.Add(Sample)
	f.Add("[mqtt]\nmax_queue = \"1 GiB\"\nlisten = 5")
	f.Add("\"\\")
	f.Add("\x10")
	f.Add("mqtt.listen = \":1\"\n[[mqtt]]\n")
	f.Fuzz(func(t *testing.T, text string) {
		c := Default()
		errs, err := decode(text, c)
		if err != nil && (len(errs) > 0 || !reflect.DeepEqual(c, Default())) {
			t.Fatal("something was set or reported beside a syntax error")
		}
		for _, e := range errs {
			if !strings.Contains(e.Error(), ": ") {
				t.Fatalf("no key: %v", e)
			}
		}
	})
}

func TestOrderOfSources(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bridge.toml")
	text := "data_dir = \"file\"\n[mqtt]\nlisten = \":1\"\nmax_queue = \"1 GiB\"\n[ingest]\nretention = \"90m\"\n[log]\nlevel = \"warn\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"TIDEMILL_BRIDGE_DATA_DIR": "env", "TIDEMILL_BRIDGE_MQTT_LISTEN": ":2",
		"TIDEMILL_BRIDGE_HTTPS_LISTEN": ":3"}
	c, err := Load(path, func(k string) string { return env[k] }, map[string]string{"data_dir": "flag"})
	if err != nil {
		t.Fatal(err)
	}
	if c.DataDir != "flag" || c.MQTT.Listen != ":2" || c.HTTPS.Listen != ":3" || c.Log.Level != "warn" ||
		c.MQTT.MaxQueue != 1<<30 ||
		time.Duration(c.Ingest.Retention) != 90*time.Minute || c.Admin.Socket != filepath.Join("flag", "admin.sock") {
		t.Errorf("%+v", c)
	}
}

func TestDataDir(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range []struct {
		name string
		uid  int
		env  map[string]string
		want string
	}{
		{"unit", 990, map[string]string{"STATE_DIRECTORY": "/var/lib/tidemill-bridge",
			"HOME": "/var/lib/tidemill-bridge"}, "/var/lib/tidemill-bridge"},
		{"unit with two", 990, map[string]string{"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a"},
		{"root", 0, map[string]string{"HOME": "/root", "XDG_STATE_HOME": "/root/state"}, "/var/lib/tidemill-bridge"},
		{"user", 1000, map[string]string{"HOME": "/home/u"}, "/home/u/.local/state/tidemill-bridge"},
		{"user's own place", 1000, map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "/s"}, "/s/tidemill-bridge"},
		{"relative place", 1000, map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "s"},
			"/home/u/.local/state/tidemill-bridge"},
		{"nobody", 1000, nil, "tidemill-data"},
	} {
		if got := dataDir(func(k string) string { return c.env[k] }, c.uid); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	// An earlier version's stays where it is: another would have another CA.
	if err := os.Mkdir("tidemill-data", 0o700); err != nil {
		t.Fatal(err)
	}
	if got := dataDir(none, 0); got != "/var/lib/tidemill-bridge" {
		t.Errorf("an empty folder is taken: %s", got)
	}
	if err := os.WriteFile("tidemill-data/registry.db", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := dataDir(none, 0); got != "tidemill-data" {
		t.Errorf("%s, want the earlier one", got)
	}
	if c, err := Load("", none, map[string]string{"data_dir": "/x"}); err != nil || c.DataDir != "/x" ||
		c.Admin.Socket != "/x/admin.sock" {
		t.Errorf("%+v, %v", c, err)
	}
}
