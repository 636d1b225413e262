package health

import (
	"context"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServer(t *testing.T) {
	dir := t.TempDir()
	paths := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	// A socket left behind by a process that was killed is replaced.
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: paths[0], Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close()
	var ls []net.Listener
	for _, p := range paths {
		l, err := Listen(p)
		if err != nil {
			t.Fatal(err)
		}
		ls = append(ls, l)
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	if _, err := Listen(paths[0]); err == nil {
		t.Error("took the socket of a living process")
	}
	ok := true
	s := &Server{Status: func() any { return map[string]int{"n": 7} }, Alive: func() bool { return ok },
		Metrics: func(m *Metrics) { m.One("x_total", "counter", "Things.", 3) }}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ls...) }()
	for page, want := range map[string]string{"/status": `{"n":7}`,
		"/metrics": "# HELP x_total Things.\n# TYPE x_total counter\nx_total 3\n", "/healthz": "ok\n"} {
		if got, err := Query(t.Context(), paths[1], page); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", page, got, err)
		}
	}
	ok = false
	if got, err := Query(t.Context(), paths[0], "/healthz"); err == nil || !strings.Contains(string(got), "stuck") {
		t.Errorf("%q, %v", got, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := Query(t.Context(), paths[0], "/status"); err == nil {
		t.Error("an answer after the end")
	}
}

// A file that is no socket is not removed.
func TestListenKeepsFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "precious")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Error("listens on a file")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestMetrics(t *testing.T) {
	var m Metrics
	m.Family("a", "gauge", "back\\slash\nline")
	m.Sample("a", math.Inf(-1), "x", "q\"\\\n", "y", "")
	m.Sample("a", 0.5)
	want := "# HELP a back\\\\slash\\nline\n# TYPE a gauge\na{x=\"q\\\"\\\\\\n\",y=\"\"} -Inf\na 0.5\n"
	if got := m.String(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// notified listens as systemd does.
func notified(t *testing.T) *net.UnixConn {
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Error(err)
	}
	c := notified(t)
	if err := Notify("READY=1"); err != nil || receive(t, c) != "READY=1" {
		t.Error(err)
	}
	if err := Reloading(); err != nil || !strings.HasPrefix(receive(t, c), "RELOADING=1\nMONOTONIC_USEC=") {
		t.Error(err)
	}
	for _, w := range []struct {
		usec, pid string
		want      time.Duration
	}{{"60000000", "", 30 * time.Second}, {"60000000", "1", 0}, {"", "", 0}, {"x", "", 0}, {"-5", "", 0}} {
		t.Setenv("WATCHDOG_USEC", w.usec)
		t.Setenv("WATCHDOG_PID", w.pid)
		if got := WatchdogEvery(); got != w.want {
			t.Errorf("%v: %v", w, got)
		}
	}
}

func TestWatchdog(t *testing.T) {
	c := notified(t)
	ctx, cancel := context.WithCancel(t.Context())
	asked, tired := 0, make(chan int, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watchdog(ctx, time.Millisecond, func() bool {
			asked++
			return asked != 3 && asked != 4
		}, func() { tired <- asked })
	}()
	for range 3 { // the 1st, the 2nd and the 5th
		if got := receive(t, c); got != "WATCHDOG=1" {
			t.Error(got)
		}
	}
	cancel()
	<-done
	if len(tired) != 1 || <-tired != 3 {
		t.Error("the silence was not told once")
	}
}
