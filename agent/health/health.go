// Package health tells the outside how the agent is: as JSON and as
// Prometheus text on a Unix socket, and to systemd.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// A Server answers /status (JSON), /metrics (Prometheus text) and /healthz.
type Server struct {
	Status  func() any     // marshals to JSON
	Metrics func(*Metrics) // fills the page
	Alive   func() bool    // 503 on /healthz when false
}

// maxStatus bounds what Query reads: 1,000 sensors come to 300 KB.
const maxStatus = 16 << 20

// Listen opens a Unix socket with mode 0600. One left behind by a process
// that is gone is replaced; if somebody answers there, that is an error.
func Listen(path string) (net.Listener, error) {
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("health: another process listens at %s", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("health: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	// Nobody can have connected with wider rights to any effect: nothing is
	// served before the mode is set.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("health: %w", err)
	}
	return l, nil
}

// Serve answers on all of ls until ctx is done, and closes them.
func (s *Server) Serve(ctx context.Context, ls ...net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		body, err := json.Marshal(s.Status())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var m Metrics
		s.Metrics(&m)
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = io.WriteString(w, m.String())
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !s.Alive() {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "stuck\n")
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	errs := make(chan error, len(ls))
	var wg sync.WaitGroup
	for _, l := range ls {
		wg.Go(func() { errs <- srv.Serve(l) })
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	_ = srv.Close()
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Query asks the agent behind the socket at path for page, such as "/status".
func Query(ctx context.Context, path, page string) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+page, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("health: no agent answers at %s: %w", path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxStatus))
	if err != nil {
		return nil, fmt.Errorf("health: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return body, fmt.Errorf("health: %s: %s", page, resp.Status)
	}
	return body, nil
}
