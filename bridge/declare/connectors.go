package declare

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/connector"
)

// Connectors runs the connectors that files of bridge.d declare, each in a
// goroutine of its own.
type Connectors struct {
	env connector.Env
	log *slog.Logger

	mu      sync.Mutex // guards what follows, and the file of all runnings
	files   map[string]connectorFile
	running map[string]*running
	start   func(*running) // nil while the bridge does not run
}

// A connectorFile is what was made of a file.
type connectorFile struct {
	outcome
	doc *connector.File // of the content; nil if that is wrong
}

// A running is a connector that is in force.
type running struct {
	name    string
	path    string
	file    *connector.File // nil: it is to end
	changed chan struct{}

	conn    *connector.Connector // nil: not yet
	trouble error                // why there is none
}

// NewConnectors returns a Connectors without any. The log is env's.
func NewConnectors(env connector.Env) *Connectors {
	return &Connectors{env: env, log: env.Log, files: map[string]connectorFile{}, running: map[string]*running{}}
}

// apply puts the connectors of the files in force, in the place of those that
// files declared before. A file that is wrong leaves what it declared; without
// its file a connector ends, and what is durable of it stays. Where two files
// declare the same, the one that had it before has it, else the first by name.
func (c *Connectors) apply(files []file) map[string]outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, by := map[string]connectorFile{}, map[string]string{}
	var changed []string
	for _, f := range files {
		old := c.files[f.path]
		n := connectorFile{outcome{sum: f.sum, err: f.err}, nil}
		switch {
		case f.err != nil:
		case old.sum == f.sum && old.err == nil && old.doc != nil:
			n.doc = old.doc
		default:
			n.doc, n.err = connector.ParseFile(f.doc, c.env.Emit, true)
			changed = append(changed, f.path)
		}
		if n.err != nil || old.name != "" && n.doc.ConnectorName == old.name {
			n.name = old.name // it keeps what it had
			by[n.name] = f.path
		}
		next[f.path] = n
	}
	for _, path := range changed {
		n := next[path]
		if n.err != nil {
			continue
		}
		name := n.doc.ConnectorName
		if other := by[name]; other != "" && other != path {
			n.err = takenError{fmt.Errorf("connector %s is in %s already", name, other)}
			if n.name = c.files[path].name; by[n.name] != "" {
				n.name = ""
			}
			by[n.name] = path
		} else {
			n.name, by[name] = name, path
			c.set(name, path, n.doc)
		}
		next[path] = n
	}
	for name := range c.running {
		if by[name] == "" {
			c.set(name, "", nil)
		}
	}
	c.files = next
	outcomes := map[string]outcome{}
	for path, n := range next {
		if n.name != "" {
			n.holds = 1
		}
		outcomes[path] = n.outcome
	}
	return outcomes
}

// set gives a connector another file, making it if there is none; nil ends it.
func (c *Connectors) set(name, path string, f *connector.File) {
	r := c.running[name]
	if r == nil {
		r = &running{name: name, changed: make(chan struct{}, 1)}
		c.running[name] = r
		if c.start != nil {
			defer c.start(r)
		}
	}
	r.path, r.file = path, f
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Run runs the connectors until ctx ends and all have stopped.
func (c *Connectors) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	c.mu.Lock()
	c.start = func(r *running) { wg.Go(func() { c.keep(ctx, r) }) }
	for _, r := range c.running {
		c.start(r)
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	c.start = nil
	c.mu.Unlock()
	wg.Wait()
	return nil
}

// openAgain is how long it takes until a connector that could not be opened is
// tried again: its stream may be there by then.
const openAgain = 5 * time.Second

// keep runs a connector as its file says, until it has none or ctx ends.
func (c *Connectors) keep(ctx context.Context, r *running) {
	for ctx.Err() == nil {
		select {
		case <-r.changed:
		default:
		}
		c.mu.Lock()
		f := r.file
		if f == nil {
			delete(c.running, r.name)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		conn, err := f.Open(ctx, c.env)
		c.mu.Lock()
		r.conn, r.trouble = conn, err
		c.mu.Unlock()
		if err != nil {
			c.log.Warn("a connector cannot begin, will retry", "connector", r.name, "err", err, "in", openAgain)
			select {
			case <-r.changed:
			case <-time.After(openAgain):
			case <-ctx.Done():
			}
			continue
		}
		c.once(ctx, r, conn)
	}
}

// once runs a connector until its file changes or ctx ends.
func (c *Connectors) once(ctx context.Context, r *running, conn *connector.Connector) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn.Run(ctx)
	}()
	select {
	case <-r.changed:
	case <-ctx.Done():
	}
	cancel()
	<-done
	if err := conn.Close(); err != nil {
		c.log.Warn("closing a connector failed", "connector", r.name, "err", err)
	}
}

// List describes the connectors that are in force, by name.
func (c *Connectors) List() []connector.Info {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []connector.Info{}
	for _, r := range c.running {
		if r.file == nil {
			continue // it is about to end
		}
		from, to := r.file.Describe()
		info := connector.Info{To: to, File: r.path,
			Status: connector.Status{Name: r.name, Stream: from, Shards: []connector.ShardStatus{}}}
		if r.conn != nil {
			info.Status = r.conn.Status()
		} else if r.trouble != nil {
			info.Trouble = r.trouble.Error()
		}
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b connector.Info) int { return strings.Compare(a.Name, b.Name) })
	return all
}
