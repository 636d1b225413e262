package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/rig"
)

// full is a state in which everything has arrived everywhere.
var full = regexp.MustCompile(`connected things +3
  readings in +[1-9]\d* \([0-9.]+/s\)
  rule matches +alarm [1-9]\d* of [1-9]\d*, all [1-9]\d*
  stream records +readings [1-9]\d*, alarms [1-9]\d*
  objects written +[1-9]\d* with [1-9]\d* records
  reading to stream +p50 [1-9]\d* ms, p99 [1-9]\d* ms .*
  bytes per reading +[1-9][0-9.]* in batches, [1-9][0-9.]* with MQTT, TLS and shadow
`)

// TestDemo runs the demonstration until it shows that all of it works.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the whole demonstration")
	}
	bin := t.TempDir()
	if _, err := rig.Build(t.Context(), "../..", bin); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	out := &screen{enough: stop}
	// A socket's path is short: at most 107 bytes.
	root, err := os.MkdirTemp("", "demo")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	d := &demo{bin: bin, dir: filepath.Join(root, "data"), out: out, every: 200 * time.Millisecond}
	if err := d.run(ctx, 0); err != nil {
		t.Fatalf("%v\n%s", err, out.text.String())
	}
	text := out.text.String()
	states, last, _ := strings.Cut(text, "where to look\n")
	// Interrupted, it still shows everything connected.
	if summary := states[strings.LastIndex(states, "tidemill demo,"):]; !full.MatchString(summary) ||
		!strings.Contains(last, d.dir) {
		t.Errorf("%s", text)
	}
	for _, p := range append([]*rig.Process{&d.bridge.Process}, &d.agents[0].Process, &d.agents[1].Process,
		&d.agents[2].Process) {
		if ended, err := p.Exited(); !ended || err != nil {
			t.Errorf("%s: ended %t, %v", p.Path, ended, err)
		}
	}
	if objects, _ := filepath.Glob(filepath.Join(d.root,
		"bridge/objects/archive/climate/*/*/*/*/*")); len(objects) == 0 {
		t.Error("no objects")
	}
	// What the demonstration left may be removed by the next.
	release, err := d.prepare()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.prepare(); err == nil || !strings.Contains(err.Error(), "a demonstration runs in") {
		t.Errorf("a folder in use: %v", err)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
}

// A screen is the demonstration's output; it calls enough once it shows all.
type screen struct {
	mu     sync.Mutex
	text   strings.Builder
	enough func()
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if full.Match(p) {
		s.enough()
	}
	return s.text.Write(p)
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := &demo{dir: dir, out: &strings.Builder{}}
	if _, err := d.prepare(); err == nil || !strings.Contains(err.Error(), "not known to be") {
		t.Errorf("a folder with other things: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
	d = &demo{bin: dir, dir: filepath.Join(dir, "demo"), out: &strings.Builder{}}
	if err := d.run(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("without programs: %v", err)
	}
}
