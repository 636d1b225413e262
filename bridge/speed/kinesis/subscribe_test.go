package kinesis

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// consumer registers a consumer and returns its ARN.
func (b *bench) register(name string) *string {
	b.t.Helper()
	out, err := b.RegisterStreamConsumer(bg,
		&RegisterStreamConsumerInput{StreamARN: p(b.streamARN("s")), ConsumerName: &name})
	if err != nil {
		b.t.Fatal(err)
	}
	return &out.Consumer.ConsumerARN
}

func (b *bench) subscribe(arn *string, shard, kind string, after ...Sequence) (*Subscription, error) {
	at := &StartingPosition{Type: &kind}
	if len(after) > 0 {
		at.SequenceNumber = p(after[0].String())
	}
	sub, err := b.SubscribeToShard(bg, &SubscribeToShardInput{ConsumerARN: arn, ShardId: &shard, StartingPosition: at})
	if err == nil {
		b.t.Cleanup(sub.Close)
	}
	return sub, err
}

func (b *bench) mustSubscribe(arn *string, shard, kind string, after ...Sequence) *Subscription {
	b.t.Helper()
	sub, err := b.subscribe(arn, shard, kind, after...)
	if err != nil {
		b.t.Fatal(err)
	}
	return sub
}

func (b *bench) next(s *Subscription) *SubscribeToShardEvent {
	b.t.Helper()
	e, err := s.Next(bg)
	if err != nil {
		b.t.Fatal(err)
	}
	return e
}

func TestSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2, Options{})
		b.put("k#0:before")
		arn := b.register("c")
		began := time.Now()
		sub := b.mustSubscribe(arn, "0", "LATEST")
		b.put("k#0:a", "k#0:b", "k#"+max128+":other")
		// LATEST was settled by the call, not by the first Next.
		e := b.next(sub)
		if texts(e.Records) != "k:a k:b" || e.MillisBehindLatest != 0 ||
			e.ContinuationSequenceNumber != e.Records[1].SequenceNumber {
			t.Errorf("%s, %+v", texts(e.Records), e)
		}
		if time.Since(began) != 0 {
			t.Errorf("first event after %s", time.Since(began))
		}
		if e := b.next(sub); len(e.Records) != 0 || e.Records == nil || time.Since(began) != 5*time.Second ||
			e.ContinuationSequenceNumber.IsZero() || len(e.ChildShards) != 0 {
			t.Errorf("heartbeat after %s: %+v", time.Since(began), e)
		}
		// A record wakes who waits at once.
		go func() {
			time.Sleep(2 * time.Second)
			b.put("k#0:c")
		}()
		last := b.next(sub)
		if texts(last.Records) != "k:c" || time.Since(began) != 7*time.Second {
			t.Errorf("%s after %s", texts(last.Records), time.Since(began))
		}
		for {
			e, err := sub.Next(bg)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || len(e.Records) != 0 {
				t.Fatalf("%+v, %v", e, err)
			}
			last = e
		}
		if got := time.Since(began); got != 5*time.Minute {
			t.Errorf("ended after %s", got)
		}
		b.put("k#0:d")
		sub = b.mustSubscribe(arn, "0", "AFTER_SEQUENCE_NUMBER", last.ContinuationSequenceNumber)
		if e := b.next(sub); texts(e.Records) != "k:d" {
			t.Errorf("went on with %s", texts(e.Records))
		}
		ctx, cancel := context.WithCancel(bg)
		cancel()
		if _, err := sub.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestSubscriptionTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2, Options{Delay: time.Second})
		time.Sleep(time.Second)
		arn := b.register("c")
		_, err := b.subscribe(arn, "0", "LATEST")
		wantError(t, err, ResourceInUse, "CREATING")
		time.Sleep(time.Second)
		first := b.mustSubscribe(arn, "0", "LATEST")
		b.mustSubscribe(arn, "1", "LATEST") // another shard is another matter
		const inUse = "Another active subscription exists for this consumer: 123456789012:s:shardId-000000000000:c"
		time.Sleep(4999 * time.Millisecond)
		_, err = b.subscribe(arn, "0", "LATEST")
		wantError(t, err, ResourceInUse, inUse)
		ended := make(chan error)
		b.next(first) // a heartbeat
		go func() {
			_, err := first.Next(bg)
			ended <- err
		}()
		synctest.Wait()
		at := time.Now()
		second := b.mustSubscribe(arn, "0", "TRIM_HORIZON")
		wantError(t, <-ended, ResourceInUse, inUse)
		if time.Since(at) != 0 {
			t.Errorf("the first ended %s later", time.Since(at))
		}
		first.Close() // does not end the second
		_, err = b.subscribe(arn, "0", "LATEST")
		wantError(t, err, ResourceInUse, inUse)
		second.Close()
		third := b.mustSubscribe(arn, "0", "LATEST")

		if err := b.DeregisterStreamConsumer(bg, &DeregisterStreamConsumerInput{ConsumerARN: arn}); err != nil {
			t.Fatal(err)
		}
		if _, err := third.Next(bg); err == nil {
			t.Error("a consumer that is deregistered goes on")
		}
		_, err = b.subscribe(p(strings.Replace(*arn, "/c:", "/other:", 1)), "0", "LATEST")
		wantError(t, err, ResourceNotFound, "other")
	})
}

// A subscriber who waits is told at once that its shard was split.
func TestSubscriptionAtShardEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, Options{})
		b.put("k:a")
		sub := b.mustSubscribe(b.register("c"), "0", "TRIM_HORIZON")
		if e := b.next(sub); texts(e.Records) != "k:a" || e.ContinuationSequenceNumber.IsZero() {
			t.Fatalf("%+v", e)
		}
		at := time.Now()
		go func() {
			time.Sleep(time.Second)
			b.split("0")
		}()
		e := b.next(sub)
		if len(e.Records) != 0 || !e.ContinuationSequenceNumber.IsZero() || len(e.ChildShards) != 2 ||
			time.Since(at) != time.Second {
			t.Errorf("after %s: %+v", time.Since(at), e)
		}
		if _, err := sub.Next(bg); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}

// Where limits are enforced a consumer gets 2 MiB of a shard in a second.
func TestSubscriptionPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, Options{Emulate: true})
		for range 8 {
			b.put("k:" + strings.Repeat("x", 1<<20-1))
			time.Sleep(time.Second)
		}
		sub := b.mustSubscribe(b.register("c"), "0", "TRIM_HORIZON")
		began := time.Now()
		for i := range 8 {
			e := b.next(sub)
			if want := time.Duration(i/2) * time.Second; len(e.Records) != 1 || time.Since(began) != want {
				t.Errorf("event %d: %d records after %s, want %s", i, len(e.Records), time.Since(began), want)
			}
		}
	})
}
