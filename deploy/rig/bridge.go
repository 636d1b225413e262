package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// A Bridge is a tidemill-bridge over a directory of its own, on ports that
// stay the same from start to start.
type Bridge struct {
	Process
	Dir   string // its data directory
	MQTT  string // where devices connect
	HTTPS string // the AWS APIs
	Admin string // metrics and health
	Log   string

	bin    Bin
	client *http.Client
}

// NewBridge prepares a bridge under dir; extra is appended to its
// configuration file, which ends in the table [https], and may have a table
// [mqtt]. Start starts it.
func NewBridge(bin Bin, dir, extra string) (*Bridge, error) {
	b := &Bridge{Dir: filepath.Join(dir, "bridge"), Log: filepath.Join(dir, "bridge.log"), bin: bin}
	for _, addr := range []*string{&b.MQTT, &b.HTTPS, &b.Admin} {
		var err error
		if *addr, err = FreePort(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		return nil, err
	}
	text := fmt.Sprintf("data_dir = %q\n[admin]\nlisten = %q\n[https]\nlisten = %q\n%s", b.Dir, b.Admin, b.HTTPS, extra)
	if !strings.Contains(extra, "[mqtt]\n") {
		text += "\n[mqtt]\n"
	}
	text = strings.Replace(text, "[mqtt]\n", fmt.Sprintf("[mqtt]\nlisten = %q\n", b.MQTT), 1)
	if err := os.WriteFile(b.config(), []byte(text), 0o600); err != nil {
		return nil, err
	}
	b.Process = Process{Path: bin.Bridge, Args: []string{"serve", "-config", b.config()}, LogFile: b.Log}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(b.Dir, "admin.sock"))
	}
	b.client = &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	return b, nil
}

func (b *Bridge) config() string { return filepath.Join(filepath.Dir(b.Dir), "bridge.toml") }

// Declare writes a file of bridge.d, such as "rules/hot.json".
func (b *Bridge) Declare(name, doc string) error {
	path := filepath.Join(b.Dir, "bridge.d", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(doc), 0o600)
}

// Command runs `tidemill-bridge ARGS` over this bridge and returns what it
// printed.
func (b *Bridge) Command(ctx context.Context, args ...string) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, b.bin.Bridge, append(args, "-config", b.config())...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("tidemill-bridge %v: %w\n%s", args, err, errs.Bytes())
	}
	return out.Bytes(), nil
}

// lastLine is what a program said last, in most cases why it ended.
func lastLine(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	text = bytes.TrimSpace(text)
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}

// Ready waits, for three minutes at most, until the bridge says that it takes data
// or has ended.
func (b *Bridge) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	var ended error
	err := Until(ctx, "the bridge", func() (bool, error) {
		if gone, err := b.Exited(); gone {
			ended = fmt.Errorf("the bridge ended: %v\n%s", err, lastLine(b.Log))
			return true, nil
		}
		resp, err := http.Get("http://" + b.Admin + "/readyz")
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
	return errors.Join(err, ended)
}

// Get asks the admin socket and decodes the answer into out.
func (b *Bridge) Get(ctx context.Context, path string, query url.Values, out any) error {
	body, err := b.Open(ctx, path, query)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(out)
}

// Open asks the admin socket and returns the answer's body.
func (b *Bridge) Open(ctx context.Context, path string, query url.Values) (io.ReadCloser, error) {
	u := url.URL{Scheme: "http", Host: "bridge", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("%s: %s: %s", path, resp.Status, text)
	}
	return resp.Body, nil
}

// Metrics reads the bridge's metrics; the keys are name{labels} as written.
func (b *Bridge) Metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.Admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return parseMetrics(resp.Body)
}
