package devices

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/agent/provision"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/hal/secretfile"
)

// errForGood is an error that trying again does not mend.
var errForGood = errors.New("no identity can be made")

// Identities make devices known to a bridge. Several devices may be made at once.
type Identities interface {
	// Make makes the identity of a device, unless it has one.
	Make(ctx context.Context, name, dir, data string) error
	// Config returns what a device's configuration says of its identity.
	Config(name, dir string) (Config, error)
}

// A Config is a part of an agent.toml.
type Config struct {
	Head   string // keys before the first table
	Tables string // with [uplink]
}

// Admin makes identities as `tidemill-bridge thing create` does, by the admin socket.
type Admin struct {
	endpoint string // as Admin was given it
	client   *http.Client
	turn     chan struct{} // held by who asks: a bridge syncs a registry for each thing
}

// NewAdmin asks the bridge that listens at a socket. endpoint is where devices find the
// bridge's MQTT; "" is what the bridge says.
func NewAdmin(socket, endpoint string) *Admin {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Admin{endpoint: endpoint, turn: make(chan struct{}, 4),
		client: &http.Client{Timeout: time.Minute, Transport: &http.Transport{DialContext: dial}}}
}

// The files of an identity, as thing create names them.
const keyFile, certFile, caFile, endpointFile = "key.pem", "cert.pem", "ca.pem", "endpoint"

// Make implements Identities.
func (a *Admin) Make(ctx context.Context, name, dir, _ string) error {
	if _, err := os.Stat(filepath.Join(dir, endpointFile)); err == nil { // it is written last
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	in, err := json.Marshal(admin.NewThing{Name: name, Endpoint: a.endpoint})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://bridge/v1/things", bytes.NewReader(in))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		err := fmt.Errorf("thing create %s: %s: %.200s", name, resp.Status, bytes.TrimSpace(body))
		if resp.StatusCode/100 == 4 {
			err = fmt.Errorf("%w: %w", errForGood, err)
		}
		return err
	}
	var id admin.Identity
	if err := json.Unmarshal(body, &id); err != nil {
		return err
	}
	for _, f := range []struct{ name, text string }{{keyFile, id.Key}, {certFile, id.Certificate}, {caFile, id.CA},
		{endpointFile, id.Endpoint}} {
		if err := durable.Write(filepath.Join(dir, f.name), []byte(f.text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Config implements Identities.
func (a *Admin) Config(name, dir string) (Config, error) {
	known, err := os.ReadFile(filepath.Join(dir, endpointFile))
	if err != nil {
		return Config{}, err
	}
	return Config{Head: fmt.Sprintf("thing = %q\n", name),
		Tables: fmt.Sprintf("[uplink]\nendpoint = %q\nca = %q\ncert = %q\nkey = %q\n",
			cmp.Or(a.endpoint, string(known)), caFile, certFile, keyFile)}, nil
}

// Claim provisions devices by a claim certificate, each by the agent's own code.
type Claim struct {
	Endpoint  string
	Cert, Key string // files of the claim
	CA        string // file
	Template  string
	// Parameters of the template; {device} in a value is the device's name.
	Parameters map[string]string
	Dial       func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Make implements Identities.
func (c *Claim) Make(ctx context.Context, name, _, data string) error {
	given := map[string]string{}
	for k, v := range c.Parameters {
		given[k] = strings.ReplaceAll(v, "{device}", name)
	}
	_, _, err := provision.Provision(ctx, provision.Options{Dir: data, Endpoint: c.Endpoint,
		ClientID: "claim-" + name, Template: c.Template, Parameters: given, Dial: c.Dial,
		Roots: func() (*x509.CertPool, error) { return provision.Roots(c.CA) },
		Claim: func() (tls.Certificate, error) { return secretfile.KeyPair(c.Cert, c.Key) }})
	return err
}

// Config implements Identities.
func (c *Claim) Config(name, _ string) (Config, error) {
	var paths [3]string
	for i, p := range []string{c.CA, c.Cert, c.Key} {
		abs, err := filepath.Abs(p)
		if err != nil {
			return Config{}, err
		}
		paths[i] = abs
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[uplink]\nendpoint = %q\nca = %q\n\n[provision]\ntemplate = %q\nclaim_cert = %q\nclaim_key = %q\n"+
		"client_id = %q\n[provision.parameters]\n", c.Endpoint, paths[0], c.Template, paths[1], paths[2], "claim-"+name)
	for _, k := range slices.Sorted(maps.Keys(c.Parameters)) {
		fmt.Fprintf(&b, "%q = %q\n", k, strings.ReplaceAll(c.Parameters[k], "{device}", name))
	}
	return Config{Tables: b.String()}, nil
}
