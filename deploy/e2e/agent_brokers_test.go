package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/deploy/counterpart"
	"github.com/tidemill/tidemill/deploy/rig"
)

// localhostCert writes a certificate for localhost with its key.
func localhostCert(t *testing.T, cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour),
		NotAfter:  time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der},
		key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// simDevice writes the configuration of an agent with a simulated sensor into dir,
// where its data go too. uplink are more lines of [uplink].
func simDevice(t *testing.T, dir, thing, format, port, uplink string) (conf string) {
	t.Helper()
	conf = filepath.Join(dir, thing+".toml")
	text := fmt.Sprintf(`thing = %q
data_dir = %q
[board]
kind = "sim"
[shadow]
enabled = false
[uplink]
endpoint = "localhost:%s"
format = %q
topic = "home/{thing}/{sensor}"
connect_timeout = "2s"
%s
[[sensor]]
name = "climate"
driver = "bme280"
every = "10s"
`, thing, thing+"-data", port, format, uplink)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}

// An agent sends plain JSON to a Mosquitto that asks for user and password, as
// Home Assistant's does: without TLS where that is asked for in so many words,
// and over TLS with a CA of its own or the system's. A real client reads it.
func TestAgentToMosquitto(t *testing.T) {
	dir := t.TempDir()
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	secure, err := rig.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	_, securePort, _ := net.SplitHostPort(secure)
	cert, key, passwords := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"),
		filepath.Join(dir, "passwords")
	localhostCert(t, cert, key)
	counterpart.Debian(t, "mosquitto", func() bool {
		return exec.Command("mosquitto_passwd", "-b", "-c", passwords, "pi", "tide mill").Run() == nil
	})
	broker := newMosquitto(t, "password_file "+passwords,
		fmt.Sprintf("listener %s 127.0.0.1\ncertfile %s\nkeyfile %s\n", securePort, cert, key))
	_, plainPort, _ := net.SplitHostPort(broker.addr)
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("tide mill\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "wrong"), []byte("ebb mill\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "open"), []byte("tide mill\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct{ name, port, uplink, env, err string }{
		{"plaintext", plainPort, "security = \"plaintext\"\nuser = \"pi\"\npassword_file = \"password\"", "", ""},
		{"TLS with a CA", securePort, "security = \"tls\"\nca = \"server.pem\"\nuser = \"pi\"\npassword_file = \"password\"",
			"", ""},
		{"TLS with the system's CAs", securePort,
			"security = \"tls\"\nca = \"system\"\nuser = \"pi\"\npassword_file = \"password\"", "SSL_CERT_FILE=" + cert,
			""},
		{"TLS with CAs that do not know it", securePort,
			"security = \"tls\"\nca = \"system\"\nuser = \"pi\"\npassword_file = \"password\"", "",
			"is not from the CA in uplink.ca"},
		{"wrong password", plainPort, "security = \"plaintext\"\nuser = \"pi\"\npassword_file = \"wrong\"", "",
			`refused user "pi"`},
		{"a password for all to read", plainPort, "security = \"plaintext\"\nuser = \"pi\"\npassword_file = \"open\"",
			"", "chmod 600"},
		{"not asked for in so many words", plainPort, "user = \"pi\"\npassword_file = \"password\"", "",
			`uplink.cert: "", want a path; for a broker that takes a user and password: security = "tls"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			thing := fmt.Sprintf("pi-%d", i)
			conf := simDevice(t, dir, thing, "json", c.port, c.uplink)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			heard := make(chan [2]string, 16) // topic, payload
			if c.err == "" {
				o := mqtt.NewClientOptions().AddBroker("tcp://" +
					broker.addr).SetClientID("reader").SetUsername("pi").SetPassword("tide mill")
				reader := mqtt.NewClient(o)
				defer reader.Disconnect(0)
				hear := func(_ mqtt.Client, m mqtt.Message) { heard <- [2]string{m.Topic(), string(m.Payload())} }
				for _, tok := range []func() mqtt.Token{reader.Connect,
					func() mqtt.Token {
						return reader.SubscribeMultiple(map[string]byte{"home/" + thing + "/#": 1, "presence/" +
							thing: 1}, hear)
					}} {
					if tok := tok(); !tok.WaitTimeout(20*time.Second) || tok.Error() != nil {
						t.Fatal(tok.Error())
					}
				}
			}
			run := exec.CommandContext(ctx, bin.Agent, "run", "--once", "--config", conf)
			run.Env = append(os.Environ(), "SSL_CERT_DIR=/nonexistent")
			if c.env != "" {
				run.Env = append(run.Env, c.env)
			}
			said, err := run.CombinedOutput()
			if c.err != "" {
				if err == nil || !strings.Contains(string(said), c.err) &&
					!strings.Contains(string(said), strings.ReplaceAll(c.err, `"`, `\"`)) {
					t.Fatalf("%v, want %s:\n%s", err, c.err, said)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			got := map[string]string{}
			for range 3 {
				select {
				case m := <-heard:
					got[m[0]] += m[1]
				case <-ctx.Done():
					t.Fatalf("heard only %v\n%s", got, said)
				}
			}
			var r struct {
				TS                              int64
				Temperature, Humidity, Pressure float64
			}
			record := got["home/"+thing+"/climate"]
			if err := json.Unmarshal([]byte(record), &r); err != nil || r.TS == 0 || r.Temperature < 20 ||
				r.Humidity < 30 || r.Pressure < 9e4 {
				t.Errorf("%q, %v", record, err)
			}
			if p := got["presence/"+thing]; !strings.Contains(p, `"state":"online"`) ||
				!strings.Contains(p, `"state":"offline"`) {
				t.Errorf("presence %q", p)
			}
		})
	}
}

