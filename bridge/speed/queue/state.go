package queue

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message/field"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Queue is one queue. Several goroutines may use it.
type Queue struct {
	log    Log
	now    func() time.Time
	name   string
	stream string
	key    []byte // of the state
	made   time.Time
	id     uint32 // of the stream: a receipt of a queue that was deleted is none of this one
	config atomic.Pointer[Config]
	get    func(name string) (*Queue, error) // for dead letters
	warn   *slog.Logger

	mu     sync.Mutex    // guards what follows; never held over a commit
	cursor uint64        // no message from here on was looked at
	known  []*entry      // looked at and not deleted, by offset
	wake   chan struct{} // closed, and made anew, when a message may have become visible
	dedups map[string]*dedup
	swept  time.Time // when older messages were looked for in dedups
}

// An entry is a message that was looked at.
type entry struct {
	offset  uint64
	visible time.Time // from when it can be received
	group   string
	times   int       // received
	first   time.Time // received first
	receipt uint64    // of the newest time it was received
	moving  bool      // to the dead letters; nobody else does
}

// A dedup is what is known of a message that a FIFO queue took in the last five
// minutes, by which its duplicates are found.
type dedup struct {
	id       string
	sequence uint64
	at       time.Time
	stored   chan struct{} // closed when its commit is done
	err      error         // of that
}

func (s *Service) open(name string, info streams.Info) (*Queue, error) {
	q := &Queue{log: s.log, now: s.now, name: name, stream: info.Name, id: info.ID, made: info.Created,
		get: s.Get, warn: s.warn,
		key: fmt.Appendf(nil, "queue/%s/%d", name, info.ID), wake: make(chan struct{}), dedups: map[string]*dedup{}}
	c := Default()
	if err := unmarshalConfig(info.Attributes, &c); err != nil {
		return nil, err
	}
	q.config.Store(&c)
	raw, err := s.log.Get(q.key)
	if err != nil {
		return nil, err
	}
	if err := q.restore(raw); err != nil {
		return nil, err
	}
	return q, q.loadDedups()
}

// Name is the queue's.
func (q *Queue) Name() string { return q.name }

// Created is when it was made.
func (q *Queue) Created() time.Time { return q.made }

// Config is what the queue does.
func (q *Queue) Config() Config { return *q.config.Load() }

// Value implements streams.Source: the state as it is when it is written.
func (q *Queue) Value([]byte) []byte { return q.state(nil) }

// without is the state without messages that the same commit moves elsewhere.
type without struct {
	*Queue
	gone map[uint64]bool
}

// Value implements streams.Source.
func (w without) Value([]byte) []byte { return w.state(w.gone) }

func (q *Queue) state(gone map[uint64]bool) []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	v := binary.AppendUvarint([]byte{messageVersion}, q.cursor)
	last := uint64(0)
	for _, e := range q.known {
		if gone[e.offset] {
			continue
		}
		v = binary.AppendUvarint(v, e.offset-last)
		last = e.offset
	}
	return v
}

// restore reads what Value wrote: what was received is visible at once.
func (q *Queue) restore(raw []byte) error {
	if raw == nil {
		return nil
	}
	if len(raw) == 0 || raw[0] != messageVersion {
		return fmt.Errorf("state of queue %s: version", q.name)
	}
	r := field.NewReader(raw[1:])
	q.cursor = r.Uvarint()
	offset, damaged := uint64(0), false
	for r.Left() > 0 && !damaged {
		offset += r.Uvarint()
		damaged = offset >= q.cursor || len(q.known) > 0 && offset <= q.known[len(q.known)-1].offset
		q.known = append(q.known, &entry{offset: offset})
	}
	if damaged || r.Bad() {
		return fmt.Errorf("state of queue %s is damaged", q.name)
	}
	return q.reread()
}

// reread reads of what is known what the state does not have: groups and delays.
func (q *Queue) reread() error {
	kept := q.known[:0]
	for _, e := range q.known {
		m, ok, err := q.read(e.offset)
		if err != nil {
			return err
		}
		if ok {
			e.group, e.visible = m.Group, q.begins(m)
			kept = append(kept, e)
		}
	}
	q.known = kept
	return nil
}

// read reads a message; ok is false if the log does not have it any more, or it is
// damaged.
func (q *Queue) read(offset uint64) (m *Message, ok bool, err error) {
	recs, err := q.log.Read(q.stream, 0, offset, 1, 0)
	if err != nil || len(recs) == 0 || recs[0].Offset != offset {
		return nil, false, err
	}
	if m, err = decode(recs[0].Data); err != nil {
		q.damaged(offset)
		return nil, false, nil
	}
	m.Sent, m.Sequence = time.UnixMilli(recs[0].Time), offset
	return m, true, nil
}

// begins is from when a message can be received.
func (q *Queue) begins(m *Message) (t time.Time) {
	if d := max(m.Delay, q.Config().Delay); d > 0 {
		t = m.Sent.Add(d)
	}
	return t
}

// damaged tells of a message that cannot be read and is left out.
func (q *Queue) damaged(offset uint64) {
	q.warn.Error("a message of a queue is damaged and left out", "queue", q.name, "offset", offset)
}

// find returns where a message is among the known.
func (q *Queue) find(offset uint64) (int, bool) {
	return slices.BinarySearchFunc(q.known, offset, func(e *entry, o uint64) int {
		switch {
		case e.offset < o:
			return -1
		case e.offset > o:
			return 1
		}
		return 0
	})
}

// stir wakes those who wait for a message. q.mu is held.
func (q *Queue) stir() {
	close(q.wake)
	q.wake = make(chan struct{})
}

// head is the offset of the first message that is not deleted. q.mu is held.
func (q *Queue) head() uint64 {
	if len(q.known) > 0 {
		return q.known[0].offset
	}
	return q.cursor
}

// Counts say how many messages a queue has: those that can be received, those that
// were and are neither deleted nor visible again, and those that are delayed.
type Counts struct{ Visible, InFlight, Delayed int }

// Counts counts.
func (q *Queue) Counts() (c Counts, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	unread, err := q.log.Count(q.stream, 0, q.cursor)
	if err != nil {
		return c, err
	}
	now := q.now()
	for _, e := range q.known {
		switch {
		case !e.visible.After(now):
			c.Visible++
		case e.times > 0:
			c.InFlight++
		default:
			c.Delayed++
		}
	}
	c.Visible += int(unread)
	return c, nil
}
