package kinesis

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// consumerARNs registers consumers and returns their ARNs.
func (b *bench) consumerARNs(names ...string) (arns []*string) {
	for _, name := range names {
		arns = append(arns, b.register(name))
	}
	return arns
}

// A policy is kept with the stream or consumer it was put on, and over a
// restart.
func TestResourcePolicies(t *testing.T) {
	b := newBench(t, 1, Options{})
	stream, c := b.streamARN("s"), b.register("c")
	policies := func() string {
		var s []string
		for _, arn := range []*string{&stream, c} {
			out, err := b.GetResourcePolicy(bg, &GetResourcePolicyInput{ResourceARN: arn})
			if err != nil {
				t.Fatal(err)
			}
			s = append(s, out.Policy)
		}
		return strings.Join(s, " ")
	}
	want := func(w string) {
		t.Helper()
		if got := policies(); got != w {
			t.Errorf("%s, want %s", got, w)
		}
	}
	put := func(arn *string, policy string) error {
		return b.PutResourcePolicy(bg, &PutResourcePolicyInput{ResourceARN: arn, Policy: &policy})
	}
	want("{} {}")
	if err := put(&stream, `{"a":1}`); err != nil {
		t.Fatal(err)
	}
	if err := put(c, `{"b":2}`); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	want(`{"a":1} {"b":2}`)
	for _, bad := range []string{"", "x", "[]", "null", `{"a":"` + strings.Repeat("x", maxPolicy) + `"}`} {
		wantError(t, put(&stream, bad), InvalidArgument, "Policy must be a JSON object")
	}
	if err := b.DeleteResourcePolicy(bg, &DeleteResourcePolicyInput{ResourceARN: &stream}); err != nil {
		t.Fatal(err)
	}
	want(`{} {"b":2}`)
	wantError(t, put(p(b.streamARN("none")), "{}"), ResourceNotFound, "Stream none")
	wantError(t, put(p(strings.Replace(*c, "consumer/c", "consumer/d", 1)), "{}"), ResourceNotFound, "Consumer d")
	wantError(t, put(p(strings.Replace(stream, "123456789012", "123456789013", 1)), "{}"), ResourceNotFound,
		"123456789013")
	wantError(t, put(p("arn:aws:s3:::b"), "{}"), InvalidArgument, "not the ARN")
}

func TestEnhancedMonitoring(t *testing.T) {
	b := newBench(t, 1, Options{})
	change := func(on bool, names ...string) string {
		t.Helper()
		var out *EnhancedMonitoringOutput
		var err error
		if on {
			out, err = b.EnableEnhancedMonitoring(bg, &EnableEnhancedMonitoringInput{named, names})
		} else {
			out, err = b.DisableEnhancedMonitoring(bg, &DisableEnhancedMonitoringInput{named, names})
		}
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(out.CurrentShardLevelMetrics, out.DesiredShardLevelMetrics)
	}
	for _, step := range []struct {
		on    bool
		names []string
		want  string
	}{
		{true, []string{"OutgoingBytes", "IncomingBytes"}, "[] [IncomingBytes OutgoingBytes]"},
		{true, []string{"IncomingBytes"}, "[IncomingBytes OutgoingBytes] [IncomingBytes OutgoingBytes]"},
		{false, []string{"IncomingBytes", "OutgoingRecords"}, "[IncomingBytes OutgoingBytes] [OutgoingBytes]"},
		{true, []string{"ALL"}, fmt.Sprint([]string{"OutgoingBytes"}, shardMetrics)},
		{false, []string{"ALL"}, fmt.Sprint(shardMetrics, []string{})},
	} {
		if got := change(step.on, step.names...); got != step.want {
			t.Errorf("%v %v: %s, want %s", step.on, step.names, got, step.want)
		}
		b.reopen()
	}
}

