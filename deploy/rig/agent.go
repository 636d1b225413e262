package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// An Agent is a tidemill-agent with an identity that a bridge made for it.
type Agent struct {
	Process
	Thing string
	Dir   string // identity, configuration and data
	Log   string
	bin   Bin
}

// NewAgent creates the thing at the bridge and prepares its agent under dir.
// It connects to endpoint, which may be a Proxy's. extra is appended to the
// configuration that the bridge wrote.
func NewAgent(ctx context.Context, b *Bridge, thing, dir, endpoint, extra string) (*Agent, error) {
	a := OpenAgent(b.bin, thing, dir)
	if _, err := b.Command(ctx, "thing", "create", thing, "-out", a.Dir, "-endpoint", endpoint, "-sensor",
		"none"); err != nil {
		return nil, err
	}
	if err := a.Configure(extra); err != nil {
		return nil, err
	}
	return a, nil
}

// OpenAgent is the agent of a thing that NewAgent once prepared under dir.
func OpenAgent(bin Bin, thing, dir string) *Agent {
	a := &Agent{Thing: thing, Dir: filepath.Join(dir, thing), Log: filepath.Join(dir, thing+".log"), bin: bin}
	a.Process = Process{Path: bin.Agent, Args: []string{"run", "-config", a.config()}, LogFile: a.Log}
	return a
}

func (a *Agent) config() string { return filepath.Join(a.Dir, "agent-rig.toml") }

// Configure replaces what was appended to the agent's configuration, which
// ends in the table [uplink]; SIGHUP or the next start applies it.
func (a *Agent) Configure(extra string) error {
	base, err := os.ReadFile(filepath.Join(a.Dir, "agent.toml"))
	if err != nil {
		return err
	}
	return os.WriteFile(a.config(), append(base, "\n"+extra...), 0o600)
}

// SpoolFile is where the agent's spool is.
func (a *Agent) SpoolFile() string { return filepath.Join(a.Dir, "data", "spool.db") }

// Status asks the running agent and decodes what it says of itself.
func (a *Agent) Status(ctx context.Context, out any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	text, err := a.Command(ctx, "status", "-json")
	if err != nil {
		return err
	}
	return json.Unmarshal(text, out)
}

// Command runs `tidemill-agent ARGS` with this agent's configuration and
// returns what it printed.
func (a *Agent) Command(ctx context.Context, args ...string) ([]byte, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, a.bin.Agent, append(args, "-config", a.config())...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("tidemill-agent %v of %s: %w\n%s", args, a.Thing, err, errs.Bytes())
	}
	return out.Bytes(), nil
}
