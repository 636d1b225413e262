package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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
	"github.com/tidemill/tidemill/deploy/nightly"
	"github.com/tidemill/tidemill/deploy/rig"
)

// motoAccount is whose everything in moto is.
const motoAccount = counterpart.MotoAccount

// A cloud is moto with what rules act on.
type cloud struct {
	t   *testing.T
	ctx context.Context
	cfg aws.Config

	sqs  *sqs.Client
	ddb  *dynamodb.Client
	s3   *s3.Client
	urls map[string]string // of queues
}

func newCloud(t *testing.T, ctx context.Context, url string) *cloud {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithRegion("us-east-1"), config.WithBaseEndpoint(url))
	c := &cloud{t: t, ctx: ctx, cfg: cfg, sqs: sqs.NewFromConfig(cfg), ddb: dynamodb.NewFromConfig(cfg),
		s3: s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }), urls: map[string]string{}}
	c.must(err)
	return c
}

func (c *cloud) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func p[T any](v T) *T { return &v }

// query has a client speak the query protocol: moto answers CBOR with 404.
func query(o *cloudwatch.Options) { o.Protocol = awsquery.New(schemas.GraniteServiceVersion20100801) }

// furnish makes all that is acted on: what others have too, an alarm, and items.
func (c *cloud) furnish() {
	c.t.Helper()
	c.urls = counterpart.Cloud{Queues: []string{"readings", "errors", "alarms", "ordered.fifo"}, Topic: "alarms",
		Machine: "flow", LogGroup: "devices", Tables: map[string][]string{"readings": {"device:S", "n:N"},
			"items": {"n:N"}, "state": {"device:S"}}, Buckets: []string{"lake"}, Stream: "out",
		DeliveryStream: "lake"}.Furnish(c.t, c.ctx, c.cfg)
	metrics := cloudwatch.NewFromConfig(c.cfg, query)
	_, err := metrics.PutMetricAlarm(c.ctx, &cloudwatch.PutMetricAlarmInput{AlarmName: p("hot"),
		MetricName: p("temperature"), Namespace: p("plant"), Period: p(int32(60)), EvaluationPeriods: p(int32(1)),
		Threshold: p(80.0), ComparisonOperator: cwtypes.ComparisonOperatorGreaterThanThreshold,
		Statistic: cwtypes.StatisticMaximum})
	c.must(err)
	for _, device := range []string{"pi-1", "gone"} { // one is updated, the other deleted
		item := map[string]ddbtypes.AttributeValue{"device": &ddbtypes.AttributeValueMemberS{Value: device},
			"site": &ddbtypes.AttributeValueMemberS{Value: "plant"}}
		_, err := c.ddb.PutItem(c.ctx, &dynamodb.PutItemInput{TableName: p("state"), Item: item})
		c.must(err)
	}
}

// received takes all messages of a queue.
func (c *cloud) received(queue string) (bodies []string) {
	c.t.Helper()
	for {
		out, err := c.sqs.ReceiveMessage(c.ctx, &sqs.ReceiveMessageInput{QueueUrl: p(c.urls[queue]),
			MaxNumberOfMessages: 10})
		c.must(err)
		if len(out.Messages) == 0 {
			return bodies
		}
		for _, m := range out.Messages {
			bodies = append(bodies, *m.Body)
			_, err := c.sqs.DeleteMessage(c.ctx, &sqs.DeleteMessageInput{QueueUrl: p(c.urls[queue]),
				ReceiptHandle: m.ReceiptHandle})
			c.must(err)
		}
	}
}

// numbers are the n of JSON documents, in order.
func (c *cloud) numbers(docs []string) (all []int) {
	c.t.Helper()
	for _, d := range docs {
		var v struct{ N int }
		c.must(json.Unmarshal([]byte(d), &v))
		all = append(all, v.N)
	}
	return all
}

