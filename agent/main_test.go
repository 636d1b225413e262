package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/agent/health"
	"github.com/tidemill/tidemill/hal/sensor"
)

func runText(ctx context.Context, args ...string) (code int, out, errs string) {
	var stdout, stderr bytes.Buffer
	code = run(ctx, args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

const simulated = `thing = "press-7"
data_dir = "data"
board.kind = "sim"
uplink = {endpoint = "127.0.0.1:1", ca = "ca.pem", cert = "c.pem", key = "k.pem"}
[[sensor]]
name = "hall"
driver = "bme280"
every = "1s"
`

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommandLine(t *testing.T) {
	good := writeConfig(t, simulated)
	writeFiles(t, filepath.Dir(good))
	bad := writeConfig(t, simulated+"[spool]\nmax_bytes = 1\nx = 2\n"+
		"[[sensor]]\nname=\"b\"\ndriver=\"bme280\"\nevery=\"1s\"\noptions.address = 7\n")
	for _, c := range []struct {
		name     string
		args     []string
		code     int
		out, err string // parts of what is printed
	}{
		{"nothing", nil, 2, "", "Usage:"},
		{"help", []string{"--help"}, 0, "Examples:", ""},
		{"help of a command", []string{"help", "run"}, 0, "--log-level debug", ""},
		{"help of nothing", []string{"help", "start"}, 2, "", `unknown command "start"`},
		{"version of what", []string{"--version", "x"}, 2, "", `unexpected argument "x"`},
		{"unknown command", []string{"start"}, 2, "", `unknown command "start"`},
		{"unknown flag", []string{"run", "--fast"}, 2, "", "flag provided but not defined: -fast"},
		{"extra word", []string{"run", "now"}, 2, "", `unexpected argument "now"`},
		{"version", []string{"version"}, 0, "tidemill-agent dev", ""},
		{"--version", []string{"--version"}, 0, "tidemill-agent dev", ""},
		{"run help", []string{"run", "--help"}, 0, "--log-level debug", ""},
		{"sensors help", []string{"sensors", "-h"}, 0, "tidemill-agent sensors --config", ""},
		{"status help", []string{"status", "--help"}, 0, "-json", ""},
		{"config help", []string{"config", "--help"}, 0, "config sample > agent.toml", ""},
		{"version help", []string{"version", "--help"}, 0, "Examples", ""},
		{"config", []string{"config"}, 2, "", "want check or sample"},
		{"config x", []string{"config", "x"}, 2, "", `unknown word "x"`},
		{"config sample", []string{"config", "sample"}, 0, "[uplink]", ""},
		{"config check", []string{"config", "check", "--config", good}, 0, "ok: thing press-7, 1 sensors", ""},
		{"config check FILE", []string{"config", "check", good}, 0, "ok: thing press-7, 1 sensors", ""},
		{"config check FILE and flags", []string{"config", "check", good, "--endpoint", "x:9"}, 0, "to x:9", ""},
		{"config check of two", []string{"config", "check", good, bad}, 2, "", "unexpected argument"},
		{"lines are listed", []string{"sensors", "scan", "--config", good}, 0, "17=GPIO17", ""},
		{"watch help", []string{"watch", "--help"}, 0, "tidemill-agent watch --config", ""},
		{"config check bad", []string{"config", "check", "--config", bad}, 1, "",
			"spool.max_bytes: 1, want at least 1 MiB\n  spool.x: unknown key"},
		{"driver options are checked", []string{"config", "check", "--config", bad}, 1, "", "address"},
		{"no file", []string{"run", "--config", "/nowhere/x.toml"}, 1, "", "/nowhere/x.toml"},
		{"no file: what to do", []string{"run", "--config", "/nowhere/x.toml"}, 1, "",
			"with -config, or make one: tidemill-agent config sample >"},
		{"sensors", []string{"sensors", "--config", good}, 0, "°C", ""},
		{"sensors scan", []string{"sensors", "scan", "--config", good}, 0, "0x76  BME280", ""},
		{"sensors scan as JSON", []string{"sensors", "scan", "-json", "--config", good}, 0, `"chip": "BME280"`, ""},
		{"sensors scan of one bus", []string{"sensors", "scan", "-bus", "/dev/i2c-9", "--config", good}, 0,
			`bus "/dev/i2c-9": hal: no such device`, ""},
		{"sensors of what", []string{"sensors", "look"}, 2, "", `unexpected argument "look", want scan`},
		{"sensors with a flag of scan", []string{"sensors", "-json"}, 2, "", "flags of sensors scan"},
		{"no agent", []string{"status", "--config", good}, 1, "", "no agent answers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := runText(t.Context(), c.args...)
			if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.err) ||
				(c.err == "") != (errs == "") {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s\nwant %q, %q", code, c.code, out, errs, c.out, c.err)
			}
		})
	}
}

