package server

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/connector/emit"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// connectors runs those that files of bridge.d declare, each in a goroutine of
// its own.
type connectors struct {
	env connector.Env
	log *slog.Logger

	mu      sync.Mutex // guards what follows, and the file of all runnings
	files   map[string]connectorFile
	running map[string]*running
	start   func(*running) // nil while the bridge does not run
}

// A connectorFile is what was made of a file.
type connectorFile struct {
	declaredFile
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

func newConnectors(s *Server) *connectors {
	return &connectors{
		env: connector.Env{Store: s.store, API: s.kinesis.In(""), Emit: s.newEmitter, Log: s.log},
		log: s.log, files: map[string]connectorFile{}, running: map[string]*running{},
	}
}

// newEmitter makes the emitters of connectors, which find the bridge's objects
// and streams.
func (s *Server) newEmitter(kind string, doc json.RawMessage) (connector.Emitter, error) {
	return emit.New(kind, doc, emit.Env{Objects: s.objects, Append: func(ctx context.Context, stream, key string, data []byte) error {
		b := s.store.NewBatch()
		b.Put(stream, streams.HashOf(key), streams.Record{Key: key, Data: data})
		return s.store.Commit(ctx, b)
	}})
}

// apply puts the connectors of the files in force, in the place of those that
// files declared before. A file that is wrong leaves what it declared; without
// its file a connector ends, and what is durable of it stays. Where two files
// declare the same, the one that had it before has it, else the first by name.
func (c *connectors) apply(files []file) map[string]declaredFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, by := map[string]connectorFile{}, map[string]string{}
	var changed []string
	for _, f := range files {
		old := c.files[f.path]
		n := connectorFile{declaredFile{sum: f.sum, err: f.err}, nil}
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
	told := map[string]declaredFile{}
	for path, n := range next {
		if n.name != "" {
			n.holds = 1
		}
		told[path] = n.declaredFile
	}
	return told
}

// set gives a connector another file, making it if there is none; nil ends it.
func (c *connectors) set(name, path string, f *connector.File) {
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

// run runs connectors until ctx ends and all have stopped.
func (c *connectors) run(ctx context.Context) error {
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
func (c *connectors) keep(ctx context.Context, r *running) {
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
func (c *connectors) once(ctx context.Context, r *running, conn *connector.Connector) {
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

// ConnectorInfo describes a connector of the bridge.
type ConnectorInfo struct {
	connector.Status
	To   string `json:"to"` // the emitter
	File string `json:"file"`
}

func (c *connectors) list() []ConnectorInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []ConnectorInfo{}
	for _, r := range c.running {
		if r.file == nil {
			continue // it is about to end
		}
		from, to := r.file.Describe()
		info := ConnectorInfo{Status: connector.Status{Name: r.name, Stream: from, Shards: []connector.ShardStatus{}}, To: to, File: r.path}
		if r.conn != nil {
			info.Status = r.conn.Status()
		} else if r.trouble != nil {
			info.Trouble = r.trouble.Error()
		}
		all = append(all, info)
	}
	slices.SortFunc(all, func(a, b ConnectorInfo) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (s *Server) listConnectors(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, s.connectors.list())
}

func (x series) connectors(s *Server) {
	for _, c := range s.connectors.list() {
		for _, n := range []struct {
			name, help string
			value      int64
		}{
			{"records", "User records read.", c.Records},
			{"filtered", "Records that a filter passed over.", c.Filtered},
			{"emitted", "Items written.", c.Emitted},
			{"emitted_bytes", "Bytes in them.", c.Bytes},
			{"batches", "Batches done.", c.Batches},
			{"refused", "Items refused, each time they were.", c.Failed},
			{"retries", "Attempts after the first, for items that were refused.", c.Retries},
			{"outages", "Attempts that failed as a whole and are repeated.", c.Outages},
			{"dead_letters", "Items that went to the dead letters.", c.Dead},
			{"read_failures", "Reads that failed and are repeated.", c.ReadFails},
			{"lost_shards", "Shards that went before they were read to the end.", c.Lost},
		} {
			x.counter("connector_"+n.name, n.help, float64(n.value), "connector", c.Name)
		}
		for _, sh := range c.Shards {
			if sh.Checkpoint == connector.ShardEnd {
				continue
			}
			labels := []string{"connector", c.Name, "shard", sh.Shard}
			x.gauge("connector_behind_seconds", "How far the shard is behind its tip, when last read.", sh.Behind.Seconds(), labels...)
			x.gauge("connector_buffered", "Items that wait for a batch.", float64(sh.Buffered), labels...)
			held := 0.0
			if sh.Trouble != "" {
				held = 1
			}
			x.gauge("connector_held", "1 while the shard stands still since something fails.", held, labels...)
		}
	}
}
