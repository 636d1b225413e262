package connector

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// A worker takes leases, one for each shard, and works on the shards whose
// leases it has. Workers know of each other by the leases alone, as those of
// the Kinesis client library do.
type worker struct {
	*Connector
	id   string
	kick chan struct{} // asks for a round now

	synced time.Time           // when the shards were last looked at
	seen   map[string]sighting // of other workers' leases

	mu   sync.Mutex // guards held
	held map[string]*held
	wg   sync.WaitGroup // of consumers
}

// A sighting is when a lease was first seen with its counter.
type sighting struct {
	counter int64
	at      time.Time
}

// run works until ctx ends and all consumers have stopped. Leases are renewed
// until then.
func (w *worker) run(ctx context.Context) {
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var renewer sync.WaitGroup
	renewer.Go(func() { w.renew(renewing) })
	for ctx.Err() == nil {
		if err := w.look(ctx); ctx.Err() == nil {
			w.board.say(err)
			if err != nil {
				w.log.Warn("the shards or leases cannot be had, will retry", "err", err)
			}
		}
		next := time.NewTimer(jitter(w.Failover))
		select {
		case <-ctx.Done():
		case <-next.C:
		case <-w.kick:
		}
		next.Stop()
	}
	w.wg.Wait()
	stop()
	renewer.Wait()
}

// look sees to the leases of new and gone shards now and then, and takes
// leases.
func (w *worker) look(ctx context.Context) error {
	var err error
	if w.synced.IsZero() || time.Since(w.synced) >= w.SyncEvery {
		err = w.sync(ctx)
	}
	if w.synced.IsZero() {
		return err
	}
	return errors.Join(err, w.take(ctx))
}

// renew keeps the leases that are held.
func (w *worker) renew(ctx context.Context) {
	for sleep(ctx, w.Failover/3) == nil {
		w.mu.Lock()
		held := slices.Collect(maps.Values(w.held))
		w.mu.Unlock()
		var wg sync.WaitGroup
		limit := make(chan struct{}, 20) // requests at once
		for _, h := range held {
			limit <- struct{}{}
			wg.Go(func() {
				defer func() { <-limit }()
				ctx, cancel := context.WithTimeout(ctx, w.Failover/3)
				defer cancel()
				if err := h.renew(ctx); err != nil && !errors.Is(err, errLost) && ctx.Err() == nil {
					w.log.Warn("a lease cannot be renewed, will retry", "shard", h.lease.Shard, "err", err)
				}
			})
		}
		wg.Wait()
	}
}

// sync makes leases for the shards that have none and removes those of shards
// that are gone.
func (w *worker) sync(ctx context.Context) error {
	leases, err := w.Leases.List(ctx) // before the shards: a lease made meanwhile is not of one that is gone
	if err != nil {
		return err
	}
	shards, err := w.Source.Shards(ctx)
	if err != nil {
		return err
	}
	listed, have := map[string]bool{}, map[string]Lease{}
	for _, s := range shards {
		listed[s.ID] = true
	}
	for _, l := range leases {
		have[l.Shard] = l
	}
	slices.SortFunc(shards, func(a, b Shard) int { return compareIDs(a.ID, b.ID) }) // parents first
	start := w.Start
	if start.Sequence == Latest {
		start = Position{Sequence: AtTimestamp, Time: time.Now().Truncate(time.Millisecond)}
	}
	for _, s := range shards {
		if _, there := have[s.ID]; there {
			continue
		}
		from := start
		for _, p := range s.Parents {
			if l, there := have[p]; there {
				from = l.Start
			}
		}
		l := newLease(s, from)
		if err := w.Leases.Create(ctx, l); err != nil {
			return err
		}
		have[s.ID] = l
	}
	for _, l := range leases {
		if !listed[l.Shard] {
			if err := w.remove(ctx, l); err != nil {
				return err
			}
		}
	}
	w.synced = time.Now()
	return nil
}

func newLease(s Shard, start Position) Lease {
	return Lease{Shard: s.ID, Parents: s.Parents, Range: s.Range, Start: start, Checkpoint: start}
}

// remove removes the lease of a shard that is gone. One that another worker
// holds is left to that.
func (w *worker) remove(ctx context.Context, l Lease) error {
	w.mu.Lock()
	h := w.held[l.Shard]
	w.mu.Unlock()
	if h != nil {
		return nil // its consumer will see it
	}
	if l.Owner != "" && l.Owner != w.id && !w.expired(&l) {
		return nil
	}
	err := w.Leases.Delete(ctx, l)
	if errors.Is(err, errLost) {
		return nil
	}
	if err == nil && !l.ended() {
		w.lost(l.Shard)
	}
	return err
}

