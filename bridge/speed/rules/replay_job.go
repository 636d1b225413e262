package rules

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// maxTopics bounds the topics that a job remembers, of each kind.
const maxTopics = 10_000

// A replayJob is what one goroutine of a replaying does and finds.
type replayJob struct {
	*replaying

	messages, lost, unreadable uint64
	first, last                int64 // epoch ms of messages
	sides                      [2]ReplayCounts
	kinds                      [kinds]uint64
	samples                    [differences]sample
	topics                     map[string]*[differences]uint64 // of those with differences
	moreTopics                 bool                            // topics had no room

	// Scratch.
	matches map[string]reach
	decoder message.Decoder
	message iotsql.Input
	docs    [2][]byte
}

// Sides of a comparison.
const (
	sideOld = iota
	sideNew
)

// A reach says whether messages on a topic are for the rules.
type reach [2]bool

func newReplayJob(x *replaying) *replayJob {
	return &replayJob{replaying: x, topics: map[string]*[differences]uint64{}, matches: map[string]reach{}}
}

// reaches looks a topic up among those that were met before.
func (j *replayJob) reaches(topic []byte) reach {
	if r, ok := j.matches[string(topic)]; ok {
		return r
	}
	name := string(topic)
	r := reach{j.old != nil && j.old.meets(name), j.new.meets(name)}
	if len(j.matches) >= maxTopics {
		clear(j.matches)
	}
	j.matches[name] = r
	return r
}

// one compares what the rules make of one record. It returns false if ctx
// ended before that was done.
func (j *replayJob) one(ctx context.Context, shard int, rec *streams.Record) bool {
	if rec.Time < j.from || rec.Time >= j.to {
		return true
	}
	topic, err := message.RecordTopic(rec.Data)
	if err != nil {
		j.unreadable++
		return true
	}
	reach := j.reaches(topic)
	if reach[sideOld] || reach[sideNew] {
		if err := j.decoder.Decode(&j.message.Message, rec.Data); err != nil {
			j.unreadable++
			return true
		}
		if !j.compare(ctx, reach, shard, rec.Offset) {
			return false
		}
	} else {
		j.kinds[neitherFires]++
	}
	if j.messages == 0 {
		j.first, j.last = rec.Time, rec.Time
	}
	j.first, j.last = min(j.first, rec.Time), max(j.last, rec.Time)
	j.messages++
	return true
}

// compare evaluates the message at hand for the rules that it reaches, and
// counts what differs.
func (j *replayJob) compare(ctx context.Context, reach reach, shard int, offset uint64) bool {
	j.message.Account, j.message.Seed = j.engine.opts.Account, j.message.Trace
	var ends [2]replayEnd
	for side, r := range [...]*Rule{sideOld: j.old, sideNew: j.new} {
		switch {
		case !reach[side]:
		case side == sideNew && j.same:
			ends[sideNew] = ends[sideOld]
		default:
			ends[side] = j.eval(ctx, r, side)
		}
	}
	if ctx.Err() != nil { // an evaluation may have ended for that
		return false
	}
	for side := range ends {
		if reach[side] {
			j.sides[side].add(ends[side].outcome)
		}
	}
	kind := kindOf[ends[sideOld].outcome][ends[sideNew].outcome]
	if kind == changes && (j.same || iotsql.SameDocument(ends[sideOld].doc, ends[sideNew].doc)) {
		kind = sameOutput
	}
	j.kinds[kind]++
	if kind < differences {
		j.differs(kind, &ends, shard, offset)
	}
	return true
}

// A replayEnd is what a rule made of a message. Its zero value is that the
// message did not reach the rule.
type replayEnd struct {
	outcome outcomeKind
	doc     []byte
	err     error
}

// eval evaluates r. A fault of ours counts as a failed evaluation, as it does
// for workers.
func (j *replayJob) eval(ctx context.Context, r *Rule, side int) (end replayEnd) {
	defer func() {
		if fault := recover(); fault != nil {
			end = replayEnd{outcome: ruleFailed, err: fmt.Errorf("evaluation broke off: %v", fault)}
		}
	}()
	m := &j.message
	m.Rule = r.Name
	doc, fired, err := r.statement.Eval(ctx, j.docs[side][:0], m)
	switch {
	case err != nil:
		return replayEnd{outcome: ruleFailed, err: err}
	case !fired:
		return replayEnd{outcome: whereFalse}
	}
	j.docs[side] = doc
	return replayEnd{outcome: ruleFired, doc: doc}
}

// differs keeps account of the difference of the message at hand.
func (j *replayJob) differs(kind replayKind, ends *[2]replayEnd, shard int, offset uint64) {
	m := &j.message
	n := j.topics[m.Topic]
	if n == nil && len(j.topics) < maxTopics {
		n = new([differences]uint64)
		j.topics[m.Topic] = n
	}
	if n != nil {
		n[kind]++
	} else {
		j.moreTopics = true
	}
	p := priority(shard, offset)
	if !j.samples[kind].wants(p, j.limit()) {
		return
	}
	x := ReplayExample{ID: m.Trace.String(), Position: position(shard, offset), Time: time.UnixMilli(m.Time),
		Topic: m.Topic, ClientID: m.ClientID,
		Payload: excerpt(m.Payload)}
	for side, out := range []*ReplayEnd{sideOld: &x.Old, sideNew: &x.New} {
		end := &ends[side]
		out.Result = end.outcome.String()
		switch end.outcome {
		case ruleFired:
			out.Document = excerpt(end.doc)
		case ruleFailed:
			out.Error = short(end.err.Error())
		}
	}
	j.samples[kind].put(sampled{p, shard, offset, x}, j.limit())
}

// limit is how many examples of a kind are kept.
func (x *replaying) limit() int { return min(max(0, x.Examples), MaxExamples) }
