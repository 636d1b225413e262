package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/server"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// loadConfig reads the configuration that the flags name.
func (c *call) loadConfig() (*config.Config, error) {
	overrides := map[string]string{}
	if c.data != "" {
		overrides["data_dir"] = c.data
	}
	path := c.config
	if path == "" && os.Geteuid() == 0 {
		if _, err := os.Stat(config.SystemFile); err == nil {
			path = config.SystemFile
		}
	}
	return config.Load(path, os.Getenv, overrides)
}

// A client asks a bridge: the one that runs over the data directory, or
// when none does, the directory itself.
type client struct {
	client *http.Client
	live   bool   // a bridge runs
	data   string // its data directory
	close  func() error
}

// admin connects to the bridge of this call. A data directory is not made: a
// slip in -data would make a second bridge with a CA of its own.
func (c *call) admin(ctx context.Context) (*client, error) {
	cfg, err := c.loadConfig()
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", cfg.Admin.Socket)
	}
	conn, err := dial(ctx, "", "")
	switch {
	case err == nil:
		conn.Close()
		t := &http.Transport{DialContext: dial}
		return &client{&http.Client{Transport: t}, true, cfg.DataDir, func() error {
			t.CloseIdleConnections()
			return nil
		}}, nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("admin.socket: %w", err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("admin.socket: %w: only the bridge's own user and root may ask it, such as by sudo", err)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "registry.db")); err != nil {
		return nil, fmt.Errorf(
			"data_dir: no bridge runs at %s, and it is no bridge's data directory (%w); serve makes one, -config "+
				"or -data names another",
			cfg.DataDir, err)
	}
	s, err := server.Open(ctx, server.Options{Config: cfg, Version: c.version,
		Log: slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return nil, err
	}
	in := serveInside(s.Handler())
	return &client{&http.Client{Transport: in.transport}, false, cfg.DataDir, func() error {
		return errors.Join(in.stop(), s.Close())
	}}, nil
}

// An inside is an HTTP server and its client in one process. What is answered
// is streamed through a pipe: a stream that is printed may be larger than
// memory.
type inside struct {
	transport *http.Transport
	server    *http.Server
	conns     chan net.Conn
	closed    chan struct{}
	close     func()
	served    chan error
}

func serveInside(h http.Handler) *inside {
	in := &inside{server: &http.Server{Handler: h}, conns: make(chan net.Conn), closed: make(chan struct{}),
		served: make(chan error, 1)}
	in.close = sync.OnceFunc(func() { close(in.closed) })
	in.transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		here, there := net.Pipe()
		select {
		case in.conns <- there:
			return here, nil
		case <-in.closed:
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	go func() { in.served <- in.server.Serve(in) }()
	return in
}

// Accept, Close and Addr make it the server's listener.
func (in *inside) Accept() (net.Conn, error) {
	select {
	case c := <-in.conns:
		return c, nil
	case <-in.closed:
		return nil, net.ErrClosed
	}
}

func (in *inside) Close() error { in.close(); return nil }

func (in *inside) Addr() net.Addr { return &net.UnixAddr{Name: "inside", Net: "unix"} }

// stop returns when no request is under way any more.
func (in *inside) stop() error {
	in.transport.CloseIdleConnections()
	err := in.server.Shutdown(context.Background())
	<-in.served
	return err
}

// do sends in as JSON, if it is not nil, or an io.Reader as it is, and decodes
// the answer into out, copies it where out is an io.Writer, or leaves it to out
// where that reads lines.
func (a *client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	switch in := in.(type) {
	case nil:
	case io.Reader:
		body = in
	default:
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	u := url.URL{Scheme: "http", Host: "bridge", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		var said admin.Error
		raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if json.Unmarshal(raw, &said) == nil && said.Message != "" {
			return errors.New(worded(said.Message))
		}
		return fmt.Errorf("%s: %s", resp.Status, raw)
	}
	switch w := out.(type) {
	case nil:
		return nil
	case io.Writer:
		_, err = io.Copy(w, resp.Body)
	case readLines:
		err = w(json.NewDecoder(resp.Body))
	default:
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if why := resp.Trailer.Get(admin.ErrorTrailer); why != "" { // there once the body has been read to its end
		return errors.New(why)
	}
	return err
}

// ended says why an answer ended that was to go on: the bridge has stopped,
// unless it still answers.
func (a *client) ended(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	if err := a.do(ctx, "GET", "/v1/info", nil, nil, nil); err != nil {
		return errors.New("the bridge has stopped")
	}
	return errors.New("the bridge runs, but ended its answer; its log may say why")
}

// askAgain bounds the question whether the bridge still runs. It answers from
// memory.
const askAgain = 2 * time.Second

// readLines reads an answer that comes as one JSON value after the other.
type readLines func(*json.Decoder) error

// lines gives the values of an answer to next as they come, until it has
// enough. An answer that ends before is an error.
func lines[T any](next func(T) (enough bool)) readLines {
	return func(dec *json.Decoder) error {
		for {
			var line T
			if err := dec.Decode(&line); err != nil {
				return fmt.Errorf("the answer broke off: %w", err)
			}
			if next(line) {
				return nil
			}
		}
	}
}

// with runs f on a client and closes it.
func (c *call) with(ctx context.Context, f func(a *client) error) error {
	a, err := c.admin(ctx)
	if err != nil {
		return err
	}
	if err := f(a); err != nil {
		_ = a.close()
		return err
	}
	return a.close()
}

// getAndPrint gets path of the bridge and prints it: as JSON, or by print.
func getAndPrint[T any](ctx context.Context, c *call, asJSON bool, path string, query url.Values,
	print func(T) error) error {
	return c.with(ctx, func(a *client) error {
		if asJSON {
			return a.do(ctx, "GET", path, query, nil, c.json())
		}
		var v T
		if err := a.do(ctx, "GET", path, query, nil, &v); err != nil {
			return err
		}
		return print(v)
	})
}

// withRunning is with, where a bridge must run over the data directory; so says what
// is not so without one.
func (c *call) withRunning(ctx context.Context, so string, f func(a *client) error) error {
	return c.with(ctx, func(a *client) error {
		if !a.live {
			return fmt.Errorf("no bridge runs over %s, so %s", a.data, so)
		}
		return f(a)
	})
}
