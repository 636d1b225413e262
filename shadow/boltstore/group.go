package boltstore

import (
	"sync"

	"go.etcd.io/bbolt"
)

// maxGroup bounds one transaction, so that its dirty pages (about 20 KB per
// document of the default size) stay within some megabytes.
const maxGroup = 256

// A group joins writers into transactions. The first one commits at once;
// those who come meanwhile wait, and one of them commits for all. No time is
// spent waiting for company, and no goroutine is started.
type group struct {
	mu      sync.Mutex
	waiting []*write
	busy    bool // somebody commits
	closed  bool
	idle    sync.Cond // busy became false, on mu; set up by close
}

type write struct {
	do   func(*bbolt.Tx) error
	err  error
	done chan bool // true: committed or failed, false: lead the next commit
}

// commit returns when do's writes are on the disk, or with the error that
// kept them off it. do may run twice.
func (g *group) commit(db *bbolt.DB, do func(*bbolt.Tx) error) error {
	w := &write{do: do, done: make(chan bool, 1)}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ErrClosed
	}
	g.waiting = append(g.waiting, w)
	lead := !g.busy
	g.busy = true
	g.mu.Unlock()
	if !lead && <-w.done {
		return w.err
	}

	g.mu.Lock()
	n := min(len(g.waiting), maxGroup)
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.mu.Unlock()

	run(db, batch)

	g.mu.Lock()
	if len(g.waiting) > 0 {
		g.waiting[0].done <- false
	} else {
		g.waiting, g.busy = nil, false
		if g.idle.L != nil {
			g.idle.Broadcast()
		}
	}
	g.mu.Unlock()
	for _, other := range batch {
		if other != w {
			other.done <- true
		}
	}
	return w.err
}

// run commits batch together. If the writes of one fail, each gets a
// transaction of its own; if the commit itself fails, all of them have failed.
func run(db *bbolt.DB, batch []*write) {
	single := false
	err := db.Update(func(tx *bbolt.Tx) error {
		for _, w := range batch {
			if err := w.do(tx); err != nil {
				single = len(batch) > 1
				return err
			}
		}
		return nil
	})
	for _, w := range batch {
		if single {
			err = db.Update(w.do)
		}
		w.err = err
	}
}

// close refuses further writes and waits for those accepted.
func (g *group) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.idle.L = &g.mu
	for g.busy {
		g.idle.Wait()
	}
}