// An agent whose configuration says batches, as it does by default, loses none to
// a broker that only acknowledges them: it says what to set, and then sends what
// it has kept.
func TestAgentBatchesToMosquitto(t *testing.T) {
	dir := t.TempDir()
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	addr, err := rig.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	cert, key := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	localhostCert(t, cert, key)
	broker := newMosquitto(t, fmt.Sprintf("listener %s 127.0.0.1\ncertfile %s\nkeyfile %s\n", port, cert, key))
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("tide mill\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(format string) (string, error) {
		t.Helper()
		conf := simDevice(t, dir, "pi", format, port,
			"security = \"tls\"\nca = \"server.pem\"\nuser = \"pi\"\npassword_file = \"password\"")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		said, err := exec.CommandContext(ctx, bin.Agent, "run", "--once", "--config", conf).CombinedOutput()
		return string(said), err
	}
	heard := make(chan string, 64)
	reader := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + broker.addr).SetClientID("reader"))
	defer reader.Disconnect(0)
	for _, ask := range []func() mqtt.Token{reader.Connect, func() mqtt.Token {
		return reader.SubscribeMultiple(map[string]byte{"#": 1, "$tidemill/#": 1}, func(_ mqtt.Client, m mqtt.Message) {
			heard <- m.Topic()
		})
	}} {
		if tok := ask(); !tok.WaitTimeout(20*time.Second) || tok.Error() != nil {
			t.Fatal(tok.Error())
		}
	}
	said, err := run("batch")
	if err == nil || !strings.Contains(said, "not_a_bridge") || !strings.Contains(said,
		`1 readings wait in the spool`) || !strings.Contains(said, `set uplink.format = "json"`) {
		t.Fatalf("%v\n%s", err, said)
	}
	// What is kept goes with what is read now, and it is all that ever came.
	if said, err = run("json"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if tok := reader.Publish("end", 1, false, "end"); !tok.WaitTimeout(20*time.Second) || tok.Error() != nil {
		t.Fatal(tok.Error())
	}
	got := map[string]int{}
	for topic := ""; topic != "end"; got[topic]++ {
		select {
		case topic = <-heard:
		case <-time.After(20 * time.Second):
			t.Fatalf("heard only %v\n%s", got, said)
		}
	}
	if want := map[string]int{"home/pi/climate": 2, "presence/pi": 2, "end": 1}; !maps.Equal(got, want) {
		t.Errorf("heard %v, want %v", got, want)
	}
}
