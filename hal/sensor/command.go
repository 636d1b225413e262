package sensor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/payload"
)

var commandDriver = driver{
	Driver: Driver{
		Name:    "command",
		Summary: "a program whose lines are readings: JSON objects, key=value, or name value",
		Options: []Option{
			{"command", "strings", "", `required: the program's absolute path and its arguments; no shell`},
			{"mode", "string", "interval", "interval: run for each reading, all its lines are one; " +
				"stream: kept running, each line is one"},
			{"dir", "string", "/", "where it runs"},
			{"env", "table", "", "its environment beside PATH and LANG; it gets nothing of the agent's"},
			{"channels", "tables", "", channelsHelp},
		},
		Tables: map[string][]Option{"channels": channelOptions},
	},
	set: func(o *options) opener {
		p := program{argv: o.list("command", hasNUL), dir: o.text("dir", "/")}
		if _, ok := o.values["command"]; !ok {
			o.fail("command", "missing")
		} else if p.argv != nil && !filepath.IsAbs(p.argv[0]) {
			o.fail("command", "%q, want an absolute path first", p.argv[0])
		}
		if !filepath.IsAbs(p.dir) {
			o.fail("dir", "%q, want an absolute path", p.dir)
		}
		p.env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}
		env := o.textMap("env")
		for _, k := range slices.Sorted(maps.Keys(env)) {
			if strings.Contains(k, "=") {
				o.fail("env", "%q, want names without =", k)
				break
			}
			p.env = append(p.env, k+"="+env[k])
		}
		m := o.mapping()
		if o.choice("mode", "interval", "stream") == "stream" {
			return func(ctx context.Context, _ hal.Board) (hal.Sensor, error) { return streamCommand(ctx, p, m) }
		}
		return func(ctx context.Context, _ hal.Board) (hal.Sensor, error) { return intervalCommand(ctx, p, m) }
	},
}

// hasNUL says that no program can be given s. Scripts may have several lines.
func hasNUL(s string) bool { return strings.Contains(s, "\x00") }

// A program is what to run.
type program struct {
	argv, env []string
	dir       string
}

func (p program) name() string { return "command " + filepath.Base(p.argv[0]) }

// grace is how long a program has to end by itself after SIGTERM.
const grace = time.Second

// run runs the program until its end or ctx's, and calls on for each line of its
// output. Its whole process group is ended then: SIGTERM, and SIGKILL after grace. A
// failure names the exit status and the last line of the standard error output.
func (p program) run(ctx context.Context, started func(), on func([]byte)) error {
	log := &limitedLog{log: slog.Default().With("program", p.argv[0])}
	last := ""
	out := &lineSplitter{on: on}
	said := &lineSplitter{on: func(line []byte) {
		last = strings.ToValidUTF8(string(line[:min(len(line), 200)]), "?")
		log.warn("a program says", "line", last)
	}}
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env, cmd.Dir = p.env, p.dir
	cmd.Stdout, cmd.Stderr = out, said
	cmd.SysProcAttr = ownGroup()
	// What left the group may hold the output open for ever.
	cmd.WaitDelay = grace
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", hal.ErrNoDevice, err)
	}
	started()
	ended := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
			endGroup(cmd.Process.Pid, false)
			select {
			case <-time.After(grace):
				endGroup(cmd.Process.Pid, true)
			case <-ended:
			}
		case <-ended:
		}
	}()
	awaitLeader(cmd.Process.Pid)
	close(ended)
	<-stopped
	endGroup(cmd.Process.Pid, true) // what it left behind; the process itself is not reaped yet
	err := cmd.Wait()
	out.end()
	said.end()
	if out.long > 0 {
		log.warn("lines are too long", "lines", out.long, "max", maxLine)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return nil
	case last != "":
		last = ": " + last
	}
	return &programError{err, last}
}

// A programError is an ErrFault of a program, which is no chip.
type programError struct {
	err  error
	last string // ": " and the last line of its standard error
}

