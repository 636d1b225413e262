package action

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// elsewhere is a catalog whose kinds are all remote.
type elsewhere struct{ targets }

func (elsewhere) Remote(string) bool { return true }

// Each kind shows its parameters, and refuses what its target would.
func TestDescribeSent(t *testing.T) {
	in := &Input{Doc: []byte(`{"x":1}`), Input: &iotsql.Input{Rule: "r", Message: message.Message{
		Topic: "dt/pi-1/climate", Payload: []byte(`{"k":"a b","n":7}`), Time: 1700000000000}}}
	const token = "0123456789012345678901234567890123456789"
	for doc, want := range map[string]string{
		`{"cloudwatchMetric":{"metricName":"t","metricNamespace":"ns","metricUnit":"None","metricValue":"${n}"}}`: "" +
			"metricName=t metricNamespace=ns metricUnit=None metricValue=7 metricTimestamp=1700000000",
		`{"cloudwatchMetric":{"metricName":"t","metricNamespace":"AWS/x","metricUnit":"None","metricValue":"1"}}`: "" +
			"metricNamespace: ",
		`{"cloudwatchAlarm":{"alarmName":"a","stateReason":"${none}","stateValue":"OK"}}`: "" +
			"alarmName=a stateReason= stateValue=OK",
		`{"cloudwatchLogs":{"logGroupName":"g ${n}"}}`: "logGroupName: ",
		`{"dynamoDB":{"tableName":"t","hashKeyField":"h","hashKeyValue":"${n}","hashKeyType":"NUMBER"}}`: "" +
			"tableName=t hashKeyField=h hashKeyValue=7 hashKeyType=NUMBER payloadField=payload operation=INSERT",
		`{"dynamoDB":{"tableName":"t","hashKeyField":"h","hashKeyValue":"1","rangeKeyField":"r"}}`: "one is missing",
		`{"dynamoDB":{"tableName":"t","hashKeyField":"h","hashKeyValue":"1","payloadField":"h"}}`:  "two are the same",
		`{"dynamoDBv2":{"putItem":{"tableName":"t"}}}`:                                             "tableName=t",
		`{"openSearch":{"endpoint":"https://h","index":"I","type":"_doc","id":"1"}}`:               "index: ",
		`{"openSearch":{"endpoint":"https://u@h","index":"i","type":"_doc","id":"1"}}`:             "endpoint: ",
		`{"stepFunctions":{"stateMachineName":"m","executionNamePrefix":"${k}"}}`: "" +
			"executionNamePrefix: ",
		`{"stepFunctions":{"stateMachineName":"m"}}`:                  "stateMachineName=m",
		`{"sns":{"targetArn":"alarms"}}`:                              "targetArn: ",
		`{"lambda":{"functionArn":"${k}"}}`:                           "functionArn: ",
		`{"firehose":{"deliveryStreamName":"lake","batchMode":true}}`: "no JSON array",
		`{"iotAnalytics":{"channelName":"a-b"}}`:                      "channelName: ",
		`{"iotAnalytics":{"channelArn":"arn:aws:iotanalytics:r:1:channel/c"}}`: "" +
			"channelArn=arn:aws:iotanalytics:r:1:channel/c batchMode=false",
		`{"s3":{"bucketName":"lake","key":"${none}"}}`: "key of 0 bytes",
		`{"salesforce":{"url":"https://ingestion-a.b.sfdcnow.com/streams/s/c/event","token":"` + token + `"}}`: "" +
			"url=https://ingestion-a.b.sfdcnow.com/streams/s/c/event token=***",
	} {
		a, err := Compile([]byte(doc), "r", "0", templates, elsewhere{})
		if err != nil {
			t.Errorf("%s: %v", doc, err)
			continue
		}
		all, err := a.Describe(t.Context(), in)
		got := ""
		for _, p := range all {
			got += " " + p.Name + "=" + p.Value
		}
		got = strings.TrimSpace(got)
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%s:\n%s, want\n%s", doc, got, want)
		}
	}
}

// What batch modes take of a document is in it, byte for byte, and within the
// target's limits.
func FuzzBatchModes(f *testing.F) {
	f.Add([]byte(`[{"timestamp":1,"message":"m"},{"timestamp":2,"message":"n"}]`))
	f.Add([]byte(`[1, "x", null, [2]]`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		d := &Delivery{ID: "i", Data: doc, Parameters: []Parameter{{"batchMode", "true"}, {"separator", "\n"}}}
		if records, err := d.Records(); err == nil {
			size := 0
			for _, r := range records {
				size += len(r)
				if !bytes.HasSuffix(r, []byte("\n")) || !json.Valid(r) || !bytes.Contains(doc, r[:len(r)-1]) {
					t.Fatalf("%q has no record %q", doc, r)
				}
			}
			if len(records) > maxBatchRecords || size > maxBatchBytes {
				t.Fatalf("%d records of %d bytes", len(records), size)
			}
		}
		if all, err := d.Messages(); err == nil {
			for _, m := range all {
				if len(m.Data) > maxMessageBytes || !json.Valid(m.Data) || !strings.HasPrefix(m.ID, "i-") {
					t.Fatalf("%+v", m)
				}
			}
		}
		if events, err := LogEvents(doc); err == nil {
			for _, e := range events {
				if e.Timestamp == nil || e.Message == nil || *e.Message == "" {
					t.Fatalf("%q: %+v", doc, e)
				}
			}
		}
	})
}
