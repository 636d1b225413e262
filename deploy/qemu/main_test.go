package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/deploy/nightly"
	"github.com/tidemill/tidemill/deploy/qemu/machine"
	"github.com/tidemill/tidemill/deploy/qemu/parts"
	"github.com/tidemill/tidemill/deploy/rig"
)

func TestCommandLine(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args string
		code int
		want string // in what it printed
	}{
		{"", 0, "set temperature"},
		{"help", 0, "qemu cut link -for 1m"},
		{"cut power -h", 0, "Usage: qemu cut power [flags]"},
		{"run -board raspi9", 2, "want one of raspi3b, raspi0"},
		{"run x", 2, "1 arguments"},
		{"set temperature tmp105", 2, "1 words"},
		{"set temperature tmp105 warm", 2, "invalid syntax"},
		{"set input 17 high", 2, "invalid syntax"},
		{"exec", 2, "0 words"},
		{"boil", 2, `unknown command "boil"`},
		{"cut link -dir " + dir, 1, "`qemu run` has to run in " + dir},
	} {
		var out bytes.Buffer
		if code := start(t.Context(), strings.Fields(c.args), &out, &out); code != c.code ||
			!strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %d, want %d and %q in:\n%s", c.args, code, c.code, c.want, &out)
		}
	}
}

// A run takes a folder of its own, once, and empties it of nothing else's.
func TestPrepare(t *testing.T) {
	dir := t.TempDir()
	alien := filepath.Join(dir, "letter")
	if err := os.WriteFile(alien, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := prepare(dir); err == nil || !strings.Contains(err.Error(), "is not a run's") {
		t.Errorf("a folder of somebody else: %v", err)
	}
	if err := os.Rename(alien, filepath.Join(t.TempDir(), "letter")); err != nil {
		t.Fatal(err)
	}
	_, release, err := prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := prepare(dir); err == nil || !strings.Contains(err.Error(), "a device runs in") {
		t.Errorf("a second run: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	_, release, err = prepare(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if _, err := os.Stat(filepath.Join(dir, "old")); err == nil {
		t.Error("what an earlier run left is there")
	}
}

// A said is what a program has printed up to now.
type said struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *said) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

// TestRun has the program run a Raspberry Pi Zero, which is an ARMv6, and turns its knobs by
// the socket of the run.
func TestRun(t *testing.T) {
	if !nightly.Is() {
		t.Skip("in make nightly")
	}
	board, err := machine.Find("raspi0")
	if err != nil {
		t.Fatal(err)
	}
	fetched(t, func(s *parts.Store) error { return machine.Fetch(t.Context(), s, board) })
	dir := t.TempDir()
	t.Chdir("../..")
	ctx, stop := context.WithCancel(t.Context())
	var out said
	done := make(chan int)
	go func() { done <- start(ctx, []string{"run", "-board", "raspi0", "-dir", dir}, &out, &out) }()
	defer func() {
		stop()
		if code := <-done; code != 0 || t.Failed() {
			t.Errorf("exit %d:\n%s", code, out.text.String())
		}
	}()
	does := func(command string, words ...string) string {
		t.Helper()
		var text bytes.Buffer
		args := slices.Concat(strings.Fields(command), []string{"-dir", dir}, words)
		if code := start(ctx, args, &text, &text); code != 0 {
			t.Fatalf("%v: exit %d: %s", args, code, &text)
		}
		return text.String()
	}
	// An ARMv6 with one processor is slow where the host is busy.
	until := func(what string, ok func() bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, 3*bootLimit)
		defer cancel()
		if err := rig.Until(ctx, what, func() (bool, error) { return ok(), nil }); err != nil {
			t.Fatal(err)
		}
	}
	until("a reading", func() bool { return out.has("the first reading is in the stream") })
	does("set temperature", "tmp105", "21.0625")
	until("the temperature", func() bool { return out.has("room temperature=21.0625°C") })
	does("set input", "17", "1")
	until("the level", func() bool { return out.has("door edges=1 level=true") })
	if got := does("read line", "17"); got != "true\n" {
		t.Errorf("line 17 is %q", got)
	}
	scan := does("exec", "sensors", "scan")
	for _, chip := range []string{"0x49  TMP102 or TMP105", "0x50  perhaps EEPROM", "0x68  ds1307", "0x76  DPS310"} {
		if !strings.Contains(scan, chip) {
			t.Errorf("the bus has no %q:\n%s", chip, scan)
		}
	}
	does("cut link", "-for", "1s")
	does("cut power", "-for", "1s")
	until("the status after a power cut", func() bool {
		var text bytes.Buffer
		return start(ctx, []string{"exec", "-dir", dir, "status"}, &text, &text) == 0 && strings.Contains(text.String(),
			"online since")
	})
}