// Tags by ARN are those of a stream, or of one of its consumers.
func TestTagsOfResources(t *testing.T) {
	b := newBench(t, 1, Options{})
	stream, c := b.streamARN("s"), b.register("c")
	tags := func(arn *string) (s string) {
		t.Helper()
		out, err := b.ListTagsForResource(bg, &ListTagsForResourceInput{ResourceARN: arn})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range out.Tags {
			s += x.Key + "=" + *x.Value + " "
		}
		return s
	}
	add := func(arn *string, kv ...string) error {
		m := map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = kv[i+1]
		}
		return b.TagResource(bg, &TagResourceInput{Tags: m, ResourceARN: arn})
	}
	for _, err := range []error{add(&stream, "b", "1", "a", "2"), add(c, "x", "3", "a", "4"), add(&stream, "a", "5"),
		b.UntagResource(bg, &UntagResourceInput{TagKeys: []string{"b", "none"}, ResourceARN: &stream})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	b.reopen()
	if got := tags(&stream) + "| " + tags(c); got != "a=5 | a=4 x=3 " {
		t.Error(got)
	}
	wantError(t, add(&stream, "AWS:x", ""), InvalidArgument, "reserved")
	wantError(t, add(c, "x;", ""), InvalidArgument, "invalid characters")
	for i := range maxTags - 2 {
		if err := add(c, fmt.Sprint(i), ""); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, add(c, "more", ""), InvalidArgument, "more than 50 tags")
	if err := add(c, "x", "again"); err != nil {
		t.Error(err)
	}
	wantError(t, add(p(*c+"1"), "x", ""), ResourceNotFound, "Consumer c")
}

// Lists come in pages, each item once, also when what the last page ended with
// goes between two pages.
func TestPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 7, Options{})
		defer func() { b.stop(); b.stop = func() {} }()
		var names []string
		for i := range 9 {
			names = append(names, fmt.Sprint("c", i))
		}
		arns := b.consumerARNs(names...)
		arn := b.streamARN("s")
		var got []string
		in := &ListStreamConsumersInput{StreamARN: &arn, MaxResults: p[int32](4)}
		for page := 0; ; page++ {
			out, err := b.ListStreamConsumers(bg, in)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range out.Consumers {
				got = append(got, c.ConsumerName)
			}
			if page == 0 {
				if err := b.DeregisterStreamConsumer(bg,
					&DeregisterStreamConsumerInput{ConsumerARN: arns[3]}); err != nil {
					t.Fatal(err)
				}
			}
			if out.NextToken == nil {
				break
			}
			in = &ListStreamConsumersInput{StreamARN: &arn, NextToken: out.NextToken, MaxResults: p[int32](4)}
		}
		if !slices.Equal(got, names) {
			t.Errorf("consumers %v, want %v", got, names)
		}
		old := in.NextToken

		all := []string{"s"}
		for i := range 8 {
			name := fmt.Sprint("t", i)
			all = append(all, name)
			if err := b.CreateStream(bg, &CreateStreamInput{StreamName: &name, ShardCount: p[int32](1)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, byToken := range []bool{true, false} {
			got = nil
			in := &ListStreamsInput{Limit: p[int32](4)}
			for {
				out, err := b.ListStreams(bg, in)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, out.StreamNames...)
				if !out.HasMoreStreams {
					break
				}
				if in = (&ListStreamsInput{Limit: in.Limit, NextToken: out.NextToken}); !byToken {
					in.NextToken, in.ExclusiveStartStreamName = nil, &got[len(got)-1]
				}
			}
			if !slices.Equal(got, all) {
				t.Errorf("streams %v, want %v", got, all)
			}
		}
		_, err := b.ListStreams(bg, &ListStreamsInput{NextToken: old})
		wantError(t, err, InvalidArgument, "NextToken is invalid")
		if got := ids(b.shardsOf(t, "s", nil)); got != "0 1 2 3 4 5 6" {
			t.Errorf("shards %s", got)
		}
		time.Sleep(tokenLife + time.Millisecond)
		_, err = b.ListStreamConsumers(bg, &ListStreamConsumersInput{StreamARN: &arn, NextToken: old})
		wantError(t, err, ExpiredNextToken, "")
	})
}

