package e2e

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/tidemill/tidemill/deploy/rig"
)

// TestGoSDK puts and reads a stream with AWS's SDK for Go, over HTTP/1.1 as it
// does by itself and over HTTP/2.
func TestGoSDK(t *testing.T) {
	f := sharedBridge(t, streamsConfig)
	ctx, cancel := context.WithTimeout(f.ctx, 5*patience)
	t.Cleanup(cancel)
	for name, protocol := range map[string]string{"http1": "http/1.1", "http2": "h2"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStream(t, ctx, f.aws().client(t, protocol), name, 2)
			s.puts()
			s.iterators()
			s.fansOut()
			s.refuses()
		})
	}
}

// puts writes 500 records in one request and 10 more one by one and finds each
// where the answer said.
func (s *stream) puts() {
	t := s.t
	t.Helper()
	in := &kinesis.PutRecordsInput{StreamName: &s.name}
	for i := range 500 {
		in.Records = append(in.Records, types.PutRecordsRequestEntry{Data: []byte(strconv.Itoa(i)),
			PartitionKey: aws.String(fmt.Sprint("k", i%20))})
	}
	out, err := s.c.PutRecords(s.ctx, in)
	if err != nil || *out.FailedRecordCount != 0 || len(out.Records) != 500 {
		t.Fatalf("PutRecords: %+v, %v", out, err)
	}
	type place struct{ shard, number string }
	want := map[place]string{}
	for i, r := range out.Records {
		want[place{*r.ShardId, *r.SequenceNumber}] = strconv.Itoa(i)
	}
	top := "340282366920938463463374607431768211455" // of the last shard
	var last string
	for i := range 10 {
		in := &kinesis.PutRecordInput{StreamARN: &s.arn, Data: []byte(strconv.Itoa(500 + i)),
			PartitionKey: aws.String("any"), ExplicitHashKey: &top}
		if last != "" {
			in.SequenceNumberForOrdering = &last
		}
		r, err := s.c.PutRecord(s.ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		if *r.ShardId != "shardId-000000000001" || last != "" &&
			number(t, *r.SequenceNumber).Cmp(number(t, last)) <= 0 {
			t.Errorf("PutRecord of the highest hash: shard %s, %s after %s", *r.ShardId, *r.SequenceNumber, last)
		}
		last = *r.SequenceNumber
		want[place{*r.ShardId, last}] = strconv.Itoa(500 + i)
	}
	for _, shard := range s.shards() {
		it, err := s.iterator(*shard.ShardId, "")
		if err != nil {
			t.Fatal(err)
		}
		records, _ := s.drain(it)
		for i, r := range records {
			p := place{*shard.ShardId, *r.SequenceNumber}
			if want[p] != string(r.Data) {
				t.Errorf("%v holds %q, want %q", p, r.Data, want[p])
			}
			delete(want, p)
			if i > 0 && number(t, p.number).Cmp(number(t, *records[i-1].SequenceNumber)) <= 0 {
				t.Errorf("%v comes after %s", p, *records[i-1].SequenceNumber)
			}
			if age := time.Since(*r.ApproximateArrivalTimestamp); age < -time.Second || age > 5*patience {
				t.Errorf("%v arrived %v ago", p, age)
			}
		}
	}
	if len(want) > 0 {
		t.Errorf("%d of 510 records are not where the answers said", len(want))
	}
}

func number(t testing.TB, s string) *big.Int {
	t.Helper()
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		t.Fatalf("sequence number %q", s)
	}
	return n
}

