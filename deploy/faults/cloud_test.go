package faults

import (
	"context"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/schemas"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	ktypes "github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sfn"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/smithy-go/transport/http/protocol/awsquery"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

const motoAccount = counterpart.MotoAccount

// A cloud is moto with what rules act on.
type cloud struct {
	t     *testing.T
	ctx   context.Context
	url   string
	cfg   aws.Config
	s3    *s3.Client
	sqs   *sqs.Client
	taken map[string][]int // from queues
}

func (c *cloud) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func p[T any](v T) *T { return &v }

func newCloud(t *testing.T, ctx context.Context) *cloud {
	url := counterpart.Moto(t)
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"), config.WithBaseEndpoint(url))
	c := &cloud{t: t, ctx: ctx, url: url, cfg: cfg, sqs: sqs.NewFromConfig(cfg), taken: map[string][]int{},
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) {
			o.UsePathStyle, o.ResponseChecksumValidation = true, aws.ResponseChecksumValidationWhenRequired
		})}
	c.must(err)
	counterpart.Cloud{Queues: []string{"standard", "topic", "ordered.fifo"}, Topic: "topic", Machine: "flow",
		LogGroup: "devices", Tables: map[string][]string{"columns": {"id:N"}, "items": {"id:N"}},
		Buckets: []string{"lake", "kept"}, Stream: "out", DeliveryStream: "lake"}.Furnish(t, ctx, cfg)
	return c
}

func (c *cloud) arn(service, what string) string {
	return "arn:aws:" + service + ":us-east-1:" + motoAccount + ":" + what
}

func (c *cloud) queue(name string) string { return c.url + "/" + motoAccount + "/" + name }

// received takes what is in a queue, and returns all that ever was.
func (c *cloud) received(name string) []int {
	c.taken[name] = append(c.taken[name], receive(c.t, c.ctx, c.sqs, c.queue(name))...)
	return c.taken[name]
}

// receive takes the records that are in a queue.
func receive(t testing.TB, ctx context.Context, c *sqs.Client, url string) (all []int) {
	for {
		out, err := c.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &url, MaxNumberOfMessages: 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return all
		}
		for _, m := range out.Messages {
			all = append(all, numbers(*m.Body)...)
			_, err := c.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &url, ReceiptHandle: m.ReceiptHandle})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// objects are the records of all objects under a prefix.
func (c *cloud) objects(prefix string) []int { return numbers(c.text("lake", prefix)) }

// text is what is in the objects under a prefix, line by line.
func (c *cloud) text(bucket, prefix string) (all string) {
	pages := s3.NewListObjectsV2Paginator(c.s3, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	for pages.HasMorePages() {
		page, err := pages.NextPage(c.ctx)
		c.must(err)
		for _, o := range page.Contents {
			out, err := c.s3.GetObject(c.ctx, &s3.GetObjectInput{Bucket: &bucket, Key: o.Key})
			c.must(err)
			text, err := io.ReadAll(out.Body)
			c.must(err)
			all += string(text) + "\n"
		}
	}
	return all
}

// items are the keys of a table.
func (c *cloud) items(table string) (all []int) {
	pages := dynamodb.NewScanPaginator(dynamodb.NewFromConfig(c.cfg), &dynamodb.ScanInput{TableName: &table})
	for pages.HasMorePages() {
		page, err := pages.NextPage(c.ctx)
		c.must(err)
		for _, it := range page.Items {
			n, _ := strconv.Atoi(it["id"].(*ddbtypes.AttributeValueMemberN).Value)
			all = append(all, n)
		}
	}
	return all
}

var named = regexp.MustCompile(`^n(\d+)`)

// executions are the records that the machine was started for.
func (c *cloud) executions() (all []int) {
	pages := sfn.NewListExecutionsPaginator(sfn.NewFromConfig(c.cfg), &sfn.ListExecutionsInput{
		StateMachineArn: p(c.arn("states", "stateMachine:flow"))})
	for pages.HasMorePages() {
		page, err := pages.NextPage(c.ctx)
		c.must(err)
		for _, e := range page.Executions {
			n, _ := strconv.Atoi(named.FindStringSubmatch(*e.Name)[1])
			all = append(all, n)
		}
	}
	return all
}

// records are those of the stream.
func (c *cloud) records() (all []int) {
	k := kinesis.NewFromConfig(c.cfg)
	it, err := k.GetShardIterator(c.ctx, &kinesis.GetShardIteratorInput{StreamName: p("out"),
		ShardId: p("shardId-000000000000"), ShardIteratorType: ktypes.ShardIteratorTypeTrimHorizon})
	c.must(err)
	for next := it.ShardIterator; ; {
		out, err := k.GetRecords(c.ctx, &kinesis.GetRecordsInput{ShardIterator: next})
		c.must(err)
		if len(out.Records) == 0 {
			return all
		}
		for _, r := range out.Records {
			all = append(all, numbers(string(r.Data))...)
		}
		next = out.NextShardIterator
	}
}

// events are those of the log stream of the rule.
func (c *cloud) events() (all []int) {
	l := cloudwatchlogs.NewFromConfig(c.cfg)
	in := &cloudwatchlogs.GetLogEventsInput{LogGroupName: p("devices"), LogStreamName: p("cloudwatchLogs"),
		StartFromHead: p(true)}
	for {
		out, err := l.GetLogEvents(c.ctx, in)
		if err != nil || len(out.Events) == 0 { // the stream is not there yet
			return all
		}
		for _, e := range out.Events {
			all = append(all, numbers(*e.Message)...)
		}
		in.NextToken = out.NextForwardToken
	}
}

// query has the SDK speak to CloudWatch in forms, as moto understands it.
func query(o *cloudwatch.Options) { o.Protocol = awsquery.New(schemas.GraniteServiceVersion20100801) }

// samples are the metrics, each as often as it has a sample.
func (c *cloud) samples() (all []int) {
	m := cloudwatch.NewFromConfig(c.cfg, query)
	counts := map[string]int{}
	pages := cloudwatch.NewListMetricsPaginator(m, &cloudwatch.ListMetricsInput{Namespace: p("plant")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(c.ctx)
		c.must(err)
		for _, x := range page.Metrics {
			counts[*x.MetricName] = 0
		}
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		out, err := m.GetMetricStatistics(c.ctx, &cloudwatch.GetMetricStatisticsInput{Namespace: p("plant"),
			MetricName: &name, Period: p(int32(86400)), StartTime: p(time.Now().Add(-24 * time.Hour)),
			EndTime: p(time.Now().Add(24 * time.Hour)), Statistics: []cwtypes.Statistic{"SampleCount"}})
		c.must(err)
		n, _ := strconv.Atoi(name[1:])
		for _, d := range out.Datapoints {
			all = append(all, slices.Repeat([]int{n}, int(*d.SampleCount))...)
		}
	}
	return all
}
