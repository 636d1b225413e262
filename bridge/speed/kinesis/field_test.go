package kinesis

import (
	"testing"
	"testing/synctest"
	"time"
)

// status is the state of a stream, and how many shards it shows.
func (b *bench) status(name string) (status string, shards int) {
	b.t.Helper()
	out, err := b.DescribeStream(bg, &DescribeStreamInput{StreamRef: ref(name)})
	if err != nil {
		b.t.Fatal(err)
	}
	return out.StreamDescription.StreamStatus, len(out.StreamDescription.Shards)
}

func (b *bench) summary(name string) StreamDescriptionSummary {
	b.t.Helper()
	out, err := b.DescribeStreamSummary(bg, &DescribeStreamSummaryInput{StreamRef: ref(name)})
	if err != nil {
		b.t.Fatal(err)
	}
	return out.StreamDescriptionSummary
}

// A stream of which only the name is given is on-demand and has four shards.
func TestCreateByNameAlone(t *testing.T) {
	b := newBench(t, 1, Options{})
	if err := b.CreateStream(bg, &CreateStreamInput{StreamName: p("n")}); err != nil {
		t.Fatal(err)
	}
	if s := b.summary("n"); *s.StreamModeDetails.StreamMode != onDemand || s.OpenShardCount != onDemandShards ||
		*s.RecordDistributionStrategy != distributeByUser {
		t.Errorf("%+v", s)
	}
	m := provisioned
	wantError(t, b.CreateStream(bg, &CreateStreamInput{StreamName: p("m"), StreamModeDetails: &StreamModeDetails{&m}}),
		Validation, "ShardCount must be given")
}

func TestDeleteNoResourcePolicy(t *testing.T) {
	b := newBench(t, 1, Options{})
	for _, arn := range []*string{p(b.streamARN("s")), b.register("c")} {
		wantError(t, b.DeleteResourcePolicy(bg, &DeleteResourcePolicyInput{ResourceARN: arn}), ResourceNotFound,
			"No resource policy")
		if err := b.PutResourcePolicy(bg, &PutResourcePolicyInput{ResourceARN: arn, Policy: p("{}")}); err != nil {
			t.Fatal(err)
		}
		if err := b.DeleteResourcePolicy(bg, &DeleteResourcePolicyInput{ResourceARN: arn}); err != nil {
			t.Error(err)
		}
		wantError(t, b.DeleteResourcePolicy(bg, &DeleteResourcePolicyInput{ResourceARN: arn}), ResourceNotFound,
			"No resource policy")
	}
}

// An on-demand stream may distribute its records by itself: keys are not needed
// then and tell nothing of the shard. It stays so over a restart, and ends with
// the mode.
func TestRecordDistribution(t *testing.T) {
	b := newBench(t, 1, Options{})
	auto, byKey := distributeAuto, distributeByUser
	wantError(t, b.CreateStream(bg, &CreateStreamInput{StreamName: p("x"), ShardCount: p[int32](1),
		RecordDistributionStrategy: &auto}), InvalidArgument, "On-Demand")
	if err := b.CreateStream(bg, &CreateStreamInput{StreamName: p("k"), ShardCount: p[int32](1),
		RecordDistributionStrategy: &byKey}); err != nil {
		t.Error(err)
	}
	if err := b.CreateStream(bg, &CreateStreamInput{StreamName: p("a"),
		RecordDistributionStrategy: &auto}); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if s := b.summary("a"); *s.RecordDistributionStrategy != auto {
		t.Errorf("%+v", s)
	}
	in := &PutRecordsInput{StreamRef: ref("a")}
	for range 100 {
		in.Records = append(in.Records, PutRecordsRequestEntry{Data: []byte("x")},
			PutRecordsRequestEntry{Data: []byte("y"), PartitionKey: p("same"), ExplicitHashKey: p("0")})
	}
	out, err := b.PutRecords(bg, in)
	if err != nil {
		t.Fatal(err)
	}
	shards, of := map[string]int{}, map[string]int{}
	for i, r := range out.Records {
		shards[*r.ShardId]++
		if i%2 == 1 {
			of[*r.ShardId]++
		}
	}
	if len(shards) != onDemandShards || len(of) != onDemandShards { // 4 * 0.75^100 is no chance
		t.Errorf("%v, of one key %v", shards, of)
	}
	if _, err := b.PutRecord(bg, &PutRecordInput{StreamRef: ref("a"), Data: []byte("x")}); err != nil {
		t.Error(err)
	}
	_, err = b.PutRecord(bg, &PutRecordInput{StreamRef: ref("a"), Data: []byte("x"),
		ExplicitHashKey: p("340282366920938463463374607431768211456")})
	wantError(t, err, InvalidArgument, "Invalid ExplicitHashKey")
	m := provisioned
	if err := b.UpdateStreamMode(bg, &UpdateStreamModeInput{StreamARN: p(b.streamARN("a")),
		StreamModeDetails: &StreamModeDetails{&m}}); err != nil {
		t.Fatal(err)
	}
	_, err = b.PutRecord(bg, &PutRecordInput{StreamRef: ref("a"), Data: []byte("x")})
	wantError(t, err, Validation, "1 validation error detected: Value null at 'partitionKey' failed to satisfy "+
		"constraint: Member must not be null")
	in.Records = in.Records[1:3]
	_, err = b.PutRecords(bg, in)
	wantError(t, err, Validation, "Value null at 'records.2.member.partitionKey'")
	if s := b.summary("a"); s.RecordDistributionStrategy != nil {
		t.Errorf("%v", *s.RecordDistributionStrategy)
	}
}

