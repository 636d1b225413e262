package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOneBridgeToADirectory(t *testing.T) {
	cfg := configure(t)
	b := idle(t, cfg)
	log := slog.New(slog.DiscardHandler)
	if other, err := New(Options{Config: cfg, Version: "test", Log: log}); err == nil ||
		!strings.Contains(err.Error(), "another tidemill-bridge uses it") {
		t.Errorf("a second bridge: %v, %v", other, err)
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
	other, err := New(Options{Config: cfg, Version: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(cfg.DataDir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Config: cfg, Version: "test", Log: log}); err == nil ||
		!strings.Contains(err.Error(), "data_dir: ") {
		t.Errorf("a directory that everybody may write to: %v", err)
	}
}

// Close lets go of listeners that never ran.
func TestCloseAfterListen(t *testing.T) {
	b := idle(t, configure(t))
	if err := b.Run(t.Context()); err == nil {
		t.Error("Run before Listen")
	}
	if err := b.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for _, l := range []net.Listener{b.mqtt, b.admin} {
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			t.Error("still listening on", c.RemoteAddr())
			c.Close()
		}
	}
}

// What is on disk is for its owner, except certificates and objects.
func TestModes(t *testing.T) {
	cfg := configure(t)
	if err := os.MkdirAll(filepath.Join(cfg.DataDir, "log"), 0o755); err != nil { // as somebody else made it
		t.Fatal(err)
	}
	b := start(t, cfg)
	d := b.connect(b.thing("dev", ""), "dev")
	d.publish("dt/dev/x", `{"secret":1}`)
	d.publish("$aws/things/dev/shadow/update", `{"state":{"reported":{"a":1}}}`)
	open := map[string]fs.FileMode{"pki/ca.pem": 0o644, "pki/server.pem": 0o644, ".": fs.ModeDir | 0o755,
		"objects": fs.ModeDir | 0o750, "objects/.tmp": fs.ModeDir | 0o750}
	root := os.DirFS(cfg.DataDir)
	err := fs.WalkDir(root, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if extra := info.Mode().Perm() &^ open[path].Perm() & 0o077; extra != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if path == "log" || path == "s3_failed" {
			return fs.SkipDir // nobody else comes in
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A part that ends, with an error or without, ends the bridge with one.
func TestStage(t *testing.T) {
	b := idle(t, configure(t))
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	st := startStage(b.Server.log, make(chan error, 1), part{"waits", wait},
		part{"waits well", func(ctx context.Context) error { <-ctx.Done(); return nil }})
	if err := st.stop(); err != nil {
		t.Errorf("stopped: %v", err)
	}
	for want, run := range map[string]func(context.Context) error{
		"early: ended by itself": func(context.Context) error { return nil },
		"early: broken":          func(context.Context) error { return errors.New("broken") },
		"early: late":            func(ctx context.Context) error { <-ctx.Done(); return errors.New("late") },
	} {
		failed := make(chan error, 1)
		st := startStage(b.Server.log, failed, part{"waits", wait}, part{"early", run})
		if want != "early: late" {
			<-failed
		}
		if err := st.stop(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// When the log cannot write, nobody gets an acknowledgement and the bridge ends
// with the error, so that whoever started it starts it again.
func TestFailedLogEndsTheBridge(t *testing.T) {
	b := start(t, configure(t))
	d := b.connect(b.thing("dev", ""), "dev")
	d.publish("dt/dev/x", "{}")
	b.sick.Store(true)
	if err := d.wait(d.Publish("dt/dev/x", 1, false, "{}")); err == nil {
		t.Error("acknowledged without a disk")
	}
	d.ends()
	ended := make(chan error, 1)
	go func() { ended <- b.stopped() }()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "log: ") || !strings.Contains(err.Error(), errSick.Error()) {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the bridge runs on")
	}
	w := httptest.NewRecorder()
	b.publicHandler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/readyz", nil))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), errSick.Error()) {
		t.Errorf("readyz: %d %s", w.Code, w.Body)
	}
}

func TestReadyOnlyWhileTheLogRuns(t *testing.T) {
	b := idle(t, configure(t))
	for path, want := range map[string]int{"/readyz": 503, "/healthz": 200} {
		w := httptest.NewRecorder()
		b.publicHandler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+path, nil))
		if w.Code != want || strings.Contains(w.Body.String(), "nil") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// What was acknowledged is there after a stop and a start, and the stop takes
// no client's time.
func TestRestart(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	id := b.thing("dev", "")
	d := b.connect(id, "dev")
	d.publish("dt/dev/x", `{"n":1}`)
	d.publish("$aws/things/dev/shadow/update", `{"state":{"reported":{"n":1}}}`)
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cfg.Admin.Socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = start(t, cfg)
	d = b.connect(id, "dev")
	d.subscribe("$aws/things/dev/shadow/get/accepted")
	d.publish("$aws/things/dev/shadow/get", "")
	if got := d.next(); !strings.Contains(got, `"n":1`) {
		t.Errorf("shadow: %s", got)
	}
	_, text := b.do("GET", "/v1/streams/records?name=$ingest&from=oldest", "")
	if n := strings.Count(text, "\n"); n < 5 || !strings.Contains(text, "dt/dev/x") && !strings.Contains(text, "key") {
		t.Errorf("%d records: %s", n, text)
	}
}
