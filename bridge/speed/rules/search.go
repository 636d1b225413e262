package rules

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// ErrID is returned for what names no message.
var ErrID = errors.New("rules: want a message's trace id, or SHARD/OFFSET of the ingest log")

// errNoMessage says that the log has no such message, or none any more.
var errNoMessage = errors.New("rules: no such message")

func gone(err error) bool { return errors.Is(err, errNoMessage) || errors.Is(err, streams.ErrNotFound) }

// at reads one message of the ingest log.
func (e *Engine) at(shard int, offset uint64) (*message.Message, error) {
	recs, err := e.store.Read(ingest.Stream, shard, offset, 1, 0)
	if err != nil {
		return nil, err
	}
	if len(recs) == 1 && recs[0].Offset == offset {
		return message.Decode(recs[0].Data)
	}
	oldest, next, err := e.store.Bounds(ingest.Stream, shard)
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: shard %d of the ingest log holds %d up to %d", errNoMessage, shard, oldest, next)
}

// position returns the offset that the rules come to next.
func (e *Engine) position(shard int) (uint64, error) {
	info, err := e.store.Describe(ingest.Stream)
	if err != nil {
		return 0, err
	}
	raw, err := e.store.Get(positionKey(info.ID, shard))
	if err != nil || len(raw) != 8 {
		return 0, err
	}
	return binary.BigEndian.Uint64(raw), nil
}

const (
	searchRecords = 4096    // of one step back
	searchBytes   = 8 << 20 // of one read
	searchOutbox  = 100_000 // deliveries of an outbox that are looked at
)

// back visits the ingest log from its newest messages back to since ago, until
// visit says that it has enough: a step of each shard after the other, each
// step in the order of the log.
func (e *Engine) back(ctx context.Context, since time.Duration, progress func(searched, of uint64),
	visit func(shard int, rec *streams.Record) (enough bool, err error)) error {
	info, err := e.store.Describe(ingest.Stream)
	if err != nil {
		return err
	}
	type span struct{ from, to uint64 }
	left := make([]span, info.Config.Shards)
	var searched, of uint64
	for shard := range left {
		s := &left[shard]
		if s.from, err = e.store.OffsetAt(ingest.Stream, shard, time.Now().Add(-since)); err != nil {
			return err
		}
		if _, s.to, err = e.store.Bounds(ingest.Stream, shard); err != nil {
			return err
		}
		of += e.between(shard, s.from, s.to)
	}
	for open := true; open; {
		open = false
		for shard := range left {
			s := &left[shard]
			if s.from >= s.to {
				continue
			}
			open = true
			first, err := streams.Back(e.store, ingest.Stream, shard, s.to, searchRecords)
			if err != nil {
				return err
			}
			first = max(s.from, first)
			for at := first; at < s.to; {
				if err := ctx.Err(); err != nil {
					return err
				}
				recs, err := e.store.Read(ingest.Stream, shard, at, searchRecords, searchBytes)
				if err != nil {
					return err
				}
				if len(recs) == 0 {
					break
				}
				for i := range recs {
					if recs[i].Offset >= s.to {
						break
					}
					searched++
					if enough, err := visit(shard, &recs[i]); enough || err != nil {
						return err
					}
				}
				at = recs[len(recs)-1].Offset + 1
			}
			s.to = first
			progress(searched, of)
		}
	}
	return nil
}

// search finds a message by its trace.
func (e *Engine) search(ctx context.Context, trace message.Trace, since time.Duration,
	progress func(searched, of uint64)) (shard int, offset uint64, m *message.Message, err error) {
	var d message.Decoder
	var found *message.Message
	err = e.back(ctx, since, progress, func(in int, rec *streams.Record) (bool, error) {
		if !bytes.Contains(rec.Data, trace[:]) { // far quicker than to decode all
			return false, nil
		}
		m := new(message.Message)
		if err := d.Decode(m, rec.Data); err != nil || m.Trace != trace {
			return false, nil
		}
		shard, offset, found = in, rec.Offset, m
		return true, nil
	})
	if err == nil && found == nil {
		err = fmt.Errorf("%w of the last %v in the ingest log", errNoMessage, since)
	}
	return shard, offset, found, err
}

