package kinesis

import (
	"testing"
	"time"
)

// What a request is about has one name for policies, however it was named.
func TestResource(t *testing.T) {
	a := API{&Service{opts: Options{Account: "123456789012"}, now: time.Now}, "eu-test-7"}
	const s, c = "arn:aws:kinesis:eu-test-7:123456789012:stream/s",
		"arn:aws:kinesis:eu-test-7:123456789012:stream/s/consumer/c:7"
	text := func(s string) *string { return &s }
	it := iterator{name: "s"}
	for i, x := range []struct {
		in   any
		want string
	}{
		{&PutRecordInput{StreamRef: StreamRef{StreamName: text("s")}}, s},
		{&PutRecordInput{StreamRef: StreamRef{StreamARN: text(s)}}, s},
		{&PutRecordInput{StreamRef: StreamRef{StreamARN: text("arn:aws-cn:kinesis:cn-1:123456789012:stream/s")}}, s},
		{&PutRecordInput{StreamRef: StreamRef{StreamARN: text("arn:aws:kinesis:eu-test-7:999999999999:stream/s")}},
			"*"},
		{&PutRecordInput{StreamRef: StreamRef{StreamARN: text("s"), StreamName: text("t")}}, "*"},
		{&PutRecordInput{}, "*"},
		{&CreateStreamInput{StreamName: text("s")}, s},
		{&GetRecordsInput{ShardIterator: text(it.String())}, s},
		{&GetRecordsInput{ShardIterator: text("x"), StreamARN: text(s)}, "*"},
		{&ListShardsInput{NextToken: a.issue(token{Op: "ListShards", Stream: "s"})}, s},
		{&ListStreamConsumersInput{NextToken: text("x"), StreamARN: text(s)}, s},
		{&ListStreamsInput{NextToken: text("x")}, "*"},
		{&SubscribeToShardInput{ConsumerARN: text(c)}, c},
		{&DescribeStreamConsumerInput{StreamARN: text(s), ConsumerName: text("c")}, s},
		{&TagResourceInput{ResourceARN: text(c)}, c},
		{&DescribeLimitsInput{}, "*"},
	} {
		if got := a.Resource(x.in); got != x.want {
			t.Errorf("%d: %s, want %s", i, got, x.want)
		}
	}
}
