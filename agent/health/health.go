// Package health tells the outside how the agent is: as JSON and as
// Prometheus text on a Unix socket, and to systemd.
package health

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// A Server answers /status (JSON), /metrics (Prometheus text), /healthz and
// /watch (JSON, a line each time something is shown).
type Server struct {
	Status  func() any     // marshals to JSON
	Metrics func(*Metrics) // fills the page
	Alive   func() bool    // 503 on /healthz when false
	// Watch calls show with what is to be seen until ctx is done or show
	// fails; nil for nothing to watch.
	Watch func(ctx context.Context, show func(any) error) error
}

// maxStatus bounds what Query reads: 1,000 sensors come to 300 KB.
const maxStatus = 16 << 20

// writeTimeout is how long a reader of the socket may take for an answer, or for
// one line of /watch.
const writeTimeout = 10 * time.Second

// ErrNoAgent means that no agent answers at a socket.
var ErrNoAgent = errors.New("no agent answers")

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
	mux.HandleFunc("GET /watch", func(w http.ResponseWriter, r *http.Request) {
		if s.Watch == nil {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		rc := http.NewResponseController(w)
		_ = rc.Flush() // the watcher sees that there is an agent
		_ = s.Watch(r.Context(), func(v any) error {
			line, err := json.Marshal(v)
			if err != nil {
				return err
			}
			// Else all of the answer would have to be written in WriteTimeout.
			if err := rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
				return err
			}
			if _, err := w.Write(append(line, '\n')); err != nil {
				return err
			}
			return rc.Flush()
		})
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: writeTimeout,
		IdleTimeout: time.Minute}
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

// ask opens page of the agent behind the socket at path.
func ask(ctx context.Context, path, page string) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+page, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("health: %s is another user's; try sudo: %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("health: %w at %s; does it run? (systemctl status tidemill-agent): %w", ErrNoAgent, path,
			err)
	}
	return resp, nil
}

// Query asks the agent behind the socket at path for page, such as "/status".
func Query(ctx context.Context, path, page string) ([]byte, error) {
	resp, err := ask(ctx, path, page)
	if err != nil {
		return nil, err
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

// Follow calls show with each line of page, such as "/watch", until the agent or
// ctx ends, which is no error, or show fails.
func Follow(ctx context.Context, path, page string, show func(line []byte) error) error {
	resp, err := ask(ctx, path, page)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("health: %s: %s", page, resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxStatus)
	for lines.Scan() {
		if err := show(lines.Bytes()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("health: %w", err)
	}
	return nil
}