// firehoseDocs are what the delivery stream has put into the bucket.
func (c *cloud) firehoseDocs() (docs []string) {
	c.t.Helper()
	out, err := c.s3.ListObjectsV2(c.ctx, &s3.ListObjectsV2Input{Bucket: p("lake"), Prefix: p("delivered/")})
	c.must(err)
	for _, o := range out.Contents {
		docs = append(docs, strings.Fields(c.object(*o.Key))...)
	}
	return docs
}

func (c *cloud) object(key string) string {
	c.t.Helper()
	out, err := c.s3.GetObject(c.ctx, &s3.GetObjectInput{Bucket: p("lake"), Key: &key})
	c.must(err)
	defer out.Body.Close()
	b := make([]byte, 64<<10)
	n := 0
	for {
		m, err := out.Body.Read(b[n:])
		if n += m; err != nil {
			return string(b[:n])
		}
	}
}

// kinesisDocs are the records of the stream.
func (c *cloud) kinesisDocs() (docs []string) {
	c.t.Helper()
	k := kinesis.NewFromConfig(c.cfg)
	it, err := k.GetShardIterator(c.ctx, &kinesis.GetShardIteratorInput{StreamName: p("out"),
		ShardId: p("shardId-000000000000"), ShardIteratorType: ktypes.ShardIteratorTypeTrimHorizon})
	c.must(err)
	out, err := k.GetRecords(c.ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
	c.must(err)
	for _, r := range out.Records {
		docs = append(docs, string(r.Data))
	}
	return docs
}

// items is how many items a table has.
func (c *cloud) items(table string) int {
	c.t.Helper()
	out, err := c.ddb.Scan(c.ctx, &dynamodb.ScanInput{TableName: &table})
	c.must(err)
	return len(out.Items)
}

// actionRules are a rule for each kind of action; queues are by name.
func actionRules(urls map[string]string) map[string]string {
	actions := map[string]string{
		"sqs":   fmt.Sprintf(`{"sqs":{"queueUrl":%q}}`, urls["readings"]),
		"fifo":  fmt.Sprintf(`{"sqs":{"queueUrl":%q}}`, urls["ordered.fifo"]),
		"sns":   `{"sns":{"targetArn":"arn:aws:sns:us-east-1:` + motoAccount + `:alarms"}}`,
		"flow":  `{"stepFunctions":{"stateMachineName":"flow","executionNamePrefix":"p-"}}`,
		"alarm": `{"cloudwatchAlarm":{"alarmName":"hot","stateReason":"n is ${n}","stateValue":"ALARM"}}`,
		"metric": `{"cloudwatchMetric":{"metricName":"temperature","metricNamespace":"plant","metricUnit":"None",` +
			`"metricValue":"${n}"}}`,
		"logs": `{"cloudwatchLogs":{"logGroupName":"devices"}}`,
		"column": `{"dynamoDB":{"tableName":"readings","hashKeyField":"device","hashKeyValue":"${topic(2)}",` +
			`"rangeKeyField":"n","rangeKeyType":"NUMBER","rangeKeyValue":"${n}"}}`,
		"update": `{"dynamoDB":{"tableName":"state","hashKeyField":"device","hashKeyValue":"${topic(2)}",` +
			`"payloadField":"last","operation":"UPDATE"}}`,
		"delete": `{"dynamoDB":{"tableName":"state","hashKeyField":"device","hashKeyValue":"gone",` +
			`"operation":"DELETE"}}`,
		"item":     `{"dynamoDBv2":{"putItem":{"tableName":"items"}}}`,
		"object":   `{"s3":{"bucketName":"lake","key":"objects/${n}"}}`,
		"stream":   `{"kinesis":{"streamName":"out","partitionKey":"${topic(2)}"}}`,
		"delivery": `{"firehose":{"deliveryStreamName":"lake","separator":"\n"}}`,
		"refused":  `{"sqs":{"queueUrl":"` + urls["readings"] + `-none"}}`,
		"channel":  `{"iotAnalytics":{"channelName":"raw"}}`,
	}
	all := map[string]string{}
	for name, a := range actions {
		errorAction := ""
		if name == "refused" {
			errorAction = fmt.Sprintf(`,"errorAction":{"sqs":{"queueUrl":%q}}`, urls["errors"])
		}
		all["rules/"+name+".json"] = fmt.Sprintf(
			`{"sql":"SELECT * FROM 'dt/+/climate'","awsIotSqlVersion":"2016-03-23","actions":[%s]%s}`, a, errorAction)
	}
	return all
}

// actionConfig sends every kind of action to a URL.
func actionConfig(url string) string {
	var b strings.Builder
	for _, kind := range []string{"sqs", "sns", "stepFunctions", "cloudwatchAlarm", "cloudwatchMetric",
		"cloudwatchLogs", "dynamoDB", "dynamoDBv2", "s3", "kinesis", "firehose"} {
		fmt.Fprintf(&b, "[[actions]]\nkind = %q\nendpoint_url = %q\nregion = \"us-east-1\"\n", kind, url)
		switch kind {
		case "s3", "kinesis", "firehose", "sqs":
			b.WriteString("remote = true\n")
		case "stepFunctions":
			b.WriteString("account = \"" + motoAccount + "\"\n")
		}
	}
	return b.String()
}

// TestActions drives every kind of action of one bridge to moto, over a link that
// is down at first and whose messages all have to arrive after it.
func TestActions(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto-clients")
	need(t, "stdbuf", "coreutils")
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_CA_BUNDLE", "")
	moto := counterpart.Moto(t)
	link, err := rig.NewProxy(strings.TrimPrefix(moto, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*patience)
	defer cancel()
	c := newCloud(t, ctx, moto)
	c.furnish()
	f := newBridge(t, actionConfig("http://"+link.Addr()), actionRules(c.urls))
	f.running.Go(func() { _ = link.Run(f.ctx) })
	link.Cut()
	n := nightly.Or(4, 24)
	device := f.thing("pi-1")
	var all []int
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, `{"n":%d,"temp":21.5}`+"\n", i)
		all = append(all, i)
	}
	pub := f.mosquitto(ctx, "mosquitto_pub", device, "-q", "1", "-l", "-t", "dt/pi-1/climate")
	pub.Stdin = strings.NewReader(lines.String())
	if out, err := pub.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	link.Mend()
	c.arrived(f, all)
}

