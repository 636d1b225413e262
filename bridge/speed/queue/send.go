package queue

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

func unmarshalConfig(doc []byte, c *Config) error {
	if len(doc) == 0 {
		return nil
	}
	return json.Unmarshal(doc, c)
}

// Stage adds a message to b, which is to be committed: with that it is sent. With no
// b it says whether the queue would take it. It looks for no duplicates: who calls it
// commits each message once.
func (q *Queue) Stage(b *streams.Batch, m *Message) error {
	if err := q.complete(m); err != nil {
		return err
	}
	if b != nil {
		b.Append(q.stream, 0, streams.Record{Data: m.encode()})
	}
	return nil
}

// complete checks a message and gives it what it lacks.
func (q *Queue) complete(m *Message) error {
	c := q.Config()
	if m.ID == "" {
		m.ID = uuid.NewString()
	}
	if m.DedupID == "" && c.ContentDedup {
		sum := sha256.Sum256([]byte(m.Body))
		m.DedupID = hex.EncodeToString(sum[:])
	}
	return m.check(&c, FIFO(q.name))
}

// Send sends messages and returns when they are durable, with an error for each. A
// message gets its ID and, of a FIFO queue, its Sequence; those of the first if it is
// a duplicate of one of the last five minutes, and then it is not stored again.
func (q *Queue) Send(ctx context.Context, ms []*Message) []error {
	errs := make([]error, len(ms))
	b := q.log.NewBatch()
	at := make([]int, len(ms)) // of its record in b; -1: none
	dedups := make([]*dedup, len(ms))
	for i, m := range ms {
		at[i] = -1
		if errs[i] = q.complete(m); errs[i] != nil {
			continue
		}
		if FIFO(q.name) {
			t, first := q.dedup(m)
			if dedups[i] = t; !first {
				continue
			}
			if t == nil {
				errs[i] = fmt.Errorf("%w: %d messages were sent in five minutes", ErrInFlight, maxDedups)
				continue
			}
			b.SetFrom(q.dedupKey(m.DedupID), dedupValues{q}, 64)
		}
		at[i] = b.Len()
		b.Append(q.stream, 0, streams.Record{Data: m.encode()})
	}
	q.forgetDedups(b)
	err := q.log.Commit(ctx, b)
	for i, m := range ms {
		if at[i] < 0 {
			continue
		}
		if errs[i] = err; err == nil {
			m.Sequence = b.Offset(at[i])
		}
		if t := dedups[i]; t != nil {
			q.settle(m.DedupID, t, m.Sequence, err)
		}
	}
	for i, m := range ms { // another call may be storing the duplicate
		if t := dedups[i]; t != nil && at[i] < 0 {
			select {
			case <-t.stored:
				m.ID, m.Sequence, errs[i] = t.id, t.sequence, t.err
			case <-ctx.Done():
				errs[i] = ctx.Err()
			}
		}
	}
	if err == nil && b.Len() > 0 {
		q.mu.Lock()
		q.stir()
		q.mu.Unlock()
	}
	return errs
}

// dedup returns the message that was sent with the same id, or says that this is the
// first: then settle is to be called. It is nil where there are too many.
func (q *Queue) dedup(m *Message) (t *dedup, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.dedups[m.DedupID]; t != nil && q.now().Sub(t.at) < dedupWindow {
		return t, false
	}
	if len(q.dedups) >= maxDedups {
		return nil, true
	}
	t = &dedup{id: m.ID, at: q.now(), stored: make(chan struct{})}
	q.dedups[m.DedupID] = t
	return t, true
}

// settle tells those who sent the same what came of it.
func (q *Queue) settle(dedupID string, t *dedup, sequence uint64, err error) {
	q.mu.Lock()
	if t.sequence, t.err = sequence, err; err != nil && q.dedups[dedupID] == t {
		delete(q.dedups, dedupID)
	}
	q.mu.Unlock()
	close(t.stored)
}

func (q *Queue) dedupKey(dedupID string) []byte {
	return append(append(q.key[:len(q.key):len(q.key)], '/'), dedupID...)
}

// appendDedup writes what is durable of a message: when it was, in epoch ms, and its id.
func appendDedup(t *dedup) []byte {
	return append(binary.AppendVarint(nil, t.at.UnixMilli()), t.id...)
}

// forgetDedups adds to b that what is known of older messages goes. It looks for
// them once a second.
func (q *Queue) forgetDedups(b *streams.Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if now.Sub(q.swept) < time.Second {
		return
	}
	q.swept = now
	for id, t := range q.dedups {
		if now.Sub(t.at) >= dedupWindow {
			delete(q.dedups, id)
			b.SetFrom(q.dedupKey(id), dedupValues{q}, 0)
		}
	}
}

// dedupValues are the values of the keys, as they are when they are written.
type dedupValues struct{ *Queue }

// Value implements streams.Source.
func (s dedupValues) Value(key []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.dedups[string(key[len(s.key)+1:])]; t != nil {
		return appendDedup(t)
	}
	return nil
}

// loadDedups reads those of an earlier run. Their sequence numbers are not kept.
func (q *Queue) loadDedups() error {
	begin := string(q.dedupKey(""))
	return q.log.Scan([]byte(begin), func(key, value []byte) bool {
		ms, n := binary.Varint(value)
		if n > 0 {
			t := &dedup{id: string(value[n:]), at: time.UnixMilli(ms), stored: make(chan struct{})}
			close(t.stored)
			q.dedups[strings.TrimPrefix(string(key), begin)] = t
		}
		return true
	})
}
