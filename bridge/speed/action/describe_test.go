package action

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// Describe shows the parameters that Stage would take, and its error.
func TestDescribe(t *testing.T) {
	in := &Input{Doc: []byte(`{"x":1}`), Input: &iotsql.Input{Rule: "r",
		Message: message.Message{Topic: "dt/pi-1/climate", Payload: []byte(`{"k":"a/b"}`), Hops: 1}}}
	for doc, want := range map[string]string{
		`{"kinesis":{"streamName":"readings","partitionKey":"${topic(2)}"}}`: "streamName=readings partitionKey=pi-1 shard=0",
		`{"kinesis":{"streamName":"x${topic(2)}","partitionKey":"k"}}`: "streamName=xpi-1 " +
			"partitionKey=k: stream xpi-1 does not exist",
		`{"kinesis":{"streamName":"readings","partitionKey":"${none}"}}`: "streamName=readings " +
			"partitionKey=: partition key of 0 characters, want 1 to 256",
		`{"firehose":{"deliveryStreamName":"archive"}}`: "deliveryStreamName=archive",
		`{"firehose":{"deliveryStreamName":"${topic(1)}"}}`: "deliveryStreamName=dt: delivery " +
			"stream dt does not exist, or has a data stream as its source",
		`{"s3":{"bucketName":"bucket","key":"${k}/${topic(2)}.json"}}`:          "bucketName=bucket key=a/b/pi-1.json",
		`{"republish":{"topic":"$$aws/things/${topic(2)}/shadow/get","qos":1}}`: "topic=$aws/things/pi-1/shadow/get qos=1",
		`{"republish":{"topic":"a","headers":{"payloadFormatIndicator":"UTF8_DATA","contentType":"${k}",` +
			`"responseTopic":"r/${topic(2)}","correlationData":"AQI=","messageExpiry":"${15*2}",` +
			`"userProperties":[{"key":"${topic(1)}","value":"1"},{"key":"dt","value":"${topic(2)}"}]}}}`: "topic=a qos=0 payloadFormatIndicator=UTF8_DATA contentType=a/b responseTopic=r/pi-1 " +
			"correlationData=AQI= userProperties.dt=1 userProperties.dt=pi-1 messageExpiry=30",
		`{"republish":{"topic":"a","headers":{"payloadFormatIndicator":"${none}"}}}`:               "topic=a qos=0: headers.payloadFormatIndicator: the template gives no text",
		`{"republish":{"topic":"a","headers":{"contentType":"${none}"}}}`:                          "topic=a qos=0: headers.contentType: the template gives no text",
		`{"republish":{"topic":"a","headers":{"responseTopic":"${none}"}}}`:                        "topic=a qos=0: headers.responseTopic: the template gives no text",
		`{"republish":{"topic":"a","headers":{"correlationData":"${none}"}}}`:                      "topic=a qos=0: headers.correlationData: the template gives no text",
		`{"republish":{"topic":"a","headers":{"messageExpiry":"${none}"}}}`:                        "topic=a qos=0: headers.messageExpiry: the template gives no text",
		`{"republish":{"topic":"a","headers":{"userProperties":[{"key":"${none}","value":"v"}]}}}`: "topic=a qos=0: headers.userProperties: key: the template gives no text",
		`{"republish":{"topic":"a","headers":{"userProperties":[{"key":"k","value":"${none}"}]}}}`: "topic=a qos=0 userProperties.k=",
		`{"republish":{"topic":"a","headers":{"messageExpiry":"${k}"}}}`:                           "topic=a qos=0: headers.messageExpiry: \"a/b\", want seconds from 1 on",
		`{"republish":{"topic":"a","headers":{"correlationData":"${k}"}}}`:                         "topic=a qos=0: headers.correlationData: illegal base64 data at input byte 0",
		`{"republish":{"topic":"${topic()}/#"}}`:                                                   "topic=dt/pi-1/climate/# qos=0: ",
	} {
		a, err := Compile([]byte(doc), "r", "0", templates, targets{})
		if err != nil {
			t.Fatal(err)
		}
		all, err := a.Describe(t.Context(), in)
		got := ""
		for _, p := range all {
			got += " " + p.Name + "=" + p.Value
		}
		if err != nil {
			got += ": " + err.Error()
		}
		if got = got[1:]; got != want &&
			(err == nil || !strings.Contains(want, ": ") || !strings.HasPrefix(got, want)) {
			t.Errorf("%s:\n%s, want\n%s", doc, got, want)
		}
		b, _, staged := stage(t, doc, in)
		if fmt.Sprint(staged) != fmt.Sprint(err) || (b.Len() == 1) != (err == nil) {
			t.Errorf("%s: Stage says %v, Describe %v", doc, staged, err)
		}
	}
	a, err := Compile([]byte(`{"s3":{"bucketName":"bucket","key":"k"}}`), "r", "0", templates, full{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Describe(t.Context(), in); err == nil || !strings.Contains(err.Error(), "is full") {
		t.Errorf("into a full outbox: %v", err)
	}
}

// Every attempt is told of, and the end of a delivery once, with the slot.
func TestAttemptsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &objects{fail: func(key string, try int) error {
			switch {
			case key == "flaky" && try < 3:
				return errors.New("unreachable")
			case key == "never":
				return sink.ErrName
			}
			return nil
		}}
		var mu sync.Mutex // guards told: each outbox tells by itself
		told := map[string][]string{}
		tried = func(a Attempt) {
			mu.Lock()
			defer mu.Unlock()
			told[a.Slot] = append(told[a.Slot], fmt.Sprintf("%s %v %v", a.Name, a.Err != nil, a.Final))
			if a.At.IsZero() || a.Rule != "r" {
				t.Errorf("%+v", a)
			}
		}
		defer func() { tried = nil }()
		store, _, _ := drained(t, OutboxStream("r", "7"), o, 0, time.Hour, "good", "flaky", "never")
		defer store.Close()
		// What failed is told before what was done before it is durable.
		for slot, want := range map[string]string{
			"7":     "flaky true false, good false true, flaky true false, flaky false true, never true true",
			"error": "never true true",
		} {
			if got := strings.Join(told[slot], ", "); got != want {
				t.Errorf("%s: told\n%s, want\n%s", slot, got, want)
			}
		}
	})
}

