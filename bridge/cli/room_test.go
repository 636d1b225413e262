package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// small mounts a file system of some MiB.
func small(t *testing.T, size int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a small file system is mounted by root only")
	}
	dir, err := os.MkdirTemp("", "room")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(syscall.Unmount(dir, syscall.MNT_DETACH), os.Remove(dir)); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A bridge that starts on a full disk says why it is not ready, goes on when
// there is room, and ends when it is told to. Commands beside it do not wait.
func TestFullDisk(t *testing.T) {
	dir := small(t, 260)
	data := filepath.Join(dir, "data")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	admin := l.Addr().String()
	l.Close()
	conf := filepath.Join(t.TempDir(), "bridge.toml")
	text := fmt.Sprintf("data_dir = %q\nmin_free = \"200 MiB\"\n[disk]\nreserve = \"16 MiB\"\n"+
		"[mqtt]\nlisten = \"127.0.0.1:0\"\n[https]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = %q\n", data, admin)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func() (end func() error) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- run(ctx, "test", []string{"serve", "-config", conf}, io.Discard, io.Discard) }()
		return func() error {
			cancel()
			select {
			case err := <-done:
				return err
			case <-time.After(time.Minute):
				t.Fatal("it does not end")
				return nil
			}
		}
	}
	ask := func(path string) (code int, text string) {
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + admin + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		raw, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(raw)
	}
	until := func(want int, part string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			code, text := ask("/readyz")
			if code == want && strings.Contains(text, part) {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%d %s, want %d %s", code, text, want, part)
			}
		}
	}
	end := serve()
	until(200, "ready")
	if err := end(); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 120<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	end = serve()
	until(503, "MiB free, want 200 at least")
	if code, text := ask("/healthz"); code != 200 {
		t.Errorf("not alive: %d %s", code, text)
	}
	if _, _, err := runText(t, "stream", "list", "-config", conf); err == nil ||
		!strings.Contains(err.Error(), "min_free") {
		t.Errorf("stream list: %v", err)
	}
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	end = serve()
	until(503, "MiB free, want 200 at least")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	until(200, "ready")
	if err := end(); err != nil {
		t.Error(err)
	}
}

// What does not end by itself ends all the same.
func TestEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	released := make(chan struct{})
	cancel()
	if err := ends(ctx, time.Millisecond, func(context.Context) error {
		<-released
		return nil
	}); !errors.Is(err, errStuck) {
		t.Errorf("%v", err)
	}
	close(released)
	if err := ends(ctx, time.Minute, func(ctx context.Context) error {
		return ctx.Err()
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