// waiting looks for a message's delivery in an outbox.
func (e *Engine) waiting(outbox string, trace message.Trace) (*Outcome, bool) {
	id := trace.String()
	first, err := action.Waiting(e.store, outbox)
	if err != nil {
		return nil, false
	}
	for at := first; at < first+searchOutbox; {
		recs, err := e.store.Read(outbox, 0, at, searchRecords, searchBytes)
		if err != nil || len(recs) == 0 {
			return nil, false
		}
		for _, rec := range recs {
			if !bytes.Contains(rec.Data, []byte(id)) {
				continue
			}
			if d, err := action.ParseDelivery(rec.Data); err == nil && d.TraceID == id {
				return &Outcome{State: StateWaiting, Stream: outbox, Offset: rec.Offset}, true
			}
		}
		at = recs[len(recs)-1].Offset + 1
	}
	return nil, false
}

// A Recent is a message that a rule met lately.
type Recent struct {
	ID       string    `json:"id"`
	Position string    `json:"position"`
	Time     time.Time `json:"time"`
	Topic    string    `json:"topic"`            // "": retention has dropped the message
	Result   string    `json:"result"`           // "fired", "failed" or "where false"
	Reason   string    `json:"reason,omitempty"` // of a failure
	Kept     bool      `json:"kept"`             // else evaluated anew
}

// Recent lists the newest messages that r has met, newest first: those that
// are kept, or when none are, those of the log back to since ago, at most as
// many. failed wants only those that failed.
func (e *Engine) Recent(ctx context.Context, r *Rule, failed bool, since time.Duration) ([]Recent, error) {
	want := []result{resultFired, resultFailed, resultUnmet}
	if failed {
		want = []result{resultFailed}
	}
	all := []Recent{}
	for _, k := range r.count.history.newest(want...) {
		n := Recent{ID: k.trace.String(), Position: position(k.shard, k.offset), Time: time.UnixMilli(k.time),
			Result: k.result.String(), Reason: k.why(), Kept: true}
		m, err := e.at(k.shard, k.offset)
		switch {
		case err == nil:
			n.Topic = m.Topic
		case !gone(err):
			return nil, err
		}
		all = append(all, n)
	}
	if len(all) == 0 && r.count.history.empty() {
		var err error
		if all, err = e.recentInLog(ctx, r, want, since); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b Recent) int { return b.Time.Compare(a.Time) })
	return all[:min(len(all), keepPerRule)], nil
}

// why is the first reason of a failure.
func (k *keptEntry) why() string {
	if k.reason != "" {
		return k.reason
	}
	for _, a := range k.acts {
		if a.reason != "" {
			return a.reason
		}
	}
	return ""
}

// recentInLog evaluates r on messages of the log: about the newest, as steps
// back reach back for different times in different shards.
func (e *Engine) recentInLog(ctx context.Context, r *Rule, want []result, since time.Duration) ([]Recent, error) {
	info, err := e.store.Describe(ingest.Stream)
	if err != nil {
		return nil, err
	}
	var d message.Decoder
	m := iotsql.Input{Account: e.opts.Account, Rule: r.Name}
	ctx = iotsql.WithoutEffects(ctx)
	all, steps, enough := []Recent{}, 0, false
	stepped := func(uint64, uint64) {
		steps++
		enough = steps >= info.Config.Shards && len(all) >= keepPerRule
	}
	err = e.back(ctx, since, stepped, func(shard int, rec *streams.Record) (bool, error) {
		if enough || d.Decode(&m.Message, rec.Data) != nil || !r.meets(m.Topic) {
			return enough, nil
		}
		n := Recent{ID: m.Trace.String(), Position: position(shard, rec.Offset), Time: time.UnixMilli(m.Time),
			Topic: m.Topic}
		res := resultUnmet
		switch _, fired, err := r.statement.Eval(ctx, nil, &m); {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err != nil:
			res, n.Reason = resultFailed, err.Error()
		case fired:
			res = resultFired
		}
		if n.Result = res.String(); slices.Contains(want, res) {
			all = append(all, n)
		}
		return false, nil
	})
	return all, err
}

// meets says whether a message on topic reaches r.
func (r *Rule) meets(name string) bool {
	if rule, _, ok := topic.CutRule(name); ok {
		return rule == r.Name
	}
	return r.statement.Matches(name)
}
