package aws

import (
	"context"
	"slices"
	"sync"
)

// maxWaiting is how many may wait for a pool; more are refused at once. Owners
// have their parts of this too.
const maxWaiting = 1024

// A pool is a number of something, bytes or places, that requests have
// together, and of which no owner has more than a part. Who wants more than is
// left waits for its turn. One that wants much lets those pass that come after
// it and want less, until they have had as much as it wants; then it is next.
type pool struct {
	size int64

	mu      sync.Mutex // guards what follows
	used    int64
	shares  map[string]int64 // that owners have
	waiting []*waiter
}

// An owner is whom something is for: an address, a principal, or all of a kind.
type owner struct {
	name string
	part float64 // of the pool that it may have
}

// A waiter wants n; ready is closed when it has that.
type waiter struct {
	n      int64
	owners []owner
	passed int64 // what those had that came later
	ready  chan struct{}
}

func newPool(size int64) *pool { return &pool{size: size, shares: map[string]int64{}} }

// allowed says whether the owners may have n more; p.mu is held. Whoever has
// nothing may have something that is more than its part, but not than all.
func (p *pool) allowed(n int64, owners []owner) bool {
	for _, o := range owners {
		if have := p.shares[o.name]; have > 0 && have+n > int64(o.part*float64(p.size)) {
			return false
		}
	}
	return true
}

func (p *pool) take(n int64, owners []owner) {
	p.used += n
	for _, o := range owners {
		p.shares[o.name] += n
	}
}

// try takes n if it is there and nobody waits.
func (p *pool) try(n int64, owners []owner) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 || p.used+n > p.size || !p.allowed(n, owners) {
		return false
	}
	p.take(n, owners)
	return true
}

// acquire takes n, waiting until ctx ends.
func (p *pool) acquire(ctx context.Context, n int64, owners []owner) error {
	if n > p.size {
		return errBusy
	}
	w := &waiter{n: n, owners: owners, ready: make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, w)
	p.serve()
	if slices.Contains(p.waiting, w) && p.crowded(owners) {
		p.forget(w)
		p.mu.Unlock()
		return errBusy
	}
	p.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.forget(w) { // it came at the same moment
		p.give(n, owners)
	}
	p.serve()
	return ctx.Err()
}

// crowded says whether too many wait, of all or of an owner.
func (p *pool) crowded(owners []owner) bool {
	if len(p.waiting) > maxWaiting {
		return true
	}
	for _, o := range owners {
		n := 0
		for _, w := range p.waiting {
			if slices.ContainsFunc(w.owners, func(x owner) bool { return x.name == o.name }) {
				n++
			}
		}
		if n > int(o.part*maxWaiting) {
			return true
		}
	}
	return false
}

// forget takes w out of those that wait, if it does.
func (p *pool) forget(w *waiter) bool {
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	return i >= 0
}

// release gives n back.
func (p *pool) release(n int64, owners []owner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.give(n, owners)
	p.serve()
}

func (p *pool) give(n int64, owners []owner) {
	p.used -= n
	for _, o := range owners {
		if p.shares[o.name] -= n; p.shares[o.name] == 0 {
			delete(p.shares, o.name)
		}
	}
}

// serve lets those go on who have their turn. p.mu is held. Who waits because
// of its own part holds up nobody.
func (p *pool) serve() {
	var held []*waiter // that wait for what all have
	still := p.waiting[:0]
	for i, w := range p.waiting {
		switch {
		case !p.allowed(w.n, w.owners):
			still = append(still, w)
			continue
		case p.used+w.n > p.size:
			if w.passed >= w.n { // nobody passes any more
				p.waiting = append(still, p.waiting[i:]...)
				return
			}
			held, still = append(held, w), append(still, w)
			continue
		}
		for _, h := range held {
			h.passed += w.n
		}
		p.take(w.n, w.owners)
		close(w.ready)
	}
	clear(p.waiting[len(still):])
	p.waiting = still
}

// inUse is how much is taken.
func (p *pool) inUse() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.used
}
