// Package index is the fleet index: it finds things by what the registry,
// their shadows and their connections say of them, in the query language of
// AWS IoT's fleet indexing, and thing groups by their names and attributes.
//
// An Index is in memory and made anew at each start. It holds what the
// registry's Indexing asks for, at first nothing. Run keeps it up to date: it
// hears that something about a thing has changed, and reads that thing anew
// from the registry and the shadow store. So the index follows within
// milliseconds, skips states that don't last, and can't drift away from what it
// indexes. Search, Buckets and the other aggregations answer from it.
//
// A dynamic thing group is a query that is asked of every change: Members lists
// who fits.
//
// Caveats:
//   - While the index is built for the first time queries are ErrNotReady: 100,000
//     things take a second or two, after a start as well. While it is rebuilt
//     for another configuration it answers with what it has.
//   - When a thing was last connected is forgotten with the process.
//   - Of a thing's shadows at most 1,000 values are indexed, the first by the names
//     of their fields and times last, and none whose field's name is longer than 256 bytes:
//     else a document of 8 KB could take megabytes here.
//   - Of Device Defender there is nothing, and there are no geographical queries.
package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/shadow"
)

// Errors that callers branch on, beside ErrQuery; match with errors.Is.
var (
	ErrNotReady = errors.New("fleet: the index is being built")
	ErrNoIndex  = errors.New(
		"fleet: there is no such index; it is off until the indexing configuration says otherwise")
	ErrAggregation = errors.New("fleet: cannot aggregate")
)

// The names of the indexes.
const (
	Things = "AWS_Things"
	Groups = "AWS_ThingGroups"
)

// A Status is that of an index.
type Status string

// The statuses of an index.
const (
	Off        Status = ""
	Building   Status = "BUILDING"
	Rebuilding Status = "REBUILDING"
	Active     Status = "ACTIVE"
)

// shadows is what an Index needs of the shadow store: Get returns a document,
// perhaps a deleted one, or nil.
type shadows interface {
	Get(thing, name string) (*shadow.Document, error)
}

// Options of an Index.
type Options struct {
	// Connectivity says that Connected and Disconnected will be called.
	Connectivity bool
	// Members is told who came into dynamic groups or left them, in order, but
	// for what happened before a start's index was built. It is called by Run's
	// goroutine: while it runs, the index falls behind.
	Members func([]Membership)
	Log     *slog.Logger
}

// A Membership says that a thing came into a dynamic group, or left it.
type Membership struct {
	Group, Thing string
	Added        bool
}

// How much Run does before it looks for what else is due.
const (
	batch      = 256 // things indexed at once
	retryAfter = time.Second
)

// A source is the registry: what an index reads, and hears of.
type source interface {
	registry.Viewer
	Watch(f func(registry.Event)) (stop func())
}

// An Index is the fleet's. Its methods may be called from several goroutines.
type Index struct {
	registry source
	shadows  shadows
	o        Options

	onThings, onGroups atomic.Bool // they are indexed
	woken              chan struct{}

	dirtyMu     sync.Mutex // guards what follows; taken within others' locks, and none within it
	dirty       map[string]struct{}
	dirtyGroups map[string]struct{}
	wanted, had uint64 // configurations so far, and those that were taken up
	presences   map[string]*presence

	mu     sync.RWMutex // guards what follows; the registry is not read under it
	config registry.Indexing
	things *corpus // nil: off
	groups *corpus
	status Status // of things
	listed bool   // all groups are in groups
	// dynamic are the dynamic groups that have been asked for, by name.
	dynamic map[string]*dynamic

	// Of Run's goroutine.
	allGroups bool // are to be looked at
	passing   bool // over all things
	passAfter string
}

// New returns an index over a registry and its shadows. It reads the
// configuration; the rest is Run's. Stop has it hear no more of the registry.
func New(r source, s shadows, o Options) (x *Index, stop func(), err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Members == nil {
		o.Members = func([]Membership) {}
	}
	x = &Index{registry: r, shadows: s, o: o, woken: make(chan struct{}, 1), dirty: map[string]struct{}{},
		dirtyGroups: map[string]struct{}{}, presences: map[string]*presence{}, dynamic: map[string]*dynamic{}}
	stop = r.Watch(x.registryChanged)
	if err := x.configure(); err != nil {
		stop()
		return nil, nil, err
	}
	return x, stop, nil
}

// registryChanged is called within registry.Update.
func (x *Index) registryChanged(e registry.Event) {
	switch e.Kind {
	case registry.ThingChanged:
		x.Changed(e.Name)
	case registry.GroupChanged:
		if x.onThings.Load() || x.onGroups.Load() {
			x.dirtyMu.Lock()
			x.dirtyGroups[e.Name] = struct{}{}
			x.dirtyMu.Unlock()
			x.wake()
		}
	case registry.IndexingChanged:
		x.dirtyMu.Lock()
		x.wanted++
		x.dirtyMu.Unlock()
		x.wake()
	}
}

