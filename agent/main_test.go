package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
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
	good, bad := writeConfig(t, simulated), writeConfig(t, simulated+"[spool]\nmax_bytes = 1\nx = 2\n[[sensor]]\nname=\"b\"\ndriver=\"bme280\"\nevery=\"1s\"\noptions.address = 7\n")
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
		{"lines are listed", []string{"sensors", "--config", good}, 0, "17=GPIO17", ""},
		{"watch help", []string{"watch", "--help"}, 0, "tidemill-agent watch --config", ""},
		{"config check bad", []string{"config", "check", "--config", bad}, 1, "", "spool.max_bytes: 1, want at least 1 MiB\n  spool.x: unknown key"},
		{"driver options are checked", []string{"config", "check", "--config", bad}, 1, "", "address"},
		{"no file", []string{"run", "--config", "/nowhere/x.toml"}, 1, "", "/nowhere/x.toml"},
		{"sensors", []string{"sensors", "--config", good}, 0, "°C", ""},
		{"sensors lists", []string{"sensors", "--config", good}, 0, "0x76", ""},
		{"no agent", []string{"status", "--config", good}, 1, "", "no agent answers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := runText(t.Context(), c.args...)
			if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.err) || (c.err == "") != (errs == "") {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s\nwant %q, %q", code, c.code, out, errs, c.out, c.err)
			}
		})
	}
}

// The sample's sensors have options that their drivers take.
func TestSampleSensors(t *testing.T) {
	if _, err := config.Load(config.Source{Path: writeConfig(t, config.Sample), CheckOptions: sensor.Check}); err != nil {
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
	if code != 0 || !strings.Contains(out, "hall") || !strings.Contains(out, "identity") && !strings.Contains(out, "connecting") {
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
	if code := stop(); code != 0 || !strings.Contains(errs.String(), "no agent runs here") || !strings.Contains(out.String(), " °C, humidity ") {
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
	path := writeConfig(t, strings.Replace(simulated, `"1s"`, `"50ms"`, 1)+"[[sensor]]\nname = \"none\"\ndriver = \"gpio-in\"\nevery = \"1s\"\noptions.line = \"nowhere\"\n")
	text, _ := os.ReadFile(path)
	text = bytes.Replace(text, []byte("uplink = {"), []byte(`uplink = {connect_timeout = "1s", `), 1)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := runText(t.Context(), "run", "--config", path, "--once")
	if code != 1 || strings.Count(out, "hall  temperature ") != 1 || !strings.Contains(errs, "1 readings wait in the spool") || !strings.Contains(errs, `sensor none: open`) {
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
			newLog(&log, format, slog.LevelInfo).Info("x", "err", errors.New(in), "topic", in, "in", 1500*time.Millisecond)
			if strings.ContainsFunc(strings.TrimSuffix(log.String(), "\n"), unprintable) || !strings.Contains(log.String(), "1.5s") {
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