// lost notes that a shard went before it was read to its end.
func (c *Connector) lost(shard string) {
	c.board.count(func(c *Counts) { c.Lost++ })
	c.log.Error("a shard went before it was read to its end: retention was faster", "shard", shard)
}

// expired says whether a lease's owner has been silent for so long that it is
// taken for dead, by this worker's clock.
func (w *worker) expired(l *Lease) bool {
	s, ok := w.seen[l.Shard]
	return ok && s.counter == l.Counter && time.Since(s.at) > w.Failover
}

// take takes leases: those that are free, up to a fair share; and if there are
// none, one of the worker that has the most, if that has two more at least.
func (w *worker) take(ctx context.Context) error {
	began := time.Now()
	all, err := w.Leases.List(ctx)
	if err != nil {
		return err
	}
	w.board.leases(all)
	ended, have := map[string]bool{}, map[string]bool{}
	for _, l := range all {
		have[l.Shard] = true
		ended[l.Shard] = l.ended()
		if s, ok := w.seen[l.Shard]; !ok || s.counter != l.Counter {
			w.seen[l.Shard] = sighting{l.Counter, began}
		}
	}
	maps.DeleteFunc(w.seen, func(shard string, _ sighting) bool { return !have[shard] })

	there, err := w.there(ctx, all, have)
	if err != nil {
		return err
	}
	load := map[string]int{w.id: 0}
	var free []Lease
	byOwner, total := map[string][]Lease{}, 0
	w.mu.Lock()
	for _, l := range all {
		_, mine := w.held[l.Shard]
		waits := slices.ContainsFunc(l.Parents, func(p string) bool { return have[p] && !ended[p] || there[p] })
		switch {
		case l.ended() || waits:
			continue
		case mine:
			load[w.id]++
		case l.Owner == "" || l.Owner == w.id || w.expired(&l):
			free = append(free, l)
		default:
			load[l.Owner]++
			byOwner[l.Owner] = append(byOwner[l.Owner], l)
		}
		total++
	}
	w.mu.Unlock()

	share := (total + len(load) - 1) / len(load)
	if len(free) == 0 {
		most := w.id
		for _, o := range slices.Sorted(maps.Keys(load)) {
			if load[o] > load[most] {
				most = o
			}
		}
		if load[most]-load[w.id] >= 2 {
			free, share = []Lease{byOwner[most][rand.N(len(byOwner[most]))]}, load[w.id]+1
		}
	}
	rand.Shuffle(len(free), func(i, j int) { free[i], free[j] = free[j], free[i] })
	for _, l := range free[:max(0, min(len(free), share-load[w.id]))] {
		if err := w.start(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// there finds which parents of shards that nobody works on have no lease, but
// are in the stream: their turn comes first. What was listed before the leases
// were does not tell that a parent is gone, only that it was not there yet.
func (w *worker) there(ctx context.Context, all []Lease, have map[string]bool) (map[string]bool, error) {
	if !slices.ContainsFunc(all, func(l Lease) bool {
		return !l.ended() && l.Owner == "" && slices.ContainsFunc(l.Parents, func(p string) bool { return !have[p] })
	}) {
		return nil, nil
	}
	shards, err := w.Source.Shards(ctx)
	there := map[string]bool{}
	for _, s := range shards {
		there[s.ID] = !have[s.ID]
	}
	return there, err
}

// start takes a lease and works on its shard.
func (w *worker) start(ctx context.Context, l Lease) error {
	began := time.Now()
	if l.Owner != w.id {
		l.Owner = w.id
		l.Switches++
	}
	err := w.Leases.Update(ctx, &l)
	if errors.Is(err, errLost) {
		return nil
	}
	if err != nil {
		return err
	}
	alive, lose := context.WithCancelCause(context.WithoutCancel(ctx))
	h := newHeld(w.Leases, l, began, w.Failover, lose)
	w.mu.Lock()
	w.held[l.Shard] = h
	w.mu.Unlock()
	w.wg.Go(func() {
		defer lose(nil)
		work, cancel := context.WithCancelCause(alive)
		defer context.AfterFunc(ctx, func() { cancel(ctx.Err()) })()
		newConsumer(w.Connector, h).run(work, alive)
		w.mu.Lock()
		delete(w.held, l.Shard)
		w.mu.Unlock()
		select { // there may be children to take
		case w.kick <- struct{}{}:
		default:
		}
	})
	return nil
}