// What is the same for every message and fails it is told of when the action is made.
func TestNever(t *testing.T) {
	metric := func(ns, unit, value string) string {
		return `{"cloudwatchMetric":{"metricName":"t","metricNamespace":"` + ns + `","metricUnit":"` + unit +
			`","metricValue":"` + value + `"}}`
	}
	const (
		dims = `"dimensions":[{"name":"n","value":"${x}"}]`
		to   = `"destinationArn":"d","clientProperties":{"bootstrap.servers":"h:1"},`
		hash = `"hashKeyField":"h","hashKeyValue":"a"`
	)
	for _, c := range [][2]string{
		{metric("ns", "None", "${x}"),
			""},
		{metric("${x}", "${x}", "1.5"),
			""},
		{metric("ns", "Millisecond", "${x}"),
			"metricUnit: \"Millisecond\" is no unit of CloudWatch; Milliseconds is one"},
		{metric("ns", "celsius", "1"),
			"None is one"},
		{metric("ns", "byte/second", "1"),
			"Bytes/Second is one"},
		{metric("ns", "None", "abc"),
			"metricValue: \"abc\", want a number"},
		{metric("AWS/plant", "${x}", "1"),
			"metricNamespace: \"AWS/plant\""},
		{metric("taken", "None", "1"),
			"taken elsewhere"},
		{`{"cloudwatchAlarm":{"alarmName":"a","stateReason":"${x}","stateValue":"Alarm"}}`,
			"stateValue: \"Alarm\", want one of"},
		{`{"cloudwatchAlarm":{"alarmName":"a","stateReason":"${x}","stateValue":"${x}"}}`,
			""},
		{`{"cloudwatchLogs":{"logGroupName":"a b"}}`,
			"logGroupName: \"a b\""},
		{`{"dynamoDB":{"tableName":"t",` + hash + `,"hashKeyType":"NUMBER"}}`,
			"is no number"},
		{`{"dynamoDB":{"tableName":"t",` + hash + `,"operation":"PUT"}}`,
			"operation: \"PUT\""},
		{`{"dynamoDB":{"tableName":"t",` + hash + `,"payloadField":"h"}}`,
			"two are the same"},
		{`{"dynamoDB":{"tableName":"t","hashKeyField":"${x}","hashKeyValue":"${x}"}}`,
			""},
		{`{"elasticsearch":{"endpoint":"https://u@h","index":"i","type":"t","id":"${x}"}}`,
			"endpoint: want http"},
		{`{"openSearch":{"endpoint":"https://h","index":"I","type":"t","id":"${x}"}}`,
			"index: \"I\", want"},
		{`{"firehose":{"deliveryStreamName":"a b"}}`,
			"deliveryStreamName: \"a b\""},
		{`{"iotAnalytics":{"channelName":"a b"}}`,
			"channelName: \"a b\""},
		{`{"iotAnalytics":{"channelArn":"c"}}`,
			"channelArn: "},
		{`{"iotAnalytics":{"channelName":"${x}"}}`,
			""},
		{`{"http":{"url":"http://h/","headers":[{"key":"a b","value":"v"}]}}`,
			"headers: \"a b\""},
		{`{"kafka":{` + to + `"topic":"a b"}}`,
			"topic: \"a b\""},
		{`{"kafka":{` + to + `"topic":"t","partition":"x"}}`,
			"partition: \"x\""},
		{`{"kinesis":{"streamName":"a b","partitionKey":"${x}"}}`,
			"streamName: \"a b\""},
		{`{"kinesis":{"streamName":"s","partitionKey":"` + strings.Repeat("k", 257) + `"}}`,
			"partitionKey: "},
		{`{"lambda":{"functionArn":"f"}}`,
			"functionArn: \"f\" is no function's ARN"},
		{`{"postgres":{"tableName":"a.b.c"}}`,
			"tableName: "},
		{`{"republish":{"topic":"a/#"}}`,
			"topic: "},
		{`{"s3":{"bucketName":"bucket","key":"../k"}}`,
			"key: "},
		{`{"sns":{"targetArn":"alarms"}}`,
			"targetArn: \"alarms\" is no ARN"},
		{`{"stepFunctions":{"stateMachineName":"a b"}}`,
			"stateMachineName: \"a b\""},
		{`{"stepFunctions":{"stateMachineName":"m","executionNamePrefix":"a b"}}`,
			"executionNamePrefix: "},
		{`{"timestream":{"databaseName":"` + strings.Repeat("d", 128) + `","tableName":"t",` + dims + `}}`,
			"databaseName: "},
		{`{"timestream":{"databaseName":"d","tableName":"t",` + dims + `,` +
			`"timestamp":{"value":"now","unit":"SECONDS"}}}`,
			"timestamp.value: "},
		{`{"timestream":{"databaseName":"d","tableName":"t",` + dims + `}}`,
			""},
	} {
		doc, want := c[0], c[1]
		a, err := Compile([]byte(doc), "r", "0", templates, targets{})
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		switch err := a.Never(); {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
}
