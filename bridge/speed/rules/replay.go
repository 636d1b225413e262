package rules

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
)

// A Replay evaluates a changed rule on the messages that the ingest log still
// has, next to the rule in force. Only statements are evaluated: no action is
// run or even looked at, nothing is stored, counted or kept.
//
// rand() and newuuid() come to the same for both rules, as a message's trace
// is their seed. Functions that ask services get what these answer now,
// but for secrets, which are hidden: see iotsql.WithoutEffects.
type Replay struct {
	New *Rule
	Old *Rule // nil: one that never fires
	// what the statements may ask, in the place of what the rules were compiled with; nil: nothing
	Services *iotsql.Services

	// From and To bound the arrival of messages; one that came at From is
	// taken, one that came at To is not. Zero: the oldest that is kept, and
	// the newest that is there when the replay begins.
	From, To time.Time

	Shards   []int // of the ingest log; nil: all
	Examples int   // of each kind of difference at most, up to MaxExamples
	Jobs     int   // goroutines, each with a shard at a time; 0: one
}

// ErrReplay is returned for a Replay that asks for what cannot be.
var ErrReplay = errors.New("rules: cannot replay")

// MaxExamples bounds Replay.Examples: an example may have three texts of
// maxExcerpt bytes.
const MaxExamples = 1000

const (
	replayRecords = 4096    // of one step in a shard
	replayBytes   = 2 << 20 // likewise

	// replaySlack is how much later than its arrival a message's block may be
	// committed, and is still found by Replay.To. A guess, far above what a
	// sync takes; a disk that stalls for longer leaves messages out.
	replaySlack = time.Minute
)

// A replaySpan is what is left to be read of one shard.
type replaySpan struct {
	shard    int
	from, to uint64
}

// A replaying is one run of a Replay.
type replaying struct {
	*Replay
	engine   *Engine
	from, to int64 // epoch ms of messages, to being the first that is not taken
	old, new *Rule // with statements compiled anew; old is nil if it never fires
	same     bool  // both come to the same on every message
	progress func(read, of uint64)

	mu     sync.Mutex // guards what follows
	spans  []*replaySpan
	read   uint64
	of     uint64
	failed map[string]int64 // calls, by function
	err    error
}

// Replay runs r and reports. It reads a step of one shard after the other, so
// that those grow together; progress is told after each step how many records
// were looked at, of how many, by one goroutine at a time. Memory is bounded,
// whatever the log holds.
//
// When ctx ends the report is of what was read until then, and Partial. Errors
// are ErrReplay, those of compiling the statements, and those of the log.
func (e *Engine) Replay(ctx context.Context, r *Replay, progress func(read, of uint64)) (*ReplayReport, error) {
	x := &replaying{Replay: r, engine: e, progress: progress, failed: map[string]int64{}}
	if err := x.compile(); err != nil {
		return nil, err
	}
	report, err := x.begin()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	progress(0, x.of)
	ctx, stop := context.WithCancel(iotsql.WithoutEffects(ctx))
	defer stop()
	jobs := make([]*replayJob, min(max(1, r.Jobs), max(1, len(x.spans))))
	var wg sync.WaitGroup
	for i := range jobs {
		jobs[i] = newReplayJob(x)
		wg.Go(func() {
			if err := jobs[i].run(ctx); err != nil {
				x.mu.Lock()
				x.err = errors.Join(x.err, err)
				x.mu.Unlock()
				stop()
			}
		})
	}
	wg.Wait()
	if x.err != nil {
		return nil, x.err
	}
	report.Elapsed = time.Since(began)
	x.finish(report, jobs)
	return report, nil
}

// compile makes the statements anew, so that what they ask is not counted
// among the calls of rules that run.
func (x *replaying) compile() error {
	services := &iotsql.Services{}
	if s := x.Services; s != nil {
		services = &iotsql.Services{Shadows: s.Shadows, Things: s.Things, Tables: s.Tables, Secrets: s.Secrets,
			Lambdas: s.Lambdas,
			Models:  s.Models, Protobuf: s.Protobuf}
	}
	services.Failed = func(function string, _ error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.failed[function]++
	}
	anew := func(r *Rule) (*Rule, error) {
		if slices.Contains(r.statement.Asks(), "aws_lambda") {
			return nil, fmt.Errorf(
				"%w rule %s: aws_lambda may have effects, and is not called for messages of the past", ErrReplay,
				r.Name)
		}
		s, err := services.Compile(r.Payload.SQL, r.Payload.AwsIotSQLVersion)
		if err != nil {
			return nil, fmt.Errorf("rule %s: sql: %w", r.Name, err)
		}
		return &Rule{Name: r.Name, Payload: r.Payload, statement: s}, nil
	}
	var err error
	if x.new, err = anew(x.New); err != nil || x.Old == nil || x.Old.Disabled {
		return err
	}
	x.old, err = anew(x.Old)
	x.same = err == nil && x.old.Name == x.new.Name && x.old.statement.String() == x.new.statement.String() &&
		x.old.statement.Version() == x.new.statement.Version()
	return err
}

