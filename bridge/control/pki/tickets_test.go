package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A session is resumed with another process over the same folder for two to
// three days, while keys are turned, and then no longer.
func TestTicketsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	o := Options{Now: func() time.Time { return now }}
	p := open(t, dir, o)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.CA())
	client := &tls.Config{RootCAs: roots, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(1),
		// A ticket that came with a resumed session would be of the latest key.
		Time: func() time.Time { return now }}
	if resumed, err := dial(t, p.HTTPSConfig(), client); err != nil || resumed {
		t.Fatal(resumed, err)
	}
	first, ok := client.ClientSessionCache.Get("localhost")
	if !ok {
		t.Fatal("no ticket")
	}
	for i, want := range []bool{true, true, true, false} {
		client.ClientSessionCache.Put("localhost", first)
		config := open(t, dir, o).HTTPSConfig()
		if resumed, err := dial(t, config, client); err != nil || resumed != want {
			t.Errorf("after %d days: resumed %v, %v", i, resumed, err)
		}
		if keys, err := os.ReadFile(filepath.Join(dir, ticketKeysFile)); err != nil ||
			strings.Count(string(keys), "\n") != min(i+1, ticketKeys) {
			t.Errorf("after %d days: %d keys, %v", i, strings.Count(string(keys), "\n"), err)
		}
		now = now.Add(ticketTurn)
	}
}

// Keys are turned while the bridge runs. If the file cannot be written, the old
// ones stay.
func TestTicketKeysTurn(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		p := open(t, dir, Options{})
		keys := func() []ticketKey {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.tickets
		}
		first := keys()[0]
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		var log strings.Builder
		go func() { done <- p.Run(ctx, slog.New(slog.NewTextHandler(&log, nil))) }()
		time.Sleep(ticketTurn - time.Minute)
		synctest.Wait()
		if len(keys()) != 1 {
			t.Errorf("%d keys", len(keys()))
		}
		if err := os.Mkdir(filepath.Join(dir, ticketKeysFile+".new"), 0o700); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if len(keys()) != 1 || !strings.Contains(log.String(), "level=WARN") {
			t.Errorf("%d keys, %s", len(keys()), &log)
		}
		if err := os.Remove(filepath.Join(dir, ticketKeysFile+".new")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(keys()) != 2 || keys()[1] != first {
			t.Errorf("%d keys", len(keys()))
		}
		time.Sleep(10 * ticketTurn)
		synctest.Wait()
		if len(keys()) != ticketKeys || keys()[ticketKeys-1] == first {
			t.Errorf("%d keys", len(keys()))
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A file that others may read, or that is not as it was written, is refused; a
// key of the future is not kept.
func TestTicketKeysFile(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string
	}{
		"mode":   {"", 0o640, "run: chmod 600"},
		"time":   {"now 00\n", 0o600, "line 1: want a time"},
		"short":  {"2026-01-01T00:00:00Z 00\n", 0o600, "line 1: want a time"},
		"digits": {"2026-01-01T00:00:00Z " + strings.Repeat("zz", 32) + "\n", 0o600, "line 1: want a time"},
		"second": {"2026-01-01T00:00:00Z " + strings.Repeat("00", 32) + "\nx\n", 0o600, "line 2: want a time"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, ticketKeysFile)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	if err := os.WriteFile(filepath.Join(dir, ticketKeysFile), []byte(future+" "+strings.Repeat("00", 32)+"\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	if p := open(t, dir, Options{}); len(p.tickets) != 1 || p.tickets[0].key == [32]byte{} {
		t.Errorf("%d keys", len(p.tickets))
	}
}
