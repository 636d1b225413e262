package server

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// joining configures a bridge that joins the broker at url.
func joining(t *testing.T, url string) *config.Config {
	cfg := configure(t)
	cfg.MQTT.Listen = ""
	cfg.Broker = config.Default().Broker
	cfg.Broker.URL = url
	return cfg
}

// write puts text into a new file of the given mode.
func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBrokerFiles(t *testing.T) {
	for want, change := range map[string]func(*config.Broker){
		"broker.password_file: ": func(b *config.Broker) {
			b.Username, b.PasswordFile = "u", write(t, "secret", 0o644)
		},
		"broker.key: ":       func(b *config.Broker) { b.Cert, b.Key = "nowhere", write(t, "x", 0o640) },
		"broker.ca: ":        func(b *config.Broker) { b.CA = write(t, "no certificate", 0o600) },
		"broker.subscribe: ": func(b *config.Broker) { b.Subscribe = []string{"a#"} },
	} {
		cfg := joining(t, "ssl://127.0.0.1:1")
		change(&cfg.Broker)
		if s, err := New(Options{Config: cfg, Version: "test", Log: slog.New(slog.DiscardHandler)}); err == nil ||
			!strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
			if s != nil {
				s.Close()
			}
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is shown: %v", err)
		}
	}
}

// The client id and what the broker may know of us are kept.
func TestBrokerState(t *testing.T) {
	cfg := joining(t, "tcp://127.0.0.1:1")
	read := func() (s brokerState) {
		b := idle(t, cfg)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(cfg.DataDir, "broker.json"))
		if err == nil {
			err = json.Unmarshal(text, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := read()
	cfg.Broker.Shadows, cfg.Broker.Share, cfg.Broker.Connections = false, "other", 3
	second := read()
	if !strings.HasPrefix(first.ID, "tidemill-") || second.ID != first.ID || second.Connections != 3 ||
		!slices.Equal(second.Filters, []string{"$aws/#", "$share/tidemill/#", "$share/other/#"}) {
		t.Errorf("%+v, then %+v", first, second)
	}
}

// A bridge joins another one, which is as good a broker as others.
func TestBrokerIsABridge(t *testing.T) {
	other := start(t, configure(t))
	id := other.thing("member", all("", ""))
	cfg := joining(t, "ssl://"+other.MQTTAddr().String())
	cfg.Broker.CA, cfg.Broker.Cert, cfg.Broker.Key = write(t, id.CA, 0o600), write(t, id.Certificate, 0o600),
		write(t, id.Key, 0o600)
	cfg.Broker.Shadows = false // the other one answers
	b := start(t, cfg)

	app := other.connect(id, "app")
	if code := app.subscribe("from/#"); code != 1 {
		t.Fatalf("SUBACK %d", code)
	}
	data := b.requester("iotdata", nil)
	if status, _, text := data.do("POST", "/topics/from/https?qos=1", "x"); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	if got := app.next(); got != "from/https x" {
		t.Errorf("got %s", got)
	}
	app.publish("dt/a", "y")
	b.eventually("both messages", func() bool {
		s := b.broker.Stats()
		return s.Acked == 2 && s.Published == 1 && b.ingest.Stats().Messages == 2
	})
	for _, name := range []string{"$aws/things/t/jobs/notify", "$aws/things/t/defender/metrics/json", "$SYS/x",
		"$aws/certificates/create/json/accepted"} {
		b.router.FromBroker(&message.Message{Topic: name, Payload: []byte("x"), QoS: 1}, func(err error) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	if n := b.router.Stats().Reserved; n != 4 || b.ingest.Stats().Messages != 2 {
		t.Errorf("%d messages on topics that no service takes from a broker, %d in the log", n,
			b.ingest.Stats().Messages)
	}
	for _, path := range []string{"/things/press/shadow", "/api/things/shadow/ListNamedShadowsForThing/press"} {
		status, code, text := data.do("GET", path, "")
		if status != http.StatusServiceUnavailable || code != "ServiceUnavailableException" ||
			!strings.Contains(text, "another bridge has the shadows") {
			t.Errorf("%s of a bridge that has no shadows: %d %s", path, status, text)
		}
	}
	if status, _, text := b.requester("iot", nil).do("GET", "/mqtt", ""); status < 400 ||
		status == http.StatusUpgradeRequired {
		t.Errorf("/mqtt answers %d %s", status, text)
	}
	// Without its broker it is not ready.
	if err := other.stop(); err != nil {
		t.Error(err)
	}
	b.eventually("not ready", func() bool {
		w := httptest.NewRecorder()
		b.publicHandler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/readyz", nil))
		return w.Code == http.StatusServiceUnavailable &&
			strings.Contains(w.Body.String(), "no connection to the broker")
	})
}
