package server

import (
	"log/slog"
	"os"
	"strings"
	"testing"
)

// Root does not begin over the directory of another user, and leaves nothing in it.
func TestRootOverAnotherUsersDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("root alone may give a folder away")
	}
	cfg := configure(t)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(cfg.DataDir, 65534, -1); err != nil {
		t.Fatal(err)
	}
	s, err := New(Options{Config: cfg, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "run it as that user, sudo -u '") {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(cfg.DataDir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// What cannot be written beside the backups is in the status.
func TestStatusTellsOfRevocations(t *testing.T) {
	cfg := configure(t)
	backsUp(t, cfg)
	if err := os.WriteFile(cfg.Backup.Target, nil, 0o600); err != nil { // a file, no folder
		t.Fatal(err)
	}
	b := start(t, cfg)
	b.eventually("status tells", func() bool {
		_, text := b.do("GET", "/v1/status", "")
		return strings.Contains(text, "what was revoked is not beside the backups")
	})
}