// Changed says that something about a thing has changed: one of its shadows,
// that is, since the index hears of the registry by itself. It doesn't wait.
func (x *Index) Changed(thing string) {
	if !x.onThings.Load() {
		return
	}
	x.dirtyMu.Lock()
	x.dirty[thing] = struct{}{}
	x.dirtyMu.Unlock()
	x.wake()
}

func (x *Index) wake() {
	select {
	case x.woken <- struct{}{}:
	default:
	}
}

// Run keeps the index up to date until ctx ends.
func (x *Index) Run(ctx context.Context) error {
	for {
		more, err := x.step()
		var again <-chan time.Time
		woken := x.woken
		switch {
		case err != nil:
			x.o.Log.Warn("the fleet index cannot be brought up to date", "again_in", retryAfter, "err", err)
			again, woken = time.After(retryAfter), nil
		case more && ctx.Err() == nil:
			continue
		}
		select {
		case <-woken:
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// step does some of what is due; more says that there may be something left.
func (x *Index) step() (more bool, err error) {
	x.dirtyMu.Lock()
	wanted := x.wanted
	configured := wanted != x.had
	names := take(x.dirty, batch)
	groups := take(x.dirtyGroups, batch)
	x.dirtyMu.Unlock()
	defer func() {
		if err != nil { // another time, then
			x.dirtyMu.Lock()
			for _, n := range names {
				x.dirty[n] = struct{}{}
			}
			for _, n := range groups {
				x.dirtyGroups[n] = struct{}{}
			}
			x.dirtyMu.Unlock()
		}
	}()
	if configured {
		if err := x.configure(); err != nil {
			return false, err
		}
		x.dirtyMu.Lock()
		x.had = wanted
		x.dirtyMu.Unlock()
	}
	if x.allGroups {
		err := x.indexAllGroups()
		if errors.Is(err, registry.ErrCorrupt) {
			x.o.Log.Error("not all thing groups can be indexed", "err", err)
		} else if err != nil {
			return false, err
		}
		x.allGroups = false
		x.mu.Lock()
		x.listed = true
		x.mu.Unlock()
	}
	if len(groups) > 0 {
		if err := x.indexGroups(groups); err != nil {
			return false, err
		}
	}
	if len(names) > 0 {
		if err := x.index(names); err != nil {
			return false, err
		}
	}
	if x.passing {
		if err := x.pass(); err != nil {
			return false, err
		}
	}
	return configured || len(names) > 0 || len(groups) > 0 || x.passing, nil
}

// take takes up to n names out of all.
func take(all map[string]struct{}, n int) (names []string) {
	for name := range all {
		if len(names) == n {
			break
		}
		names = append(names, name)
		delete(all, name)
	}
	slices.Sort(names)
	return names
}

// configure takes up the registry's configuration.
func (x *Index) configure() error {
	var config registry.Indexing
	err := inRegistry.View(x.registry, func(tx records) (err error) {
		config, err = tx.Indexing()
		return err
	})
	if err != nil {
		return err
	}
	// Before anything is read, so that no change is missed.
	x.onThings.Store(config.Things)
	x.onGroups.Store(config.Groups)
	if !config.Things {
		x.forgetAll()
	}
	x.allGroups = true
	x.mu.Lock()
	defer x.mu.Unlock()
	before := x.config
	x.config = config
	switch {
	case !config.Things:
		x.things, x.status, x.passing = nil, Off, false
		clear(x.dynamic)
	case x.things == nil:
		x.things, x.status, x.passing, x.passAfter = newCorpus(), Building, true, ""
	case before.Shadows != config.Shadows || before.Connectivity != config.Connectivity ||
		before.Named != config.Named || !slices.Equal(before.NamedShadows, config.NamedShadows):
		x.passing, x.passAfter = true, ""
		if x.status == Active {
			x.status = Rebuilding
		}
	}
	if !config.Groups {
		x.groups = nil
	} else if x.groups == nil {
		x.groups, x.listed = newCorpus(), false
	}
	return nil
}

// pass indexes the next things of all.
func (x *Index) pass() error {
	var next string
	var names []string
	err := inRegistry.View(x.registry, func(tx records) (err error) {
		names, next, err = tx.ThingNames(x.passAfter, registry.MaxPage)
		return err
	})
	if err != nil {
		return err
	}
	if err := x.index(names); err != nil {
		return err
	}
	if x.passAfter = next; next != "" {
		return nil
	}
	x.passing = false
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.status == Building {
		for _, d := range x.dynamic {
			d.members = x.things.search(d.query)
		}
	}
	x.status = Active
	return nil
}

// index reads things and puts them into the index, or takes out what is gone.
func (x *Index) index(names []string) error {
	x.mu.RLock()
	config, on := x.config, x.things != nil
	x.mu.RUnlock()
	if !on {
		return nil
	}
	docs := make([]cells, len(names)) // nil: not registered
	var readers sync.WaitGroup
	share := max(64, (len(names)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	errs := make([]error, len(names)/share+1)
	for k := range errs {
		from, to := k*share, min((k+1)*share, len(names))
		readers.Go(func() { errs[k] = x.read(names[from:to], docs[from:to], &config) })
	}
	readers.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for len(names) > 0 {
		n := min(batch, len(names))
		if changes := x.apply(names[:n], docs[:n]); len(changes) > 0 {
			x.o.Members(changes)
		}
		names, docs = names[n:], docs[n:]
	}
	return nil
}

// read reads things into docs.
func (x *Index) read(names []string, docs []cells, config *registry.Indexing) error {
	err := inRegistry.View(x.registry, func(tx records) error {
		for i, name := range names {
			th, err := tx.Thing(name)
			if err == nil {
				docs[i] = make(cells, 0, 48)
				docs[i].thing(&th)
			} else if !errors.Is(err, registry.ErrNotFound) {
				x.o.Log.Error("a thing cannot be indexed", "thing", name, "err", err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, name := range names {
		if docs[i] == nil {
			x.forget(name)
		} else {
			x.rest(&docs[i], name, config)
		}
	}
	return nil
}

// rest adds what is not the registry's to a thing's cells.
func (x *Index) rest(c *cells, thing string, config *registry.Indexing) {
	add := func(name, prefix string) {
		d, err := x.shadows.Get(thing, name)
		if err != nil {
			x.o.Log.Error("a shadow cannot be indexed", "thing", thing, "shadow", name, "err", err)
		} else if d.Alive() {
			c.shadow(prefix, d)
		}
	}
	if config.Connectivity && x.o.Connectivity {
		p := x.presence(thing)
		c.presence(&p)
	}
	own := len(*c)
	if config.Shadows {
		add("", "shadow")
	}
	if config.Named {
		for _, name := range config.NamedShadows {
			add(name, "shadow.name."+name)
		}
	}
	c.limit(own)
}

// apply changes the index, and returns who came into groups and left them.
func (x *Index) apply(names []string, docs []cells) (changes []Membership) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.things == nil {
		return nil
	}
	groups := slices.Sorted(maps.Keys(x.dynamic))
	for i, name := range names {
		if docs[i] == nil {
			n, ok := x.things.remove(name)
			for _, g := range groups {
				if d := x.dynamic[g]; ok && d.members.has(n) {
					d.members.remove(n)
					changes = append(changes, Membership{g, name, false})
				}
			}
			continue
		}
		n := x.things.put(name, docs[i])
		if x.status == Building {
			continue // all at once, at the end
		}
		for _, g := range groups {
			d := x.dynamic[g]
			was, is := d.members.has(n), x.things.fits(d.query, n)
			switch {
			case is && !was:
				d.members.add(n)
			case was && !is:
				d.members.remove(n)
			default:
				continue
			}
			changes = append(changes, Membership{g, name, is})
		}
	}
	return changes
}

// Status returns that of an index by its name.
func (x *Index) Status(index string) Status {
	x.mu.RLock()
	defer x.mu.RUnlock()
	status := Off
	switch {
	case index == Things:
		status = x.status
	case index == Groups && x.groups != nil && x.listed:
		status = Active
	case index == Groups && x.groups != nil:
		status = Building
	}
	if x.outdated() && (index == Things || index == Groups) {
		switch status {
		case Off:
			return Building
		case Active:
			return Rebuilding
		}
	}
	return status
}

// outdated says that there is a configuration that is not taken up yet.
func (x *Index) outdated() bool {
	x.dirtyMu.Lock()
	defer x.dirtyMu.Unlock()
	return x.wanted != x.had
}

// Stats are numbers of an index of things.
type Stats struct {
	Things, Terms, DynamicGroups int
	Waiting                      int // changed things that are not indexed yet
}

// Stats returns numbers of the index as it is.
func (x *Index) Stats() (s Stats) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.things != nil {
		s.Things, s.Terms = len(x.things.order), len(x.things.byText)
	}
	s.DynamicGroups = len(x.dynamic)
	x.dirtyMu.Lock()
	defer x.dirtyMu.Unlock()
	s.Waiting = len(x.dirty)
	return s
}

// corpus returns an index that answers queries. mu is held.
func (x *Index) corpus(index string) (*corpus, error) {
	switch {
	case index == Things && x.status == Building:
		return nil, ErrNotReady
	case index == Things && x.things != nil:
		return x.things, nil
	case index == Groups && x.groups != nil && x.listed:
		return x.groups, nil
	case index == Groups && x.groups != nil:
		return nil, ErrNotReady
	case (index == Things || index == Groups) && x.outdated():
		return nil, ErrNotReady
	}
	return nil, fmt.Errorf("%w: %.100q", ErrNoIndex, index)
}

// Search returns the names of up to n things, or groups, that q finds, behind
// after and in order. next is the after of the next page, "" at the end.
func (x *Index) Search(index string, q *Query, after string, n int) (names []string, next string, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	c, err := x.corpus(index)
	if err != nil {
		return nil, "", err
	}
	names, next = c.page(c.search(q), after, n)
	return names, next, nil
}
