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
// b it says whether the queue would take it. It looks for no twins: who calls it
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
// message gets its ID and, of a FIFO queue, its Sequence; those of a twin that was
// sent in the last five minutes, and then it is not there a second time.
func (q *Queue) Send(ctx context.Context, ms []*Message) []error {
	errs := make([]error, len(ms))
	b := q.log.NewBatch()
	at := make([]int, len(ms)) // of its record in b; -1: none
	twins := make([]*twin, len(ms))
	for i, m := range ms {
		at[i] = -1
		if errs[i] = q.complete(m); errs[i] != nil {
			continue
		}
		if FIFO(q.name) {
			t, first := q.twin(m)
			if twins[i] = t; !first {
				continue
			}
			if t == nil {
				errs[i] = fmt.Errorf("%w: %d messages were sent in five minutes", ErrInFlight, maxTwins)
				continue
			}
			b.SetFrom(q.twinKey(m.DedupID), keptTwins{q}, 64)
		}
		at[i] = b.Len()
		b.Append(q.stream, 0, streams.Record{Data: m.encode()})
	}
	q.forgetTwins(b)
	err := q.log.Commit(ctx, b)
	for i, m := range ms {
		if at[i] < 0 {
			continue
		}
		if errs[i] = err; err == nil {
			m.Sequence = b.Offset(at[i])
		}
		if t := twins[i]; t != nil {
			q.settle(m.DedupID, t, m.Sequence, err)
		}
	}
	for i, m := range ms { // another call may be storing the twin
		if t := twins[i]; t != nil && at[i] < 0 {
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

// twin returns the message that was sent with the same id, or says that this is the
// first: then settle is to be called. It is nil where there are too many.
func (q *Queue) twin(m *Message) (t *twin, first bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t := q.twins[m.DedupID]; t != nil && q.now().Sub(t.at) < dedupWindow {
		return t, false
	}
	if len(q.twins) >= maxTwins {
		return nil, true
	}
	t = &twin{id: m.ID, at: q.now(), stored: make(chan struct{})}
	q.twins[m.DedupID] = t
	return t, true
}

// settle tells those who sent the same what came of it.
func (q *Queue) settle(dedupID string, t *twin, sequence uint64, err error) {
	q.mu.Lock()
	if t.sequence, t.err = sequence, err; err != nil && q.twins[dedupID] == t {
		delete(q.twins, dedupID)
	}
	q.mu.Unlock()
	close(t.stored)
}

func (q *Queue) twinKey(dedupID string) []byte {
	return append(append(q.key[:len(q.key):len(q.key)], '/'), dedupID...)
}

// appendTwin writes what is durable of a twin: when it was, in epoch ms, and its id.
func appendTwin(t *twin) []byte {
	return append(binary.AppendVarint(nil, t.at.UnixMilli()), t.id...)
}

// forgetTwins adds to b that old twins go. It looks for them once a second.
func (q *Queue) forgetTwins(b *streams.Batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.now()
	if now.Sub(q.swept) < time.Second {
		return
	}
	q.swept = now
	for id, t := range q.twins {
		if now.Sub(t.at) >= dedupWindow {
			delete(q.twins, id)
			b.SetFrom(q.twinKey(id), keptTwins{q}, 0)
		}
	}
}

// keptTwins are what the keys of twins hold: those there are when they are written.
type keptTwins struct{ *Queue }

// Value implements streams.Source.
func (s keptTwins) Value(key []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.twins[string(key[len(s.key)+1:])]; t != nil {
		return appendTwin(t)
	}
	return nil
}

// loadTwins reads those of an earlier run. Their sequence numbers are not kept.
func (q *Queue) loadTwins() error {
	begin := string(q.twinKey(""))
	return q.log.Scan([]byte(begin), func(key, value []byte) bool {
		ms, n := binary.Varint(value)
		if n > 0 {
			t := &twin{id: string(value[n:]), at: time.UnixMilli(ms), stored: make(chan struct{})}
			close(t.stored)
			q.twins[strings.TrimPrefix(string(key), begin)] = t
		}
		return true
	})
}
