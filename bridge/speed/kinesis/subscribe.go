package kinesis

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

const (
	subscriptionLife = 5 * time.Minute // then the client subscribes again
	heartbeat        = 5 * time.Second // between events without records
	takeOverAfter    = 5 * time.Second // of a call, another may take over
	maxEventBytes    = 1 << 20
)

// subscriptions under way, by consumer and shard.
type subscriptions struct {
	mu  sync.Mutex
	all map[subscriptionKey]*Subscription
}

type subscriptionKey struct {
	consumer string // ARN
	shard    int
}

// A Subscription is one SubscribeToShard under way. Next is for one goroutine
// at a time.
type Subscription struct {
	api   API
	src   *source
	shard *shardFlow
	arn   string // of the consumer

	began    time.Time
	until    time.Time
	position uint64
	last     int64         // epoch ms of the record before position, or 0
	ended    bool          // the shard's end was told
	taken    chan struct{} // closed when another takes over
	paced    window        // where limits are enforced
}

// SubscribeToShard begins to push a shard's records to a consumer. An error
// here is one of the call; what goes wrong later comes from Next.
func (a API) SubscribeToShard(ctx context.Context, in *SubscribeToShardInput) (*Subscription, error) {
	src, err := a.consumed(*in.ConsumerARN)
	if err != nil {
		return nil, err
	}
	index, ok := shardIndex(*in.ShardId)
	if !ok {
		return nil, errorf(ResourceNotFound, "Could not find shard %s in stream %s under account %s.", *in.ShardId,
			src.name, a.s.opts.Account)
	}
	at := in.StartingPosition
	position, err := a.position(src, index, start{*at.Type, at.SequenceNumber, at.Timestamp, "SubscribeToShard"})
	if err != nil {
		return nil, err
	}
	sh, err := src.shard(a.s.store, index)
	if err != nil || sh == nil {
		return nil, a.noShard(src.name, index)
	}
	if dry(in.DryRun) {
		return nil, errDryRun
	}
	now := time.Now()
	sub := &Subscription{
		api: a, src: src, shard: sh, arn: *in.ConsumerARN,
		began: now, until: now.Add(subscriptionLife), position: position, taken: make(chan struct{}),
	}
	if err := a.s.subs.add(sub); err != nil {
		return nil, err
	}
	return sub, nil
}

// consumed finds the stream of a consumer that is ACTIVE.
func (a API) consumed(consumerARN string) (*source, error) {
	st, c, err := a.consumer(nil, nil, &consumerARN)
	if err != nil {
		return nil, err
	}
	if c.status != active {
		return nil, errorf(ResourceInUse, "Consumer %s under stream %s is not ACTIVE, instead in state %s", c.Name,
			st.Name, c.status)
	}
	return a.sourceOf(st)
}

func (s *Subscription) key() subscriptionKey { return subscriptionKey{s.arn, s.shard.shard.Index} }

// inUse is what those get who are too early, or who were followed by another.
func (s *Subscription) inUse() error {
	to, _ := parseARN(s.arn)
	return errorf(ResourceInUse, "Another active subscription exists for this consumer: %s:%s:%s:%s",
		s.api.s.opts.Account, s.src.name, s.shard.id, to.consumer)
}

// add makes s the subscription of its consumer and shard.
func (r *subscriptions) add(s *Subscription) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old := r.all[s.key()]; old != nil {
		if s.began.Sub(old.began) < takeOverAfter {
			return s.inUse()
		}
		close(old.taken)
	}
	if r.all == nil {
		r.all = map[subscriptionKey]*Subscription{}
	}
	r.all[s.key()] = s
	return nil
}

// Close ends the subscription; call it in any case.
func (s *Subscription) Close() {
	r := &s.api.s.subs
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.all[s.key()] == s {
		delete(r.all, s.key())
	}
}

