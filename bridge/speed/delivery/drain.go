package delivery

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/hold"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Log is what a Drain needs of the bridge's log: a stream to read and trim, and a
// position that is stored with what a delivery writes.
type Log interface {
	streams.Writer
	streams.Trimmer
	Read(stream string, shard int, from uint64, maxRecords, maxBytes int) ([]streams.Record, error)
	Wait(ctx context.Context, stream string, shard int, from uint64) error
	Bounds(stream string, shard int) (oldest, next uint64, err error)
	Count(stream string, shard int, from uint64) (records uint64, err error)
	Get(key []byte) ([]byte, error)
}

// A Range is records of a stream: From <= offset < To.
type Range struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Span is the range itself, for who embeds it in a Plan.
func (r *Range) Span() *Range { return r }

// A Plan is a range that was cut, and whatever its delivery is named by.
type Plan interface{ Span() *Range }

// A Work is what a Drain's records are for. The Drain's goroutine calls it.
type Work interface {
	// Cut waits until records from next on are due and plans their delivery; nil
	// and no error if ctx ended.
	Cut(ctx context.Context, next uint64) (Plan, error)
	// Decode reads a plan that was made durable. A work that has none durable
	// returns nil.
	Decode(raw []byte) (Plan, error)
	// Job is the delivery of a plan. Its Settle calls Move. With ErrAbandon the range
	// is planned anew.
	Job(ctx context.Context, p Plan) (*Job, error)
	// Lost tells of records that left the log before they were delivered.
	Lost(from, to uint64)
}

// A Drain moves the records of a stream, of its one shard, to where a Work has them.
type Drain struct {
	*Line
	log    Log
	stream string
	key    []byte // of the position
	plans  bool   // are durable before their delivery begins
	work   Work
}

// NewDrain returns a drain of a stream whose position is kept at key. plans says
// that a plan is durable before its delivery begins: names are made of it.
func NewDrain(l *Line, log Log, stream string, key []byte, plans bool, w Work) *Drain {
	return &Drain{Line: l, log: log, stream: stream, key: key, plans: plans, work: w}
}

// Run delivers until ctx ends. What is left stays in the log. A stream that is held after
// a restore delivers nothing until it is released.
func (d *Drain) Run(ctx context.Context) {
	wait := d.retry.BackOff()
	for err := d.unheld(ctx); err != nil; err = d.unheld(ctx) {
		if ctx.Err() != nil || d.pause(ctx, wait.NextBackOff(), err) != nil {
			return
		}
	}
	wait.Reset()
	for ctx.Err() == nil {
		err := d.Once(ctx)
		if err == nil {
			wait.Reset()
			continue
		}
		if errors.Is(err, streams.ErrNotFound) && ctx.Err() == nil {
			if _, _, err := d.log.Bounds(d.stream, 0); errors.Is(err, streams.ErrNotFound) {
				return // the stream was deleted
			}
		}
		if ctx.Err() == nil && d.pause(ctx, wait.NextBackOff(), err) != nil {
			return
		}
	}
}

// unheld waits until the stream is not held.
func (d *Drain) unheld(ctx context.Context) error {
	defer d.note(func(s *Status) { s.Held = false })
	return hold.Wait(ctx, d.log, hold.NameOf(d.stream), func() { d.note(func(s *Status) { s.Held = true }) })
}

// Once waits for records and does one delivery of them.
func (d *Drain) Once(ctx context.Context) error {
	pos, err := d.load()
	if err != nil {
		return err
	}
	if err := d.skip(ctx, &pos); err != nil {
		return err
	}
	if pos.plan == nil {
		if pos.plan, err = d.work.Cut(ctx, pos.next); err != nil || pos.plan == nil {
			return err
		}
		if d.plans {
			if err := d.save(ctx, pos); err != nil {
				return err
			}
		}
	}
	job, err := d.work.Job(ctx, pos.plan)
	if err == nil {
		err = d.Do(ctx, job)
	}
	if errors.Is(err, ErrAbandon) && d.plans {
		// Plan again, with the configuration that is in force then.
		return errors.Join(err, d.save(ctx, position{next: pos.next}))
	}
	return err
}

// Move makes durable that records below next are dealt with, together with what is
// in b, and trims them. onResult, which may be nil, gets at once whether it is durable.
func (d *Drain) Move(ctx context.Context, b *streams.Batch, next uint64, onResult func(error)) error {
	raw, err := d.encode(position{next: next})
	if err != nil {
		return err
	}
	b.Set(d.key, raw)
	err = d.log.Commit(ctx, b)
	if onResult != nil {
		onResult(err)
	}
	if err != nil {
		return err
	}
	if err := d.log.Trim(d.stream, 0, next); err != nil && !errors.Is(err, streams.ErrClosed) {
		d.Line.log.LogAttrs(ctx, slog.LevelWarn, "what is delivered cannot be trimmed", slog.Any("err", err))
	}
	return nil
}

