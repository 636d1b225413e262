// Package crashtest is how tests make histories in which processes die, at any durable
// write, and start again over what they left. A process here is a part of the test's
// own program: once it is dead, nothing that it does has effect.
package crashtest

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seedFlag      = flag.Uint64("seed", 0, "seed of the one history to make; 0: new ones")
	historiesFlag = flag.Int("histories", 0, "how many histories to make; 0: as many as the test says")
)

// ErrDead is what each write of a dead process ends with.
var ErrDead = errors.New("the process is dead")

// Histories makes n histories, each in a bubble of testing/synctest and by a random
// number generator of its own, until one fails: that one's seed is told. With -seed it
// makes that one alone. seed is the first one's, made is how many there were.
func Histories(t *testing.T, n int, history func(t *testing.T, seed uint64, r *rand.Rand)) (seed uint64, made int) {
	t.Helper()
	if *historiesFlag > 0 {
		n = *historiesFlag
	}
	if seed = *seedFlag; seed == 0 {
		seed = uint64(time.Now().UnixNano())
	} else {
		n = 1
	}
	for ; made < n && !t.Failed(); made++ {
		at := seed + uint64(made)
		synctest.Test(t, func(t *testing.T) {
			history(t, at, rand.New(rand.NewPCG(at, 7)))
			if t.Failed() {
				t.Errorf("seed %d (-seed)", at)
			}
		})
	}
	return seed, made
}

// A Process dies at a write, by chance.
type Process struct {
	mu     sync.Mutex // guards what follows, and is held while a write is made
	rand   *rand.Rand
	risk   float64 // of dying at a write, 0 to 1
	die    context.CancelFunc
	dead   bool
	writes int
}

// NewProcess returns a process that dies with the probability risk at each write, half of
// them before it. r is the process's alone while it runs; die ends the process's context.
func NewProcess(r *rand.Rand, risk float64, die context.CancelFunc) *Process {
	return &Process{rand: r, risk: risk, die: die}
}

// Do makes one durable write, unless the process is dead or dies before it. Writes are
// made one after another.
func (p *Process) Do(write func() error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dead {
		return ErrDead
	}
	roll := p.rand.Float64()
	if roll < p.risk/2 {
		return p.kill()
	}
	err := write()
	if p.writes++; roll > 1-p.risk/2 {
		return p.kill()
	}
	return err
}

func (p *Process) kill() error {
	p.dead = true
	p.die()
	return ErrDead
}

// Wait lets others write while f waits. It is called from within a write.
func (p *Process) Wait(f func()) {
	p.mu.Unlock()
	defer p.mu.Lock()
	f()
}

// Within runs f between two writes.
func (p *Process) Within(f func(r *rand.Rand)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.rand)
}

// Ended tells how many writes were made, and whether the process died. It is asked once
// the process has ended.
func (p *Process) Ended() (writes int, died bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writes, p.dead
}