// arrived waits until everything is where its action puts it.
func (c *cloud) arrived(f *fleet, all []int) {
	t, n := c.t, len(all)
	sorted := func(ns []int) []int { slices.Sort(ns); return ns }
	queues := map[string][]string{}
	logs, metrics := cloudwatchlogs.NewFromConfig(c.cfg), cloudwatch.NewFromConfig(c.cfg, query)
	c.until("queues", func() bool {
		done := true
		for name := range c.urls {
			queues[name] = append(queues[name], c.received(name)...)
			done = done && len(queues[name]) >= n
		}
		return done
	})
	for _, name := range []string{"readings", "alarms"} {
		if got := sorted(c.numbers(queues[name])); !slices.Equal(got, all) {
			t.Errorf("queue %s has %v", name, got)
		}
	}
	if got := c.numbers(queues["ordered.fifo"]); !slices.Equal(got, all) {
		t.Errorf("the FIFO queue has %v", got)
	}
	for _, doc := range queues["errors"] {
		if !strings.Contains(doc, `"failedAction":"SqsAction"`) || !strings.Contains(doc, "-none") {
			t.Errorf("error document %s", doc)
		}
	}
	c.until("tables", func() bool { return c.items("readings") == n && c.items("items") == n })
	c.until("an updated and a deleted item", func() bool {
		out, err := c.ddb.Scan(c.ctx, &dynamodb.ScanInput{TableName: p("state")})
		c.must(err)
		if len(out.Items) != 1 || len(out.Items[0]) != 3 { // what the update does not name stays
			return false
		}
		last, _ := out.Items[0]["last"].(*ddbtypes.AttributeValueMemberM)
		now, _ := last.Value["n"].(*ddbtypes.AttributeValueMemberN)
		return now.Value == fmt.Sprint(n-1)
	})
	c.until("executions", func() bool {
		out, err := sfn.NewFromConfig(c.cfg).ListExecutions(c.ctx, &sfn.ListExecutionsInput{
			StateMachineArn: p("arn:aws:states:us-east-1:" + motoAccount + ":stateMachine:flow")})
		c.must(err)
		return len(out.Executions) == n && strings.HasPrefix(*out.Executions[0].Name, "p-")
	})
	c.until("the alarm", func() bool {
		out, err := metrics.DescribeAlarms(c.ctx, &cloudwatch.DescribeAlarmsInput{AlarmNames: []string{"hot"}})
		c.must(err)
		a := out.MetricAlarms[0]
		return a.StateValue == "ALARM" && *a.StateReason == fmt.Sprintf("n is %d", n-1)
	})
	c.until("the metric", func() bool {
		out, err := metrics.GetMetricStatistics(c.ctx, &cloudwatch.GetMetricStatisticsInput{Namespace: p("plant"),
			MetricName: p("temperature"), Period: p(int32(86400)), StartTime: p(time.Now().Add(-24 * time.Hour)),
			EndTime: p(time.Now().Add(24 * time.Hour)), Statistics: []cwtypes.Statistic{"SampleCount", "Maximum"}})
		c.must(err)
		return len(out.Datapoints) > 0 && *out.Datapoints[0].SampleCount == float64(n) &&
			*out.Datapoints[0].Maximum == float64(n-1)
	})
	c.until("the log", func() bool {
		out, err := logs.GetLogEvents(c.ctx, &cloudwatchlogs.GetLogEventsInput{LogGroupName: p("devices"),
			LogStreamName: p("logs"), StartFromHead: p(true)})
		var docs []string
		for i := 0; err == nil && i < len(out.Events); i++ {
			docs = append(docs, *out.Events[i].Message)
		}
		return slices.Equal(sorted(c.numbers(docs)), all)
	})
	c.until("the data stream", func() bool { return slices.Equal(c.numbers(c.kinesisDocs()), all) })
	c.until("the delivery stream", func() bool { return slices.Equal(sorted(c.numbers(c.firehoseDocs())), all) })
	for _, i := range all {
		if doc := c.object(fmt.Sprintf("objects/%d", i)); !strings.HasPrefix(doc, fmt.Sprintf(`{"n":%d,`, i)) {
			t.Errorf("object %d is %s", i, doc)
		}
	}
	c.why(f)
	m, err := f.bridge.Metrics(c.ctx)
	c.must(err)
	for _, kind := range []string{"sqs", "sns", "dynamoDB", "cloudwatchMetric", "s3"} {
		if got := m[`tidemill_action_delivered_total{kind="`+kind+`"}`]; got < float64(n) {
			t.Errorf("metrics: %s delivered %v", kind, got)
		}
	}
}

// why looks at what rule why tells of a parameter.
func (c *cloud) why(f *fleet) {
	c.t.Helper()
	out, err := f.bridge.Command(c.ctx, "rule", "why", "-rule", "flow", "-topic", "dt/pi-1/climate",
		"-payload", `{"n":1}`)
	if err != nil || !strings.Contains(string(out), "stateMachineName") {
		c.t.Errorf("rule why: %v\n%s", err, out)
	}
}

func (c *cloud) until(what string, cond func() bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	began := time.Now()
	if err := rig.Until(ctx, what, func() (bool, error) { return cond(), nil }); err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("%s: after %v", what, time.Since(began).Round(time.Millisecond))
}