// Next waits for the next event: records, or none as a heartbeat. io.EOF is the
// clean end, after five minutes or at the end of the shard; an *Error is for
// the client.
func (s *Subscription) Next(ctx context.Context) (*SubscribeToShardEvent, error) {
	beat := time.Now().Add(heartbeat)
	for {
		select {
		case <-s.taken:
			return nil, s.inUse()
		default:
		}
		now := time.Now()
		if s.ended || !now.Before(s.until) {
			return nil, io.EOF
		}
		// Of the stream as it is now: its retention and encryption may change,
		// and the consumer may be gone.
		src, err := s.api.consumed(s.arn)
		if err != nil {
			return nil, err
		}
		if src.flow != s.src.flow {
			return nil, s.api.noShard(s.src.name, s.shard.shard.Index)
		}
		ready := s.ready(src, now)
		if ready.After(now) {
			if err := s.sleep(ctx, ready); err != nil {
				return nil, err
			}
			continue
		}
		p, err := s.api.read(src, s.shard, s.position, maxGetRecords, maxEventBytes)
		if err != nil {
			return nil, err
		}
		s.position = p.next
		if len(p.records) > 0 || p.end || !now.Before(beat) {
			return s.event(&p), nil
		}
		err = s.wait(ctx, beat)
		switch {
		case err == nil || errors.Is(err, streams.ErrShardClosed):
		case errors.Is(err, streams.ErrClosed):
			return nil, io.EOF // the bridge goes down
		default:
			return nil, s.api.gone(src.name, s.shard.shard.Index, err)
		}
	}
}

// event is what the client sees of a page.
func (s *Subscription) event(p *page) *SubscribeToShardEvent {
	s.ended = p.end
	s.paced.bytes += p.bytes
	e := &SubscribeToShardEvent{Records: p.records, MillisBehindLatest: p.behind.Milliseconds(),
		ChildShards: p.children}
	if len(p.records) > 0 {
		s.last = p.last
	}
	if !p.end {
		// The number of the record before: the client goes on after it.
		sh := &s.shard.shard
		if e.ContinuationSequenceNumber = firstSequence(sh); s.position > 0 {
			e.ContinuationSequenceNumber = sequenceOf(sh, s.position-1, max(s.last, sh.Created.UnixMilli()))
		}
	}
	return e
}

// ready is when the next event may be read.
func (s *Subscription) ready(src *source, now time.Time) time.Time {
	w := &s.paced
	w.roll(now, 0, fanOutBytes)
	if !src.emulate || w.bytes < fanOutBytes {
		return now
	}
	return w.start.Add(time.Second)
}

// wait returns when there may be something to read, at the latest at a time.
func (s *Subscription) wait(ctx context.Context, until time.Time) error {
	ctx, cancel := s.bound(ctx, until)
	defer cancel()
	err := s.api.s.store.Wait(ctx, s.src.name, s.shard.shard.Index, s.position)
	return s.woken(ctx, err)
}

// sleep returns at a time, or when the subscription ends.
func (s *Subscription) sleep(ctx context.Context, until time.Time) error {
	ctx, cancel := s.bound(ctx, until)
	defer cancel()
	<-ctx.Done()
	return s.woken(ctx, ctx.Err())
}

var errWoken = errors.New("kinesis: woken")

// bound ends ctx at a time, at the end of the subscription's life, and when
// another takes over.
func (s *Subscription) bound(ctx context.Context, until time.Time) (context.Context, func()) {
	if s.until.Before(until) {
		until = s.until
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(time.Until(until), func() { cancel(errWoken) })
	done := make(chan struct{})
	go func() {
		select {
		case <-s.taken:
			cancel(errWoken)
		case <-ctx.Done():
		}
		close(done)
	}()
	return ctx, func() {
		timer.Stop()
		cancel(errWoken)
		<-done
	}
}

// woken is nil where err only says that Next has to look again.
func (s *Subscription) woken(ctx context.Context, err error) error {
	if ctx.Err() != nil && context.Cause(ctx) == errWoken {
		return nil
	}
	return err
}