// writeFiles writes what simulated names: a CA, and a certificate with its key.
func writeFiles(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]pem.Block{"ca.pem": {Type: "CERTIFICATE", Bytes: cert},
		"c.pem": {Type: "CERTIFICATE", Bytes: cert},
		"k.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := errors.Join(os.Chmod(dir, 0o700),
			os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&block), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// A check tells all that is wrong with the files that are named, each by its key.
func TestCheckFiles(t *testing.T) {
	claim := "data_dir = \"data\"\nuplink = {endpoint = \"127.0.0.1:1\", ca = \"ca.pem\"}\n[provision]\ntemplate = \"press\"\n" +
		"claim_cert = \"c.pem\"\nclaim_key = \"k.pem\"\n"
	user := strings.Replace(simulated, `cert = "c.pem", key = "k.pem"`,
		`security = "tls", user = "pi", password_file = "word"`, 1)
	remove := func(names ...string) func(string) error {
		return func(dir string) (err error) {
			for _, name := range names {
				err = errors.Join(err, os.Remove(filepath.Join(dir, name)))
			}
			return err
		}
	}
	put := func(name, text string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) }
	}
	for name, c := range map[string]struct {
		conf   string
		change func(dir string) error
		want   []string // one a line; none: it is well
	}{
		"all is well": {simulated, put("x", ""), nil},
		"none is there": {simulated, remove("ca.pem", "c.pem", "k.pem"),
			[]string{"uplink.ca: open ", "uplink.cert: open ", "uplink.key: open "}},
		"beside what else is wrong": {simulated + "[spool]\nmax_bytes = 1\n", remove("k.pem"),
			[]string{"spool.max_bytes: 1", "uplink.key: open "}},
		"a key for all to read": {simulated, func(dir string) error {
			return os.Chmod(filepath.Join(dir, "k.pem"), 0o644)
		}, []string{"run: chmod 600 "}},
		"a folder for all to write": {simulated, func(dir string) error {
			return os.Chmod(dir, 0o777)
		}, []string{"run: chmod go-w "}},
		"another's key": {simulated, func(dir string) error {
			key, err := os.ReadFile(filepath.Join(dir, "k.pem"))
			writeFiles(t, dir)
			return errors.Join(err, put("k.pem", string(key))(dir))
		}, []string{"uplink.cert: "}},
		"no certificate in it": {simulated, put("ca.pem", "x"), []string{"uplink.ca: no certificate in "}},
		"a password":           {user, put("word", "tide mill\n"), nil},
		"no password":          {user, put("x", ""), []string{"uplink.password_file: open "}},
		"an empty password":    {user, put("word", "\n"), []string{"uplink.password_file: the first line of "}},
		"a claim":              {claim, put("x", ""), nil},
		"no claim": {claim, remove("c.pem", "k.pem"),
			[]string{"provision.claim_cert: open ", "provision.claim_key: open "}},
		"provisioned, the claim is gone": {claim, func(dir string) error {
			to := filepath.Join(dir, "data", "identity")
			return errors.Join(os.MkdirAll(to, 0o700),
				put("data/identity/identity.json", `{"thingName": "press-7"}`)(dir),
				os.Rename(filepath.Join(dir, "c.pem"), filepath.Join(to, "cert.pem")),
				os.Rename(filepath.Join(dir, "k.pem"), filepath.Join(to, "key.pem")))
		}, nil},
		"provisioned, the identity is gone": {claim, func(dir string) error {
			return errors.Join(os.MkdirAll(filepath.Join(dir, "data", "identity"), 0o700),
				put("data/identity/identity.json", `{"thingName": "press-7"}`)(dir))
		}, []string{"uplink.cert: open ", "uplink.key: open "}},
	} {
		path := writeConfig(t, c.conf)
		writeFiles(t, filepath.Dir(path))
		if err := c.change(filepath.Dir(path)); err != nil {
			t.Fatal(err)
		}
		code, out, errs := runText(t.Context(), "config", "check", path)
		said := strings.Split(strings.TrimSpace(errs), "\n")
		if len(c.want) == 0 {
			if code != 0 || !strings.HasPrefix(out, "ok: ") {
				t.Errorf("%s: exit %d\n%s%s", name, code, out, errs)
			}
			continue
		}
		ok := code == 1 && len(said) == len(c.want)
		for i := range c.want {
			ok = ok && strings.Contains(said[i], c.want[i])
		}
		if !ok {
			t.Errorf("%s: exit %d\n%s, want %q", name, code, errs, c.want)
		}
	}
}

