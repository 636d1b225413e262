package server

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// Who may see rules and delivery streams, and not change them, is shown no header,
// password or URL of theirs.
func TestViewersSeeNoSecrets(t *testing.T) {
	cfg := configure(t)
	cfg.Audit.Events = true
	b := start(t, cfg)
	const rule = `{"sql":"SELECT * FROM 'a'","actions":[{"http":{"url":"https://localhost:9/hook/5ecret?t=5ecret",` +
		`"headers":[{"key":"X-Own","value":"5ecret"}]}}],"errorAction":{"http":{"url":"https://localhost:9/5ecret"}}}`
	b.control("POST", "/rules/r", rule, 200)
	const destination = `{"DeliveryStreamName":"d","HttpEndpointDestinationConfiguration":{"EndpointConfiguration":` +
		`{"Url":"https://localhost:9/5ecret","AccessKey":"5ecret"},"RequestConfiguration":{"CommonAttributes":` +
		`[{"AttributeName":"own","AttributeValue":"5ecret"}]},"RoleARN":"arn:aws:iam::000000000000:role/r",` +
		`"S3Configuration":{"RoleARN":"arn:aws:iam::000000000000:role/r","BucketARN":"arn:aws:s3:::bucket"}}}`
	firehose := func(op string) longRequest {
		return longRequest{name: op, service: "firehose", target: "Firehose_20150804." + op, method: "POST", path: "/",
			body: `{"DeliveryStreamName":"d"}`}
	}
	made := firehose("CreateDeliveryStream")
	made.body = destination
	if got := <-b.begin(b.key(), made); !strings.HasPrefix(got, "200") {
		t.Fatal(got)
	}
	for role, shows := range map[string]bool{people.Viewer: false, people.Operator: true} {
		k := b.user("u-"+role, role)
		_, _, text := b.requester("iot", nil).as(k, "GET", "/rules/r", "")
		described := <-b.begin(k, firehose("DescribeDeliveryStream"))
		for _, got := range []string{text, described} {
			if strings.Contains(got, "5ecret") != shows || !strings.Contains(got, "https://localhost:9") {
				t.Errorf("%s: %s", role, got)
			}
		}
	}
	// The audit log has the same documents.
	if got := <-b.begin(b.key(), firehose("DeleteDeliveryStream")); !strings.HasPrefix(got, "200") {
		t.Fatal(got)
	}
	for _, action := range []string{"CreateTopicRule", "CreateDeliveryStream", "DeleteDeliveryStream"} {
		all := b.auditedAs(t, audit.SourceAWS, action)
		if len(all) != 1 {
			t.Fatalf("%d records of %s", len(all), action)
		}
		text, err := json.Marshal(all[0])
		if err != nil {
			t.Fatal(err)
		}
		got := string(audit.HiddenRecord(text))
		if strings.Contains(got, "5ecret") || !strings.Contains(got, "localhost:9") ||
			!strings.Contains(got, action) {
			t.Errorf("%s, of %s", got, text)
		}
	}
	_, text := b.do("GET", "/v1/streams/records?name=$ingest&from=oldest", "")
	events := 0
	for line := range strings.Lines(text) {
		var m admin.StreamRecord
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(m.Data), audit.Topic) {
			events++
		}
		if strings.Contains(string(m.Data), "5ecret") {
			t.Errorf("a message has a secret of an audit record: %s", m.Data)
		}
	}
	if events < 2 {
		t.Errorf("%d events of the audit log", events)
	}
}
