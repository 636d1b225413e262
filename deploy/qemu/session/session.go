// Package session has a simulated device with all that it needs: a bridge on this
// machine, a claim by which the device is provisioned at its first boot, and the
// device. Everything is in one folder, and talks over loopback alone.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/deploy/qemu/machine"
	"github.com/tidemill/tidemill/deploy/qemu/parts"
	"github.com/tidemill/tidemill/deploy/rig"
)

// Stream is where a rule puts every reading, with the thing and the sensor.
const Stream = "readings"

// Its records have the units too: [{"unit.temperature": "°C"}].
const rule = `{"sql": "SELECT *, topic(2) AS thing, topic(3) AS sensor, get_user_properties() AS units FROM 'dt/#'",
"awsIotSqlVersion": "2016-03-23", "actions": [{"kinesis": {"streamName": "readings", "partitionKey": "${topic(2)}",
"roleArn": "arn:aws:iam::000000000000:role/rules"}}]}`

// A Session is a bridge with its devices.
type Session struct {
	Dir    string
	Bridge *rig.Bridge

	root  string // of the project, whose programs the devices run
	store *parts.Store
}

// Open starts a bridge in a folder, with the stream Stream. root is the project's
// root, bin are its programs.
func Open(ctx context.Context, store *parts.Store, root string, bin rig.Bin, dir string) (*Session, error) {
	b, err := rig.NewBridge(bin, dir, "[ingest]\nunits = true\n")
	if err != nil {
		return nil, err
	}
	s := &Session{Dir: dir, Bridge: b, root: root, store: store}
	if err := errors.Join(b.Declare("streams/"+Stream+".json", `{"StreamName": "`+Stream+`"}`),
		b.Declare("rules/readings.json", rule)); err != nil {
		return nil, err
	}
	if err := b.Start(); err != nil {
		return nil, err
	}
	if err := b.Ready(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close ends the bridge.
func (s *Session) Close() error { return s.Bridge.Stop(20 * time.Second) }

// Device makes a device named thing on a board, with sensors as its configuration has
// them. It has never run: its card has a claim and no identity.
func (s *Session) Device(ctx context.Context, board machine.Board, thing, sensors string, clock bool) (*machine.Machine,
	error) {
	dir := filepath.Join(s.Dir, thing)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	soft, err := Build(ctx, s.root, board, dir)
	if err != nil {
		return nil, err
	}
	soft.Clock = clock
	m, err := machine.New(ctx, s.store, board, dir, soft)
	if err != nil {
		return nil, err
	}
	files, err := os.MkdirTemp(dir, "card-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(files)
	if err := s.fill(ctx, files, thing, sensors); err != nil {
		return nil, err
	}
	return m, m.Card(ctx, files)
}

// Build makes the programs of a board in dir; root is the project's root.
func Build(ctx context.Context, root string, board machine.Board, dir string) (soft machine.Software, err error) {
	if dir, err = filepath.Abs(dir); err != nil {
		return soft, err
	}
	if err := rig.Look(root, "agent", "hal", "shadow", "deploy/qemu/guest"); err != nil {
		return soft, err
	}
	soft = machine.Software{Init: filepath.Join(dir, "init"), Agent: filepath.Join(dir, "tidemill-agent"), Clock: true}
	for pkg, to := range map[string]string{"./agent": soft.Agent, "./deploy/qemu/guest": soft.Init} {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, pkg)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+board.GOARCH, "GOARM="+board.GOARM, "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return soft, fmt.Errorf("build %s for %s: %w\n%s", pkg, board.GOARCH, err, out)
		}
	}
	return soft, nil
}

// fill writes what a card begins with.
func (s *Session) fill(ctx context.Context, dir, thing, sensors string) error {
	c, err := NewClaim(ctx, s.Bridge)
	if err != nil {
		return fmt.Errorf("claim: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(s.Bridge.Dir, "pki", "ca.pem"))
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(s.Bridge.MQTT)
	if err != nil {
		return err
	}
	for name, text := range map[string]string{"ca.pem": string(ca), "claim.pem": c.Cert, "claim.key": c.Key,
		"agent.toml": fmt.Sprintf(agentConfig, port, Template, thing, sensors)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// agentConfig is the device's. 10.0.2.2 is how it sees the host's loopback.
const agentConfig = `data_dir = "data"
log.format = "text"
[uplink]
endpoint = "10.0.2.2:%s"
tls_server_name = "localhost"
ca = "ca.pem"
backoff_max = "5s"
connect_timeout = "5s"
ack_timeout = "10s"
[provision]
template = %q
claim_cert = "claim.pem"
claim_key = "claim.key"
[provision.parameters]
SerialNumber = %q
[spool]
flush_every = "1s"
%s`

// A Record is a reading in the stream.
type Record struct {
	Thing, Sensor string
	Values        map[string]any // all of it
}

// Unit is the unit of one of its channels, "" for none.
func (r Record) Unit(channel string) string {
	all, _ := r.Values["units"].([]any)
	for _, one := range all {
		if property, ok := one.(map[string]any); ok {
			if unit, ok := property["unit."+channel].(string); ok {
				return unit
			}
		}
	}
	return ""
}

// Records reads the stream from its beginning; follow goes on until ctx ends or each
// returns false.
func (s *Session) Records(ctx context.Context, follow bool, each func(r Record) bool) error {
	body, err := s.Bridge.Open(ctx, "/v1/streams/records", url.Values{"name": {Stream}, "from": {"oldest"},
		"follow": {fmt.Sprint(follow)}})
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var line admin.StreamRecord
		if err := dec.Decode(&line); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return errors.Join(err, ctx.Err())
		}
		r := Record{}
		values := json.NewDecoder(strings.NewReader(string(line.JSON)))
		values.UseNumber() // some are whole numbers above 2^53
		if err := values.Decode(&r.Values); err != nil {
			return fmt.Errorf("record %s: %w", line.JSON, err)
		}
		r.Thing, _ = r.Values["thing"].(string)
		r.Sensor, _ = r.Values["sensor"].(string)
		if !each(r) {
			return nil
		}
	}
}