// begin finds what there is to read.
func (x *replaying) begin() (*ReplayReport, error) {
	if !x.From.IsZero() && !x.To.IsZero() && x.To.Before(x.From) {
		return nil, fmt.Errorf("%w: the range ends at %v, before it begins at %v", ErrReplay, x.To, x.From)
	}
	x.from, x.to = arrival(x.From, 0), arrival(x.To, 1<<63-1)
	store := x.engine.store
	info, err := store.Describe(ingest.Stream)
	if err != nil {
		return nil, err
	}
	shards := slices.Clone(x.Shards)
	if shards == nil {
		for i := range info.Config.Shards {
			shards = append(shards, i)
		}
	}
	slices.Sort(shards)
	shards = slices.Compact(shards)
	trimmed := false
	report := &ReplayReport{Rule: x.New.Name, SQL: x.New.Payload.SQL, From: x.From, To: x.To, Shards: len(shards)}
	for _, i := range shards {
		if i < 0 || i >= info.Config.Shards {
			return nil, fmt.Errorf("%w: shard %d; the ingest log has 0 to %d", ErrReplay, i, info.Config.Shards-1)
		}
		s := &replaySpan{shard: i}
		oldest, next, err := store.Bounds(ingest.Stream, i)
		if err != nil {
			return nil, err
		}
		s.from, s.to = oldest, next
		if !x.From.IsZero() {
			if s.from, err = store.OffsetAt(ingest.Stream, i, x.From); err != nil {
				return nil, err
			}
			trimmed = trimmed || oldest > 0
		}
		if !x.To.IsZero() {
			end, err := store.OffsetAt(ingest.Stream, i, x.To.Add(replaySlack))
			if err != nil {
				return nil, err
			}
			s.to = min(s.to, end)
		}
		if s.from < s.to {
			x.spans = append(x.spans, s)
			x.of += x.engine.between(i, s.from, s.to)
		}
	}
	if trimmed {
		since, err := x.engine.retainedSince(info.Config.Shards)
		if err != nil {
			return nil, err
		}
		if since.After(x.From) {
			report.RetainedSince = since
		}
	}
	return report, nil
}

// arrival is the first ms not before t.
func arrival(t time.Time, zero int64) int64 {
	if t.IsZero() {
		return zero
	}
	return t.Add(time.Millisecond - 1).UnixMilli()
}

// retainedSince returns from when on the log certainly holds all that arrived.
// Retention takes blocks older than a time, or the oldest of all shards, so
// that whatever it took is older than all that is left.
func (e *Engine) retainedSince(shards int) (time.Time, error) {
	since := time.Now()
	for i := range shards {
		oldest, _, err := e.store.Bounds(ingest.Stream, i)
		if err != nil {
			return since, err
		}
		recs, err := e.store.Read(ingest.Stream, i, oldest, 1, 0)
		if err != nil {
			return since, err
		}
		if len(recs) > 0 {
			if t := time.UnixMilli(recs[0].Time); t.Before(since) {
				since = t
			}
		}
	}
	return since, nil
}

// take returns a span for a step, nil when all that is left is in hand.
func (x *replaying) take() *replaySpan {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.spans) == 0 {
		return nil
	}
	s := x.spans[0]
	x.spans = x.spans[1:]
	return s
}

// give takes a span back after a step of it.
func (x *replaying) give(s *replaySpan, read uint64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s.from < s.to {
		x.spans = append(x.spans, s)
	}
	x.read += read
	x.progress(x.read, x.of)
}

// run takes steps until nothing is left or ctx ends.
func (j *replayJob) run(ctx context.Context) error {
	for ctx.Err() == nil {
		s := j.take()
		if s == nil {
			return nil
		}
		read, err := j.step(ctx, s)
		j.give(s, read)
		if err != nil {
			return err
		}
		runtime.Gosched() // those who serve devices come first
	}
	return nil
}

// step reads some records of a span and moves its begin past those that were
// dealt with, or have left the log meanwhile: so many.
func (j *replayJob) step(ctx context.Context, s *replaySpan) (read uint64, err error) {
	recs, err := j.engine.store.Read(ingest.Stream, s.shard, s.from, int(min(replayRecords, s.to-s.from)), replayBytes)
	if err != nil {
		return 0, err
	}
	first := s.to // retention has taken it all, or only a gap is left
	if len(recs) > 0 {
		first = min(first, recs[0].Offset)
	}
	if first > s.from {
		oldest, _, err := j.engine.store.Bounds(ingest.Stream, s.shard)
		if err != nil {
			return 0, err
		}
		if oldest > s.from {
			read = min(oldest, first) - s.from
			j.lost += read
		}
	}
	s.from = first
	for i := range recs {
		if recs[i].Offset >= s.to || !j.one(ctx, s.shard, &recs[i]) {
			break
		}
		s.from = recs[i].Offset + 1
		read++
	}
	return read, nil
}

// notes tells what a reader of the report has to know.
func (x *replaying) notes() (all []string) {
	note := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	var asks []string
	anew := false
	for _, r := range []*Rule{x.new, x.old} {
		if r != nil {
			asks = append(asks, r.statement.Asks()...)
			text := strings.ToLower(r.statement.String())
			anew = anew || strings.Contains(text, "newuuid") || strings.Contains(text, "rand")
		}
	}
	switch {
	case x.Old == nil:
		note("there is no rule to compare with: a rule that never fires stands in for it")
	case x.Old.Disabled:
		note("the rule in force is disabled, so it never fires")
	case x.same:
		note("the two statements are the same, so nothing can differ")
	default:
		note("documents are compared as JSON values: the order of members, space, and how a number or text is " +
			"spelled make no change")
	}
	if x.New.Disabled {
		note("the new rule is disabled; it is evaluated as if it were enabled")
	}
	if x.Old != nil && x.New.Payload.Actions != nil && !sameActions(x.Old, x.New) {
		note("the actions of the two rules differ; only the documents they are given were compared")
	}
	if anew {
		note("rand() and newuuid() come to the same for both rules, but not to what they were when the messages " +
			"arrived")
	}
	if slices.Sort(asks); len(asks) > 0 {
		note("%s: answered as things are now, not as they were when the messages arrived",
			strings.Join(slices.Compact(asks), ", "))
	}
	for _, f := range slices.Sorted(maps.Keys(x.failed)) {
		note("%s failed %d times; its value was Undefined then", f, x.failed[f])
	}
	return all
}