// The sample's sensors have options that their drivers take.
func TestSampleSensors(t *testing.T) {
	if _, err := config.Load(config.Source{Path: writeConfig(t, config.Sample),
		CheckOptions: sensor.Check, Place: sensor.Place}); err != nil {
		t.Error(err)
	}
}

func TestRunAndStatus(t *testing.T) {
	path := writeConfig(t, simulated)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int, 1)
	var log bytes.Buffer
	go func() { done <- run(ctx, []string{"run", "--config", path}, &log, &log) }()
	socket := filepath.Join(filepath.Dir(path), "data", "agent.sock")
	for range 1000 {
		if _, err := health.Query(t.Context(), socket, "/healthz"); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	code, out, errs := runText(t.Context(), "status", "--config", path)
	for range 1000 { // the link is one of the last parts to start
		if code != 0 || !strings.Contains(out, "link    stopped") {
			break
		}
		time.Sleep(10 * time.Millisecond)
		code, out, errs = runText(t.Context(), "status", "--config", path)
	}
	if code != 0 || !strings.Contains(out, "hall") || !strings.Contains(out, "identity") &&
		!strings.Contains(out, "connecting") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	code, out, _ = runText(t.Context(), "status", "--json", "--socket", socket)
	var st device.Status
	if err := json.Unmarshal([]byte(out), &st); code != 0 || err != nil || st.Thing != "press-7" {
		t.Errorf("exit %d, %v\n%s", code, err, out)
	}
	stop()
	if code := <-done; code != 0 || !strings.Contains(log.String(), "agent stopped") {
		t.Errorf("exit %d\n%s", code, &log)
	}
}

