package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Local leases are of workers in one process, which alone has the store: so
// owners of the last process are gone, and that an owner lives need not be
// durable. A renewal is written nowhere.
type Local struct {
	save func(ctx context.Context, l *Lease, b *streams.Batch) error // nil: nowhere
	drop func(ctx context.Context, shard string) error

	mu  sync.Mutex // guards all; taken after an entry's mu
	all map[string]*entry
}

type entry struct {
	mu    sync.Mutex // held while the lease is written
	lease Lease
	gone  bool
}

// A leaseLog has keys that commit together with records.
type leaseLog interface {
	streams.Writer
	Scan(prefix []byte, f func(key, value []byte) bool) error
}

// InLog returns leases that are metadata of a log, under keys that begin with
// prefix. It reads those that are there.
func InLog(store leaseLog, prefix string) (*LogLeases, error) {
	l := &LogLeases{Local: Local{all: map[string]*entry{}}, store: store}
	key := func(shard string) []byte { return []byte(prefix + shard) }
	l.save = func(ctx context.Context, lease *Lease, b *streams.Batch) error {
		raw, err := json.Marshal(lease)
		if err != nil {
			return err
		}
		if b == nil {
			b = store.NewBatch()
		}
		b.Set(key(lease.Shard), raw)
		return store.Commit(ctx, b)
	}
	l.drop = func(ctx context.Context, shard string) error {
		b := store.NewBatch()
		b.Unset(key(shard))
		return store.Commit(ctx, b)
	}
	var bad error
	err := store.Scan([]byte(prefix), func(k, v []byte) bool {
		bad = l.load(v)
		return bad == nil
	})
	if err == nil {
		err = bad
	}
	if err != nil {
		return nil, fmt.Errorf("leases %s: %w", prefix, err)
	}
	return l, nil
}

// LogLeases are Local ones in a log. They commit with what is emitted there.
type LogLeases struct {
	Local
	store leaseLog
}

// updateWith is Update, in one commit with b.
func (l *LogLeases) updateWith(ctx context.Context, next *Lease, b *streams.Batch) error {
	return l.update(ctx, next, b)
}

// load takes over a stored lease.
func (l *Local) load(raw []byte) error {
	var e entry
	if err := json.Unmarshal(raw, &e.lease); err != nil {
		return err
	}
	e.lease.Owner = ""
	l.all[e.lease.Shard] = &e
	return nil
}

// List implements Leases.
func (l *Local) List(context.Context) ([]Lease, error) {
	l.mu.Lock()
	entries := slices.Collect(maps.Values(l.all))
	l.mu.Unlock()
	var all []Lease
	for _, e := range entries {
		e.mu.Lock()
		if !e.gone {
			all = append(all, e.lease)
		}
		e.mu.Unlock()
	}
	return all, nil
}

// Create implements Leases.
func (l *Local) Create(ctx context.Context, lease Lease) error {
	e := &entry{lease: lease}
	e.mu.Lock()
	defer e.mu.Unlock()
	l.mu.Lock()
	there := l.all[lease.Shard] != nil
	if !there {
		l.all[lease.Shard] = e
	}
	l.mu.Unlock()
	if there {
		return nil
	}
	if err := l.save(ctx, &lease, nil); err != nil {
		e.gone = true
		l.forget(lease.Shard, e)
		return err
	}
	return nil
}

func (l *Local) forget(shard string, e *entry) {
	l.mu.Lock()
	if l.all[shard] == e {
		delete(l.all, shard)
	}
	l.mu.Unlock()
}

// Update implements Leases.
func (l *Local) Update(ctx context.Context, next *Lease) error { return l.update(ctx, next, nil) }

func (l *Local) update(ctx context.Context, next *Lease, b *streams.Batch) error {
	l.mu.Lock()
	e := l.all[next.Shard]
	l.mu.Unlock()
	if e == nil {
		return errLost
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone || e.lease.Counter != next.Counter {
		return errLost
	}
	saved := *next
	saved.Counter++
	if b != nil || !sameWork(&e.lease, next) {
		if err := l.save(ctx, &saved, b); err != nil {
			return err
		}
	}
	e.lease = saved
	next.Counter = saved.Counter
	return nil
}

// sameWork says whether two writes of a lease differ only in what need not
// outlive the process.
func sameWork(a, b *Lease) bool {
	return a.Checkpoint == b.Checkpoint && (a.Pending == nil) == (b.Pending == nil) &&
		(a.Pending == nil || *a.Pending == *b.Pending)
}

// Delete implements Leases.
func (l *Local) Delete(ctx context.Context, lease Lease) error {
	l.mu.Lock()
	e := l.all[lease.Shard]
	l.mu.Unlock()
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone || e.lease.Counter != lease.Counter {
		return errLost
	}
	if err := l.drop(ctx, lease.Shard); err != nil {
		return err
	}
	e.gone = true
	l.forget(lease.Shard, e)
	return nil
}