// A position is what is durable of a drain: records below next are dealt with, plan
// is the delivery that was begun.
type position struct {
	next uint64
	plan Plan
}

func (d *Drain) load() (position, error) {
	raw, err := d.log.Get(d.key)
	if err != nil || raw == nil {
		return position{}, err
	}
	p, err := d.decode(raw)
	if err != nil {
		err = fmt.Errorf("position of %s: %w", d.stream, err)
	}
	return p, err
}

// decode reads both forms of a position, which FORMAT.md describes.
func (d *Drain) decode(raw []byte) (position, error) {
	next, plan, err := parsePosition(raw)
	p := position{next: next}
	if err == nil && plan != nil {
		if p.plan, err = d.work.Decode(plan); err == nil && p.plan != nil {
			if s := p.plan.Span(); s.To <= s.From {
				err = fmt.Errorf("a plan of records %d to %d", s.From, s.To)
			}
		}
	}
	return p, err
}

// parsePosition reads a position: 8 bytes big-endian, or JSON.
func parsePosition(raw []byte) (next uint64, plan json.RawMessage, err error) {
	if len(raw) == 8 {
		return binary.BigEndian.Uint64(raw), nil, nil
	}
	var doc struct {
		Next uint64          `json:"next"`
		Plan json.RawMessage `json:"plan"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return 0, nil, err
	}
	if string(doc.Plan) == "null" {
		doc.Plan = nil
	}
	return doc.Next, doc.Plan, nil
}

// Next reads the position at a key: the offset of the first record that is neither
// delivered nor given up.
func Next(log interface {
	Get(key []byte) ([]byte, error)
}, key []byte) (uint64, error) {
	raw, err := log.Get(key)
	if err != nil || raw == nil {
		return 0, err
	}
	next, _, err := parsePosition(raw)
	return next, err
}

func (d *Drain) encode(p position) ([]byte, error) {
	if !d.plans {
		return binary.BigEndian.AppendUint64(nil, p.next), nil
	}
	return json.Marshal(struct {
		Next uint64 `json:"next"`
		Plan Plan   `json:"plan,omitempty"`
	}{p.next, p.plan})
}

func (d *Drain) save(ctx context.Context, p position) error {
	raw, err := d.encode(p)
	if err != nil {
		return err
	}
	b := d.log.NewBatch()
	b.Set(d.key, raw)
	return d.log.Commit(ctx, b)
}

// skip moves pos past records that are no longer in the log. Nobody but this drain
// trims the stream, so that is a fault; the records that are left must not wait
// behind it for ever.
func (d *Drain) skip(ctx context.Context, pos *position) error {
	oldest, _, err := d.log.Bounds(d.stream, 0)
	if err != nil || oldest <= pos.next {
		return err
	}
	from := pos.next
	pos.next = oldest
	if pos.plan != nil {
		if s := pos.plan.Span(); s.To <= oldest {
			pos.plan = nil
		} else {
			s.From = max(s.From, oldest)
		}
	}
	if err := d.save(ctx, *pos); err != nil {
		return err
	}
	d.work.Lost(from, oldest)
	return nil
}

// A Backlog is what waits in a drain's stream.
type Backlog struct {
	Records uint64    `json:"waiting_records"`
	Bytes   int64     `json:"waiting_bytes"`   // as stored; whole blocks, so some that are done may be among them
	Oldest  time.Time `json:"oldest,omitzero"` // when the first that waits came
	Next    uint64    `json:"next"`            // its offset
}

// Backlog says what waits.
func (d *Drain) Backlog(size func(stream string) (streams.Size, error)) (b Backlog, err error) {
	if b.Next, err = Next(d.log, d.key); err != nil {
		return b, err
	}
	oldest, _, err := d.log.Bounds(d.stream, 0)
	if err != nil {
		return b, err
	}
	b.Next = max(b.Next, oldest)
	if b.Records, err = d.log.Count(d.stream, 0, b.Next); err != nil || b.Records == 0 {
		return b, err
	}
	s, err := size(d.stream)
	if err != nil {
		return b, err
	}
	b.Bytes = s.Bytes
	first, err := d.log.Read(d.stream, 0, b.Next, 1, 1)
	if err == nil && len(first) > 0 {
		b.Oldest = time.UnixMilli(first[0].Time)
	}
	return b, err
}

// Replan makes a plan durable again that its owner has added to. From a Job alone.
func (d *Drain) Replan(ctx context.Context, p Plan) error {
	next, err := Next(d.log, d.key)
	if err != nil {
		return err
	}
	return d.save(ctx, position{next: next, plan: p})
}