func (e *programError) Error() string   { return "the program failed: " + e.err.Error() + e.last }
func (e *programError) Unwrap() []error { return []error{ErrFault, e.err} }

// streamCommand keeps a program running: each line is a reading.
func streamCommand(ctx context.Context, p program, m *mapping) (hal.Sensor, error) {
	f := &feed{name: p.name(), channels: m.channels}
	r := &lineReader{feed: f, mapping: m, log: &limitedLog{log: slog.Default().With("program", p.argv[0])}}
	err := f.start(ctx, func(ctx context.Context) error {
		err := p.run(ctx, f.ready, func(line []byte) { r.line(ctx, line) })
		if err == nil {
			err = fmt.Errorf("%w: it ended with exit status 0", hal.ErrNoDevice)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	return f, nil
}

// maxOutput is what is taken of one run's output.
const maxOutput = payload.MaxBytes

// A commandRun runs a program for each reading.
type commandRun struct {
	program  program
	mapping  *mapping
	channels []hal.Channel
	calls    calls
	end      chan struct{} // closed by Close
}

func intervalCommand(ctx context.Context, p program, m *mapping) (hal.Sensor, error) {
	c := &commandRun{program: p, mapping: m, channels: m.channels, end: make(chan struct{})}
	c.calls.release = func() error { return nil }
	members, err := c.members(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name(), err)
	}
	if m.auto() {
		if c.channels, _ = automatic(members); len(c.channels) == 0 {
			return nil, fmt.Errorf("%s: %w: it says no number or truth value", p.name(), ErrNotReady)
		}
	}
	return c, nil
}

// members runs the program once.
func (c *commandRun) members(ctx context.Context) ([]payload.Member, error) {
	var out []payload.Member // written by a run that may outlast do
	if err := c.calls.do(ctx, func() (err error) {
		out, err = c.once(ctx)
		return err
	}); err != nil {
		return nil, err
	}
	return out, nil
}

func (c *commandRun) once(ctx context.Context) ([]payload.Member, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-c.end:
			cancel()
		case <-ctx.Done():
		}
	}()
	var out []payload.Member
	size := 0
	var wrong error
	err := c.program.run(ctx, func() {}, func(line []byte) {
		if size += len(line); size > maxOutput || wrong != nil {
			return
		}
		members, err := payload.Line(line)
		if err != nil {
			wrong = fmt.Errorf("%w: %w", ErrProtocol, err)
			return
		}
		for _, m := range members { // what is said again counts
			if i := slices.IndexFunc(out, func(o payload.Member) bool { return o.Path == m.Path }); i >= 0 {
				out[i] = m
			} else if len(out) < payload.MaxMembers {
				out = append(out, m)
			}
		}
	})
	switch {
	case err != nil:
		return nil, err
	case wrong != nil:
		return nil, wrong
	case size > maxOutput:
		return nil, fmt.Errorf("%w: it said more than %d bytes", ErrProtocol, maxOutput)
	}
	return out, nil
}

// Channels are those declared, or else what the program said at Open.
func (c *commandRun) Channels() []hal.Channel { return c.channels }

// Read runs the program. It is ended when it is not done by ctx's end.
func (c *commandRun) Read(ctx context.Context) ([]hal.Value, error) {
	members, err := c.members(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.program.name(), err)
	}
	chs, vals, ok := c.mapping.apply(members)
	if !ok {
		return nil, fmt.Errorf("%s: %w: it says nothing that is wanted", c.program.name(), ErrNotReady)
	}
	if !c.mapping.auto() {
		return vals, nil
	}
	out := make([]hal.Value, len(c.channels))
	for i, want := range c.channels {
		if j := slices.Index(chs, want); j >= 0 {
			out[i] = vals[j]
		}
	}
	return out, nil
}

// Close ends a program that still runs, without waiting for it.
func (c *commandRun) Close() error {
	c.calls.mu.Lock()
	first := !c.calls.closed
	c.calls.mu.Unlock()
	err := c.calls.close()
	if first {
		close(c.end)
	}
	return err
}
