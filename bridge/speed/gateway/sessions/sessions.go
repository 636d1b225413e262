// Package sessions keeps the gateway's sessions and retained messages in the
// log's metadata, and is all that writes their keys.
//
// There are two kinds of keys. What belongs to one life of a session (a queued
// message, an accepted QoS 2 publish) has a key of its own, which is set once or
// changed by one session alone; those changes are made in their order. A
// session's record and a topic's retained message are changed by whoever comes:
// a connection, the one that takes over from it, the clock, two publishers at
// once. Nobody writes a value for those: a batch only names the key, and its
// value is what the gateway's memory holds when the batch is written
// (streams.Source). So there is one order of a key's states on disk and in
// memory, whatever the order in which batches reach the log, and a batch that
// was put off cannot bring an older state back.
//
// For that the gateway changes its memory first and then names the key.
package sessions

import (
	"context"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// settleEvery is how long what is only to be cleared away may wait for company.
const settleEvery = 20 * time.Millisecond

// A Memory is what the gateway holds now. It is asked by the log's committer:
// its methods must not wait for anything that may wait for the log.
type Memory interface {
	// Session is a session as it is to be made anew, nil if there is none that
	// outlives its connection.
	Session(id string) *Record
	// Retained is the retained message of a topic, nil if there is none.
	Retained(topic string) *Retained
}

// Changes takes changes: a batch of the log, which the caller commits, or a
// Store, which commits them some time soon.
type Changes interface {
	Set(key, value []byte)
	SetFrom(key []byte, src streams.Source, size int)
	Unset(key []byte)
}

// A Log is what a Store needs of the bridge's log: keys that change together, and
// with records of others.
type Log interface {
	streams.Keys
	NewBatch() *streams.Batch
	CommitAsync(b *streams.Batch, done func(error))
}

// A Store is the stored form of sessions and retained messages. It gathers
// changes that nobody commits otherwise, such as what clients have acknowledged
// and who has left, and Run commits them; they are put there also by the log's
// committer, which must not wait for itself. Its methods may be called from
// several goroutines.
type Store struct {
	log    Log
	memory Memory
	wake   chan struct{} // one token: there is something

	// order is held while batches are queued, so that what was gathered first
	// is written first. It is taken before mu, and never by the committer.
	order sync.Mutex

	mu       sync.Mutex // guards what follows
	gathered *streams.Batch
	after    []func() // when it is durable
}

// New returns a Store; changes are not committed before Run.
func New(log Log, m Memory) *Store {
	return &Store{log: log, memory: m, wake: make(chan struct{}, 1), gathered: log.NewBatch()}
}

// NewBatch returns an empty batch of the log.
func (st *Store) NewBatch() *streams.Batch { return st.log.NewBatch() }

// Session notes in to that the session of a client id has changed, begun or
// ended.
func (st *Store) Session(to Changes, id string) {
	const most = 512 // bytes of an ordinary record
	to.SetFrom(sessionKey(id), st, most)
}

// Retained notes in to that the retained message of a topic has changed; size is
// about its bytes.
func (st *Store) Retained(to Changes, topic string, size int) {
	to.SetFrom(retainedKey(topic), st, size)
}

// Value implements streams.Source.
func (st *Store) Value(key []byte) []byte {
	if id, ok := cutPrefix(key, sessionPrefix); ok {
		if r := st.memory.Session(id); r != nil {
			return r.append(nil)
		}
		return nil
	}
	if topic, ok := cutPrefix(key, retainedPrefix); ok {
		if r := st.memory.Retained(topic); r != nil {
			return r.append(nil)
		}
	}
	return nil
}

// gather makes a change of what Run commits.
func (st *Store) gather(change func(b *streams.Batch)) {
	st.mu.Lock()
	change(st.gathered)
	st.mu.Unlock()
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// Set implements Changes.
func (st *Store) Set(key, value []byte) { st.gather(func(b *streams.Batch) { b.Set(key, value) }) }

// SetFrom implements Changes.
func (st *Store) SetFrom(key []byte, src streams.Source, size int) {
	st.gather(func(b *streams.Batch) { b.SetFrom(key, src, size) })
}

// Unset implements Changes.
func (st *Store) Unset(key []byte) { st.gather(func(b *streams.Batch) { b.Unset(key) }) }

// After has f called when all changes so far are durable, which then is soon.
// The committer calls it, so it must not block. It is not called if the log has
// failed, since then the bridge ends.
func (st *Store) After(f func()) {
	st.gather(func(*streams.Batch) { st.after = append(st.after, f) })
}

// urgent says whether somebody waits for a change.
func (st *Store) urgent() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.after) > 0
}

// settle queues what was gathered. order is held.
func (st *Store) settle() {
	st.mu.Lock()
	b, after := st.gathered, st.after
	if b.Bytes() == 0 && after == nil {
		st.mu.Unlock()
		return
	}
	st.gathered, st.after = st.log.NewBatch(), nil
	st.mu.Unlock()
	st.log.CommitAsync(b, func(err error) {
		if err != nil {
			return // the log has failed, and the bridge ends
		}
		for _, f := range after {
			f()
		}
	})
}

// Commit queues b, behind what was gathered, and returns. done is called as that
// of streams.Writer.CommitAsync, which may block as this may.
func (st *Store) Commit(b *streams.Batch, done func(error)) {
	st.order.Lock()
	defer st.order.Unlock()
	st.settle()
	st.log.CommitAsync(b, done)
}

// CommitWait is Commit that waits for the outcome; then, unless nil, is called
// by the committer when b is durable. When ctx ends it returns ctx's error, and
// the commit goes on: memory has changed already, and the disk must follow.
func (st *Store) CommitWait(ctx context.Context, b *streams.Batch, then func()) error {
	ended := make(chan error, 1)
	st.Commit(b, func(err error) {
		if err == nil && then != nil {
			then()
		}
		ended <- err
	})
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run commits what is gathered until ctx ends.
func (st *Store) Run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for stopping := false; !stopping; {
		select {
		case <-st.wake:
			if !st.urgent() {
				pause.Reset(settleEvery)
				select {
				case <-pause.C:
				case <-ctx.Done():
				}
			}
		case <-ctx.Done():
			stopping = true
		}
		st.order.Lock()
		st.settle()
		st.order.Unlock()
	}
}
