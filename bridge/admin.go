package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/server"
)

// loadConfig reads the configuration that the flags name.
func (c *call) loadConfig() (*config.Config, error) {
	overrides := map[string]string{}
	if c.data != "" {
		overrides["data_dir"] = c.data
	}
	return config.Load(c.config, os.Getenv, overrides)
}

// An admin is a way to a bridge: the one that runs over the data directory, or
// when none does, the directory itself.
type admin struct {
	client *http.Client
	live   bool // a bridge runs
	close  func() error
}

// admin connects to the bridge of this call.
func (c *call) admin(ctx context.Context) (*admin, error) {
	cfg, err := c.loadConfig()
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", cfg.Admin.Socket)
	}
	if conn, err := dial(ctx, "", ""); err == nil {
		conn.Close()
		t := &http.Transport{DialContext: dial}
		return &admin{&http.Client{Transport: t}, true, func() error { t.CloseIdleConnections(); return nil }}, nil
	}
	s, err := server.New(cfg, slog.New(slog.NewTextHandler(c.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), version)
	if err != nil {
		return nil, err
	}
	return &admin{&http.Client{Transport: direct{s.Handler()}}, false, s.Close}, nil
}

// direct answers requests by calling a handler.
type direct struct{ h http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.h.ServeHTTP(w, r)
	return w.Result(), nil
}

// do sends in as JSON, if it is not nil, and decodes the answer into out, or
// copies it where out is an io.Writer.
func (a *admin) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	var body io.Reader
	if in != nil {
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
		var said struct{ Message string }
		raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if json.Unmarshal(raw, &said) == nil && said.Message != "" {
			return fmt.Errorf("%s", said.Message)
		}
		return fmt.Errorf("%s: %s", resp.Status, raw)
	}
	switch w := out.(type) {
	case nil:
		return nil
	case io.Writer:
		_, err := io.Copy(w, resp.Body)
		return err
	default:
		return json.NewDecoder(resp.Body).Decode(out)
	}
}

// with runs f on an admin and closes it.
func (c *call) with(ctx context.Context, f func(a *admin) error) error {
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