// Tags are letters, digits and white space, and no control characters.
func TestTagCharacters(t *testing.T) {
	b := newBench(t, 1, Options{})
	for text, ok := range map[string]bool{
		"a b_c.d/e=f+g-h:i@j": true, "é\u00a0ü\u3000漢": true, "٣": true,
		"a\tb": false, "a\nb": false, "\r": false, "\v": false, "\x00": false, "\u0085": false, "\x7f": false,
		"a,b": false, "a\u200bb": false,
	} {
		for _, tags := range []map[string]string{{text: "v"}, {"k": text}} {
			err := b.AddTagsToStream(bg, &AddTagsToStreamInput{StreamRef: named, Tags: tags})
			if ok && err != nil {
				t.Errorf("%q: %v", text, err)
			}
			if !ok {
				wantError(t, err, InvalidArgument, "Some tags contain invalid characters.")
			}
		}
	}
}

// Where limits are emulated a shard gives five iterators a second.
func TestEmulatedIterators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2, Options{Emulate: true})
		ask := func(shard string) error {
			_, err := b.GetShardIterator(bg,
				&GetShardIteratorInput{StreamRef: named, ShardId: &shard, ShardIteratorType: p("LATEST")})
			return err
		}
		for range 3 {
			for i := range 40 {
				if err := ask("shardId-000000000000"); i < 5 && err != nil {
					t.Error(i, err)
				} else if i >= 5 {
					wantError(t, err, ThroughputExceeded, "Rate exceeded for shard shardId-000000000000 in stream s")
				}
			}
			if err := ask("shardId-000000000001"); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
		}
	})
}

// What changes nothing shows no change, and what is being made takes no tags and
// shows no shards, even when it is deleted.
func TestStatesOfSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, Options{Delay: 10 * time.Second})
		time.Sleep(time.Minute)
		if err := b.IncreaseStreamRetentionPeriod(bg,
			&IncreaseStreamRetentionPeriodInput{StreamRef: named, RetentionPeriodHours: p[int32](24)}); err != nil {
			t.Error(err)
		}
		if status, _ := b.status("s"); status != active {
			t.Error(status)
		}
		if err := b.IncreaseStreamRetentionPeriod(bg,
			&IncreaseStreamRetentionPeriodInput{StreamRef: named, RetentionPeriodHours: p[int32](25)}); err != nil {
			t.Error(err)
		}
		if status, _ := b.status("s"); status != updating {
			t.Error(status)
		}
		tag := func(name string) error {
			return b.AddTagsToStream(bg, &AddTagsToStreamInput{StreamRef: ref(name), Tags: map[string]string{"a": "b"}})
		}
		if err := tag("s"); err != nil { // UPDATING
			t.Error(err)
		}
		if err := b.CreateStream(bg, &CreateStreamInput{StreamName: p("n"), ShardCount: p[int32](2)}); err != nil {
			t.Fatal(err)
		}
		arn := b.streamARN("n")
		for _, err := range []error{tag("n"),
			b.RemoveTagsFromStream(bg, &RemoveTagsFromStreamInput{StreamRef: ref("n"), TagKeys: []string{"a"}}),
			b.TagResource(bg, &TagResourceInput{ResourceARN: &arn, Tags: map[string]string{"a": "b"}}),
			b.UntagResource(bg, &UntagResourceInput{ResourceARN: &arn, TagKeys: []string{"a"}})} {
			wantError(t, err, ResourceInUse,
				"Stream n under account 123456789012 not ACTIVE, instead in state CREATING")
		}
		if err := b.DeleteStream(bg, &DeleteStreamInput{StreamRef: ref("n")}); err != nil {
			t.Fatal(err)
		}
		if status, shards := b.status("n"); status != deleting || shards != 0 || b.summary("n").OpenShardCount != 0 {
			t.Errorf("%s with %d shards, %d open", status, shards, b.summary("n").OpenShardCount)
		}
		if err := b.DeleteStream(bg, &DeleteStreamInput{StreamRef: named}); err != nil {
			t.Fatal(err)
		}
		if status, shards := b.status("s"); status != deleting || shards != 1 {
			t.Errorf("%s with %d shards", status, shards)
		}
	})
}

// That there is no such stream is told before what is wrong with the shard.
func TestUnknownStreamFirst(t *testing.T) {
	b := newBench(t, 1, Options{})
	for stream, want := range map[string]string{"none": "Stream none under account",
		"s": "Could not find shard x in stream s"} {
		_, err := b.GetShardIterator(bg,
			&GetShardIteratorInput{StreamRef: ref(stream), ShardId: p("x"), ShardIteratorType: p("LATEST")})
		wantError(t, err, ResourceNotFound, want)
		err = b.SplitShard(bg, &SplitShardInput{StreamRef: ref(stream), ShardToSplit: p("x"),
			NewStartingHashKey: p("1")})
		wantError(t, err, ResourceNotFound, want)
		err = b.MergeShards(bg, &MergeShardsInput{StreamRef: ref(stream), ShardToMerge: p("x"),
			AdjacentShardToMerge: p("y")})
		wantError(t, err, ResourceNotFound, want)
	}
}