// Where limits are emulated an operation may be called so often a second, over
// all streams; others are not held up by it.
func TestCallRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, Options{Emulate: true})
		defer func() { b.stop(); b.stop = func() {} }()
		summary := func(n int) (refused int) {
			for range n {
				if _, err := b.DescribeStreamSummary(bg, &DescribeStreamSummaryInput{named}); err != nil {
					wantError(t, err, LimitExceeded, "Rate exceeded")
					refused++
				}
			}
			return refused
		}
		for range 3 {
			if n := summary(25); n != 5 {
				t.Errorf("%d of 25 refused, want 5", n)
			}
			if _, err := b.ListStreams(bg, &ListStreamsInput{}); err != nil {
				t.Error(err)
			}
			time.Sleep(999 * time.Millisecond)
			if n := summary(1); n != 1 {
				t.Error("called once more within a second")
			}
			time.Sleep(time.Millisecond)
		}
		free := newBench(t, 1, Options{})
		defer func() { free.stop(); free.stop = func() {} }()
		for range 100 {
			if _, err := free.DescribeStreamSummary(bg, &DescribeStreamSummaryInput{named}); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A mode is changed twice in 24 hours, the number of shards ten times, to
// between half and double.
func TestDailyLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 4, Options{MaxShards: 12})
		defer func() { b.stop(); b.stop = func() {} }()
		arn := b.streamARN("s")
		count := func(n int32) error {
			_, err := b.UpdateShardCount(bg, &UpdateShardCountInput{named, &n, p("UNIFORM_SCALING")})
			return err
		}
		mode := func(m string, warm *int32) error {
			return b.UpdateStreamMode(bg, &UpdateStreamModeInput{StreamARN: &arn,
				StreamModeDetails: &StreamModeDetails{&m}, WarmThroughputMiBps: warm})
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		wantError(t, count(9), InvalidArgument,
			"up over double your current open shard count. Current open shard count: 4 Target shard count: 9")
		wantError(t, count(1), InvalidArgument, "down below half your current open shard count")
		must(count(8))
		wantError(t, count(16), LimitExceeded,
			"Current shard count for the account: 8. Limit: 12. Number of additional shards that would have resulted from this request: 8.")
		must(count(8)) // no change, not counted
		for i := range int32(9) {
			must(count(7 - i%2))
		}
		wantError(t, count(6), LimitExceeded, "10 times within 24 hours")
		b.reopen()
		wantError(t, count(6), LimitExceeded, "10 times within 24 hours")
		time.Sleep(24*time.Hour + time.Millisecond)
		must(count(6))

		wantError(t, mode(provisioned, p[int32](1)), Validation, "On-Demand mode")
		wantError(t, mode(onDemand, p[int32](-1)), InvalidArgument, "negative")
		wantError(t, mode(onDemand, p[int32](13)), LimitExceeded, "shard limit")
		must(mode(onDemand, p[int32](9)))
		evenly(t, b, 9)
		must(mode(onDemand, p[int32](12))) // the same mode: not counted
		must(mode(provisioned, nil))
		evenly(t, b, 12)
		wantError(t, mode(onDemand, nil), LimitExceeded, "2 times within 24 hours")
		must(mode(provisioned, nil))
		time.Sleep(24*time.Hour + time.Millisecond)
		must(mode(onDemand, nil))
	})
}

// What is declared of a stream that is being made or deleted is refused, and
// taken when it is ACTIVE; what changes nothing is no mistake.
func TestDeclareKeepsToStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, Options{Delay: 2 * time.Second})
		defer func() { b.stop(); b.stop = func() {} }()
		hour := time.Hour
		d := Declaration{StreamName: "x", ShardCount: p[int32](2), Retention: &hour}
		must := func() {
			t.Helper()
			if err := b.s.Declare(d); err != nil {
				t.Fatal(err)
			}
		}
		must()
		must()
		d.ShardCount, d.Tags = p[int32](5), map[string]string{"a": "b"}
		wantError(t, b.s.Declare(d), ResourceInUse, "instead in state CREATING")
		if n := len(b.s.open("x")); n != 2 {
			t.Errorf("%d shards while CREATING", n)
		}
		time.Sleep(2 * time.Second)
		must()
		st, err := b.s.look("x")
		if err != nil || len(b.s.open("x")) != 5 || st.Tags["a"] != "b" || st.status != updating {
			t.Fatalf("%+v, %v", st, err)
		}
		time.Sleep(2 * time.Second)
		if err := b.DeleteStream(bg, &DeleteStreamInput{StreamRef: ref("x")}); err != nil {
			t.Fatal(err)
		}
		d.ShardCount = p[int32](6)
		wantError(t, b.s.Declare(d), ResourceInUse, "instead in state DELETING")
		time.Sleep(2*time.Second + time.Millisecond)
		must() // anew
		if n := len(b.s.open("x")); n != 6 {
			t.Errorf("%d shards", n)
		}
	})
}