// iterators reads one shard from each kind of position.
func (s *stream) iterators() {
	t := s.t
	t.Helper()
	shard := "shardId-000000000001"
	first, err := s.iterator(shard, "")
	if err != nil {
		t.Fatal(err)
	}
	all, _ := s.drain(first)
	middle := all[len(all)/2]
	read := func(kind types.ShardIteratorType, number *string, at *time.Time) []types.Record {
		t.Helper()
		out, err := s.c.GetShardIterator(s.ctx, &kinesis.GetShardIteratorInput{StreamName: &s.name, ShardId: &shard,
			ShardIteratorType: kind, StartingSequenceNumber: number, Timestamp: at})
		if err != nil {
			t.Fatal(kind, err)
		}
		got, _ := s.drain(out.ShardIterator)
		return got
	}
	count := func(kind string, got []types.Record, want int) {
		t.Helper()
		if len(got) != want {
			t.Errorf("%s: %d records, want %d", kind, len(got), want)
		}
	}
	n, half := len(all), len(all)/2
	count("AT_SEQUENCE_NUMBER", read(types.ShardIteratorTypeAtSequenceNumber, middle.SequenceNumber, nil), n-half)
	count("AFTER_SEQUENCE_NUMBER", read(types.ShardIteratorTypeAfterSequenceNumber, middle.SequenceNumber, nil),
		n-half-1)
	count("LATEST", read(types.ShardIteratorTypeLatest, nil, nil), 0)
	count("TRIM_HORIZON", read(types.ShardIteratorTypeTrimHorizon, nil, nil), n)
	arrived := all[n-1].ApproximateArrivalTimestamp
	later := slices.IndexFunc(all, func(r types.Record) bool { return !r.ApproximateArrivalTimestamp.Before(*arrived) })
	count("AT_TIMESTAMP", read(types.ShardIteratorTypeAtTimestamp, nil, arrived), n-later)
	out, err := s.c.GetRecords(s.ctx, &kinesis.GetRecordsInput{ShardIterator: first, Limit: aws.Int32(3)})
	if err != nil || len(out.Records) != 3 || out.NextShardIterator == nil {
		t.Errorf("GetRecords of at most 3: %+v, %v", out, err)
	}
}

// fansOut subscribes to a shard, gets what is there, what is put later, and at
// its split the children.
func (s *stream) fansOut() {
	t := s.t
	t.Helper()
	reg, err := s.c.RegisterStreamConsumer(s.ctx,
		&kinesis.RegisterStreamConsumerInput{StreamARN: &s.arn, ConsumerName: aws.String("app")})
	if err != nil {
		t.Fatal(err)
	}
	arn := reg.Consumer.ConsumerARN
	if err := rig.Until(s.ctx, "the consumer", func() (bool, error) {
		d, err := s.c.DescribeStreamConsumer(s.ctx, &kinesis.DescribeStreamConsumerInput{ConsumerARN: arn})
		return err == nil && d.ConsumerDescription.ConsumerStatus == types.ConsumerStatusActive, err
	}); err != nil {
		t.Fatal(err)
	}
	it, err := s.iterator("shardId-000000000000", "")
	if err != nil {
		t.Fatal(err)
	}
	there, _ := s.drain(it)
	sub, err := s.c.SubscribeToShard(s.ctx,
		&kinesis.SubscribeToShardInput{ConsumerARN: arn, ShardId: aws.String("shardId-000000000000"),
			StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeTrimHorizon}})
	if err != nil {
		t.Fatal(err)
	}
	events := sub.GetStream()
	defer events.Close()
	var got []types.Record
	var last types.SubscribeToShardEvent
	// until takes events until done; it is told whether the stream ended.
	until := func(what string, done func() bool) {
		t.Helper()
		for !done() {
			select {
			case e, open := <-events.Events():
				if !open {
					t.Fatalf("%s: the subscription ended after %d records: %v", what, len(got), events.Err())
				}
				last = e.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value
				got = append(got, last.Records...)
			case <-time.After(patience):
				t.Fatalf("%s: nothing more for %v after %d records", what, patience, len(got))
			}
		}
	}
	until("what was there", func() bool { return len(got) >= len(there) })
	if *last.ContinuationSequenceNumber == "" || len(last.ChildShards) > 0 {
		t.Errorf("an event of an open shard: %+v", last)
	}
	if _, err := s.c.PutRecord(s.ctx, &kinesis.PutRecordInput{StreamName: &s.name, Data: []byte("live"),
		PartitionKey: aws.String("x"), ExplicitHashKey: aws.String("0")}); err != nil {
		t.Fatal(err)
	}
	until("what is put", func() bool { return string(got[len(got)-1].Data) == "live" })
	if len(got) != len(there)+1 {
		t.Errorf("%d records, want %d", len(got), len(there)+1)
	}
	if _, err := s.c.SplitShard(s.ctx, &kinesis.SplitShardInput{StreamName: &s.name,
		ShardToSplit: aws.String("shardId-000000000000"), NewStartingHashKey: aws.String("1000")}); err != nil {
		t.Fatal(err)
	}
	until("the end of the shard", func() bool { return len(last.ChildShards) > 0 })
	if len(last.ChildShards) != 2 || last.ContinuationSequenceNumber != nil ||
		*last.ChildShards[0].HashKeyRange.EndingHashKey != "999" ||
		!slices.Equal(last.ChildShards[1].ParentShards, []string{"shardId-000000000000"}) {
		t.Errorf("the last event: %+v", last)
	}
	if _, open := <-events.Events(); open || events.Err() != nil {
		t.Errorf("after the last event: another %v, %v", open, events.Err())
	}
	s.active()
	it, err = s.iterator("shardId-000000000000", *got[len(got)-1].SequenceNumber)
	if err != nil {
		t.Fatal(err)
	}
	if _, end := s.drain(it); len(end.ChildShards) != 2 || end.NextShardIterator != nil {
		t.Errorf("GetRecords at the end of the shard: %+v", end)
	}
}