// watch shows the running agent's readings, or reads the sensors itself.
func TestWatch(t *testing.T) {
	path := writeConfig(t, strings.Replace(simulated, `"1s"`, `"50ms"`, 1))
	watch := func() (out, errs *lines, stop func() int) {
		ctx, cancel := context.WithCancel(t.Context())
		out, errs = &lines{}, &lines{}
		done := make(chan int, 1)
		go func() { done <- run(ctx, []string{"watch", "--config", path}, out, errs) }()
		return out, errs, func() int { cancel(); return <-done }
	}
	out, errs, stop := watch()
	out.until(t, "hall  temperature ", 3)
	if code := stop(); code != 0 || !strings.Contains(errs.String(), "no agent runs here") ||
		!strings.Contains(out.String(), " °C, humidity ") {
		t.Errorf("exit %d\n%s\n%s", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), "data")); err == nil {
		t.Error("watching made a data directory")
	}

	ctx, end := context.WithCancel(t.Context())
	done := make(chan int, 1)
	log := &lines{}
	go func() { done <- run(ctx, []string{"run", "--config", path}, log, log) }()
	log.until(t, "agent started", 1)
	out, errs, stop = watch()
	out.until(t, "hall  temperature ", 3)
	if code := stop(); code != 0 || errs.String() != "" {
		t.Errorf("exit %d\n%s\n%s", code, out, errs)
	}
	out, errs, stop = watch()
	out.until(t, "hall", 1)
	end() // the agent ends before its watcher
	errs.until(t, "the agent has stopped", 1)
	if code := stop(); code != 1 {
		t.Errorf("exit %d when the agent ended", code)
	}
	if code := <-done; code != 0 {
		t.Errorf("exit %d\n%s", code, log)
	}
	for line := range strings.Lines(log.String()) {
		var l struct{ Time string }
		if err := json.Unmarshal([]byte(line), &l); err != nil || len(l.Time) > len("2026-01-01T00:00:00.000+00:00") {
			t.Errorf("time %q, %v in %s", l.Time, err, line)
		}
	}
}

// run --once takes one reading of each sensor; what could not be sent waits.
func TestRunOnce(t *testing.T) {
	path := writeConfig(t, strings.Replace(simulated, `"1s"`, `"50ms"`, 1)+
		"[[sensor]]\nname = \"none\"\ndriver = \"gpio-in\"\nevery = \"1s\"\noptions.line = \"nowhere\"\n")
	text, _ := os.ReadFile(path)
	text = bytes.Replace(text, []byte("uplink = {"), []byte(`uplink = {connect_timeout = "1s", `), 1)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := runText(t.Context(), "run", "--config", path, "--once")
	if code != 1 || strings.Count(out, "hall  temperature ") != 1 ||
		!strings.Contains(errs, "1 readings wait in the spool") || !strings.Contains(errs, `sensor none: open`) {
		t.Errorf("exit %d\n%s\n%s", code, out, errs)
	}
}

// What others chose comes to a terminal and to the log without control characters.
func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain 21 °C, 日本": "plain 21 °C, 日本",
		"\x1b[31mred\a":   `\x1b[31mred\a`,
		"a\nb\tc":         `a\nb\tc`,
		"\u202eabc":       `\u202eabc`,
		"\u009b0m":        `\u009b0m`,
		"bad \xff\xfe":    `bad \xff\xfe`,
		"\u200bzero":      `\u200bzero`,
	} {
		if got := printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		for _, format := range []string{"json", "text"} {
			var log bytes.Buffer
			newLog(&log, format, slog.LevelInfo).Info("x", "err", errors.New(in), "topic", in, "in",
				1500*time.Millisecond, "every", config.Duration(time.Minute))
			if strings.ContainsFunc(strings.TrimSuffix(log.String(), "\n"), unprintable) ||
				!strings.Contains(log.String(), "1.5s") || !strings.Contains(log.String(), "1m0s") {
				t.Errorf("%s: %q", format, log.String())
			}
		}
	}
}

// SIGHUP takes up a good configuration and keeps the old one for a bad one.
func TestReload(t *testing.T) {
	path := writeConfig(t, simulated)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int, 1)
	log := &lines{}
	go func() { done <- run(ctx, []string{"run", "--config", path}, log, log) }()
	log.until(t, "agent started", 1)
	reload := func(text, want string, n int) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		log.until(t, want, n)
	}
	reload(simulated+"[[sensor]]\nname = \"b\"\ndriver = \"count\"\nevery = \"1s\"\n", "configuration taken up", 1)
	reload("thing = 5\n", "the old one stays", 1)
	reload(strings.Replace(simulated, "press-7", "press-8", 1), "need a restart", 1)
	stop()
	if code := <-done; code != 0 {
		t.Errorf("exit %d\n%s", code, log)
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) until(t *testing.T, text string, n int) {
	t.Helper()
	for range 2000 {
		if strings.Count(l.String(), text) >= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%q never came up %d times:\n%s", text, n, l)
}
