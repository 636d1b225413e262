// Package declare keeps the bridge as the files of bridge.d say: data streams, tables,
// delivery streams, topic rules and connectors.
//
// A Dir reads the files, applies them and watches them. Rules owns which topic
// rules are in force, those of files and those that were made through the API.
// Connectors runs the connectors that files declare.
//
// A file counts as a whole. One that is wrong changes nothing: what it declared
// before stays in force, over restarts too, since the registry keeps the last good
// content of each. A stream or delivery stream whose file is gone stays with its
// data; a table, a rule or a connector ends. Only bridge/server imports this package.
package declare

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/seal"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/firehose/catalogue"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
)

// Streams are the data streams that files declare; a kinesis.Service has them.
type Streams interface {
	Declare(kinesis.Declaration) error
}

// DeliveryStreams are those that files declare; a control.Service of package firehose
// has them.
type DeliveryStreams interface {
	Declare(*firehose.Config) error
}

// DirOptions are what a Dir needs.
type DirOptions struct {
	Path            string // of bridge.d
	Watch           bool   // apply what changes while Run runs
	Registry        registry.Store
	Seal            *seal.Key // of what Registry keeps of files; nil: it is kept as it is
	Streams         Streams
	Tables          *catalogue.Catalogue
	DeliveryStreams DeliveryStreams
	Rules           *Rules
	Connectors      *Connectors
	// Changed hears of each file that was applied, refused or is gone since the last
	// time, with the SHA-256 of its content before and after, "" for none; not of the
	// start, when all files are applied. It must not block. nil: nobody hears.
	Changed func(path, before, after string, refused error)
	Log     *slog.Logger
}

// A Dir is bridge.d with what its files declare. Its methods may be called from
// several goroutines.
type Dir struct {
	opts DirOptions

	mu       sync.Mutex         // one application at a time; guards what follows
	applied  map[string]outcome // by path; nil: nothing was applied yet
	lastGood lastGood
	notRead  map[string]bool // paths of files that were warned of

	refused atomic.Int64             // of applied, those with an error
	missing atomic.Pointer[[]string] // of applied, those wrong since the start of which nothing is in force
}

// OpenDir makes the folders of bridge.d, but for those that are gone with what
// was declared in them. It applies nothing.
func OpenDir(o DirOptions) (*Dir, error) {
	d := &Dir{opts: o, lastGood: lastGood{registry: o.Registry, seal: o.Seal, sync: syncPath, log: o.Log,
		unopened: map[string]bool{}}}
	if err := d.lastGood.load(); err != nil {
		return nil, err
	}
	for _, dir := range d.folders() {
		if d.lastGood.has(dir) {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// folders are the paths of the folders, in the order in which they are applied.
func (d *Dir) folders() []string {
	var dirs []string
	for _, k := range d.kinds() {
		dirs = append(dirs, filepath.Join(d.opts.Path, k.folder))
	}
	return dirs
}

// Run applies the files, and then what changes of them until ctx ends, if it
// is to watch.
func (d *Dir) Run(ctx context.Context) error {
	if !d.opts.Watch {
		<-ctx.Done()
		return nil
	}
	w := &watcher{
		root: d.opts.Path, dirs: d.folders(), listen: openListener, log: d.opts.Log,
		apply:   func() { _, _ = d.Apply(false) }, // what it refuses is logged
		refused: func() bool { return d.NumRefused() > 0 },
	}
	w.run(ctx)
	return nil
}

// Refused returns the files that are wrong as they are now, by path, and why.
// What they declared before, if anything, stays in force.
func (d *Dir) Refused() map[string]error {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := map[string]error{}
	for path, o := range d.applied {
		if o.err != nil {
			all[path] = o.err
		}
	}
	return all
}

// NumRefused is how many files are wrong. It does not wait.
func (d *Dir) NumRefused() int64 { return d.refused.Load() }

// Missing returns, by path, the files that were wrong at the start, still are,
// and have no earlier version in force: what they declare is not there. It does
// not wait.
func (d *Dir) Missing() []string {
	if all := d.missing.Load(); all != nil {
		return *all
	}
	return nil
}
