package faults

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// cloudRows are those at AWS's services, which moto has, and Lambda, which a strict
// stand-in is.
func cloudRows(t *testing.T, c *cloud) []*row {
	queues := []*lane{{meter: &meter{}, mark: "ordered.fifo", halve: halveSQS}, {meter: &meter{}, halve: halveSQS}}
	queueGate := newWebGate(t, c.url, queues...)
	// action makes a row whose kind of action goes through a gate of its own.
	action := func(name, kind, member string, once bool, halve halving, got func() []int) *row {
		l := &lane{meter: &meter{}, halve: halve, writes: writes}
		if kind == "s3" {
			l.mark = "/lake/" // error actions, too, come through its gate
		}
		r := &row{name: name, once: once, meter: l.meter, got: got,
			action: fmt.Sprintf(`{%q:{%s}}`, kind, member), settings: place(kind, newWebGate(t, c.url, l))}
		if halve == nil {
			r.skip = whole
		}
		return r
	}
	queue := func(name, url string, once bool, l *lane, settings string) *row {
		return &row{name: name, once: once, meter: l.meter, settings: settings,
			got:    func() []int { return c.received(url) },
			action: fmt.Sprintf(`{"sqs":{"queueUrl":%q}}`, c.queue(url))}
	}
	s3Lane := &lane{meter: &meter{}}
	all := []*row{
		{name: "s3-delivery", once: true, meter: s3Lane.meter, got: func() []int { return c.objects("stream/") },
			skip: map[string]string{halfTaken: "an object is taken whole or not", window: "24 hours"},
			stream: fmt.Sprintf(`"ExtendedS3DestinationConfiguration":{"BucketARN":"arn:aws:s3:::lake","Prefix":"stream/",%s},
			  "Tidemill":{"S3":{"Region":"us-east-1","EndpointURL":%q}}`, buffering, newWebGate(t, c.url, s3Lane))},
		action("s3", "s3", `"bucketName":"lake","key":"objects/${id}"`, true, nil,
			func() []int { return c.objects("objects/") }),
		action("dynamoDB", "dynamoDB", `"tableName":"columns","hashKeyField":"id","hashKeyType":"NUMBER","hashKeyValue":"${id}"`,
			true, halveDynamoDB, func() []int { return c.items("columns") }),
		action("dynamoDBv2", "dynamoDBv2", `"putItem":{"tableName":"items"}`, true, halveDynamoDB,
			func() []int { return c.items("items") }),
		queue("sqs_fifo", "ordered.fifo", true, queues[0], place("sqs", queueGate)),
		action("stepFunctions", "stepFunctions", `"stateMachineName":"flow","executionNamePrefix":"n${id}-"`, true, nil,
			c.executions),
		queue("sqs", "standard", false, queues[1], ""),
		action("sns", "sns", fmt.Sprintf(`"targetArn":%q`, c.arn("sns", "topic")), false, halveSNS,
			func() []int { return c.received("topic") }),
		action("kinesis", "kinesis", `"streamName":"out","partitionKey":"k"`, false, halveKinesis, c.records),
		action("firehose", "firehose", `"deliveryStreamName":"lake","separator":"\n"`, false, halveFirehose,
			func() []int { return c.objects("delivered/") }),
		action("cloudwatchLogs", "cloudwatchLogs", `"logGroupName":"devices"`, false, nil, c.events),
		action("cloudwatchMetric", "cloudwatchMetric", `"metricName":"n${id}","metricNamespace":"plant","metricUnit":"None",`+
			`"metricValue":"1"`, false, nil, c.samples),
	}
	f, m := &function{}, &meter{}
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	all = append(all, &row{name: "lambda", meter: m, got: f.got, skip: whole,
		action:   `{"lambda":{"functionArn":"arn:aws:lambda:us-east-1:` + motoAccount + `:function:f"}}`,
		settings: place("lambda", newWebGate(t, s.URL, &lane{meter: m}))})
	return all
}

// writes leaves out requests that only ask.
func writes(r *http.Request, _ []byte) bool {
	target := r.Header.Get("X-Amz-Target")
	return !strings.Contains(target, ".Describe") && !strings.Contains(target, ".Create") && r.Method != http.MethodGet
}

// place leads a kind of action to a URL.
func place(kind, url string) string {
	s := fmt.Sprintf("[[actions]]\nkind = %q\nendpoint_url = %q\nregion = \"us-east-1\"\n", kind, url)
	switch kind {
	case "s3", "kinesis", "firehose", "sqs", "iotAnalytics":
		s += "remote = true\n"
	case "stepFunctions":
		s += "account = \"" + motoAccount + "\"\n"
	}
	return s
}