// refuses sees errors as the SDK's types.
func (s *stream) refuses() {
	t, c := s.t, s.c
	t.Helper()
	_, err := c.CreateStream(s.ctx, &kinesis.CreateStreamInput{StreamName: &s.name, ShardCount: aws.Int32(1)})
	fails[*types.ResourceInUseException](t, "a stream of that name", err)
	_, err = c.PutRecord(s.ctx, &kinesis.PutRecordInput{StreamName: aws.String("none"), Data: []byte("x"),
		PartitionKey: aws.String("x")})
	fails[*types.ResourceNotFoundException](t, "no such stream", err)
	_, err = c.GetRecords(s.ctx, &kinesis.GetRecordsInput{ShardIterator: aws.String("AAAA")})
	fails[*types.InvalidArgumentException](t, "no iterator", err)
	_, err = c.MergeShards(s.ctx, &kinesis.MergeShardsInput{StreamName: &s.name,
		ShardToMerge: aws.String("shardId-000000000003"), AdjacentShardToMerge: aws.String("shardId-000000000002")})
	fails[*types.InvalidArgumentException](t, "shards the wrong way round", err)
	_, err = c.DeleteStream(s.ctx, &kinesis.DeleteStreamInput{StreamName: &s.name})
	fails[*types.ResourceInUseException](t, "a stream with a consumer", err)
	if _, err = c.DeleteStream(s.ctx, &kinesis.DeleteStreamInput{StreamName: &s.name,
		EnforceConsumerDeletion: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	d, err := c.DescribeStream(s.ctx, &kinesis.DescribeStreamInput{StreamName: &s.name})
	if err != nil || d.StreamDescription.StreamStatus != types.StreamStatusDeleting {
		t.Errorf("just deleted: %+v, %v", d, err)
	}
	gone := kinesis.NewStreamNotExistsWaiter(c, func(o *kinesis.StreamNotExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = 50*time.Millisecond, 100*time.Millisecond
	})
	if err := gone.Wait(s.ctx, &kinesis.DescribeStreamInput{StreamName: &s.name}, patience); err != nil {
		t.Error(err)
	}
}
