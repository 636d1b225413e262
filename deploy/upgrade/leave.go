package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/deploy/rig"
)

const everythingRule = `{
  "sql": "SELECT n, life, ts, topic(2) AS thing, topic(3) AS sensor FROM 'dt/#'",
  "awsIotSqlVersion": "2016-03-23",
  "actions": [
    {"kinesis": {"streamName": "readings", "partitionKey": "${topic(2)}", "roleArn": "arn:aws:iam::000000000000:role/rules"}},
    {"firehose": {"deliveryStreamName": "archive", "separator": "\n", "roleArn": "arn:aws:iam::000000000000:role/rules"}},
    {"firehose": {"deliveryStreamName": "held", "separator": "\n", "roleArn": "arn:aws:iam::000000000000:role/rules"}}
  ]
}`

// outRule sends what is queued a second and a third way, through a target's
// outbox each: the bucket of the third cannot be written.
const outRule = `{
  "sql": "SELECT n FROM 'q/+'", "awsIotSqlVersion": "2016-03-23",
  "actions": [
    {"republish": {"topic": "out/${topic(2)}", "qos": 1, "roleArn": "arn:aws:iam::000000000000:role/rules"}},
    {"s3": {"bucketName": "held", "key": "outbox/${topic(2)}/${n}", "roleArn": "arn:aws:iam::000000000000:role/rules"}}
  ]
}`

const archiveStream = `{
  "DeliveryStreamName": "archive",
  "ExtendedS3DestinationConfiguration": {
    "BucketARN": "arn:aws:s3:::archive", "Prefix": "readings/",
    "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 1}, "CompressionFormat": "GZIP"
  }
}`

// heldStream is archiveStream into the bucket that cannot be written.
const heldStream = `{
  "DeliveryStreamName": "held",
  "ExtendedS3DestinationConfiguration": {
    "BucketARN": "arn:aws:s3:::held", "Prefix": "stream/", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 1}
  }
}`

// declared are the files of bridge.d.
var declared = map[string]string{
	"streams/mixed.json":         `{"StreamName": "mixed", "ShardCount": 2, "RetentionPeriodHours": 8760}`,
	"streams/sorted.json":        `{"StreamName": "sorted", "ShardCount": 1, "RetentionPeriodHours": 8760}`,
	"streams/letters.json":       `{"StreamName": "letters", "ShardCount": 1, "RetentionPeriodHours": 8760}`,
	"streams/held-letters.json":  `{"StreamName": "held-letters", "ShardCount": 1, "RetentionPeriodHours": 8760}`,
	"delivery-streams/held.json": heldStream,
	"connectors/readings.json": `{"ConnectorName": "readings", "Source": {"StreamName": "readings"},
	  "Buffer": {"Records": 50, "Seconds": 1},
	  "Emit": {"S3": {"Bucket": "held", "Prefix": "connector/", "Delimiter": "\n"}}}`,
	"connectors/sorted.json": `{"ConnectorName": "sorted", "Source": {"StreamName": "mixed"}, "Filter": {"JSON": "fail"},
	  "Buffer": {"Records": 7, "Seconds": 1}, "DeadLetter": {"StreamName": "letters"},
	  "Emit": {"Stream": {"StreamName": "sorted"}}}`,
	"connectors/held.json": `{"ConnectorName": "held", "Source": {"StreamName": "mixed"}, "Filter": {"JSON": "fail"},
	  "Buffer": {"Records": 7, "Seconds": 1}, "DeadLetter": {"StreamName": "held-letters"},
	  "Emit": {"S3": {"Bucket": "held", "Prefix": "mixed/", "Delimiter": "\n"}}}`,
	"rules/everything.json":         everythingRule,
	"rules/out.json":                outRule,
	"streams/readings.json":         `{"StreamName": "readings", "ShardCount": 3, "RetentionPeriodHours": 8760}`,
	"delivery-streams/archive.json": archiveStream,
}

const (
	policy   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`
	template = `{"Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
"Resources": {
  "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}}},
  "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}}}}`
	role = "arn:aws:iam::000000000000:role/any"
)

// mixed is how many records StreamMixed has.
const mixed = 90

// mixedRecord is one of them. Every third is no JSON.
func mixedRecord(i int) string {
	if i%3 == 0 {
		return fmt.Sprint("no JSON ", i)
	}
	return fmt.Sprintf(`{"i":%d}`, i)
}

// quoted is a JSON text.
func quoted(s string) string {
	b, _ := json.Marshal(s) // a string has no error
	return string(b)
}

// changes are requests that fill registry and shadows.
var changes = []struct{ service, method, path, body string }{
	{"iot", "POST", "/thing-types/press", `{"thingTypeProperties":{"thingTypeDescription":"a press"}}`},
	{"iot", "POST", "/thing-groups/plant", `{"thingGroupProperties":{"thingGroupDescription":"all of it"}}`},
	{"iot", "POST", "/thing-groups/hall", `{"parentGroupName":"plant"}`},
	{"iot", "POST", "/billing-groups/north", `{}`},
	{"iot", "POST", "/things/press-1", `{"thingTypeName":"press","billingGroupName":"north","attributePayload":{"attributes":{"line":"4"}}}`},
	{"iot", "PUT", "/thing-groups/addThingToThingGroup", `{"thingGroupName":"hall","thingName":"press-1"}`},
	{"iot", "POST", "/policies/readers", `{"policyDocument":` + quoted(policy) + `}`},
	{"iot", "POST", "/policies/readers/version?setAsDefault=true", `{"policyDocument":` + quoted(policy) + `}`},
	{"iot", "POST", "/provisioning-templates", `{"templateName":"fleet","enabled":true,"provisioningRoleArn":"` + role +
		`","templateBody":` + quoted(template) + `}`},
	{"iot", "POST", "/role-aliases/upload", `{"roleArn":"` + role + `","credentialDurationSeconds":3600}`},
	{"iot", "POST", "/rules/by_api", `{"sql":"SELECT * FROM 'nothing'","actions":[{"republish":{"topic":"x","roleArn":"` + role + `"}}]}`},
	{"iotdata", "POST", "/things/press-1/shadow",
		`{"state":{"desired":{"speed":1.50,"on":true},"reported":{"speed":1,"text":"ä"}}}`},
	{"iotdata", "POST", "/things/press-1/shadow",
		`{"state":{"desired":{"on":null},"reported":{"list":[1,2,{"a":3}]}}}`},
	{"iotdata", "POST", "/things/press-1/shadow?name=door", `{"state":{"desired":{"open":true}}}`},
	{"iotdata", "POST", "/things/press-1/shadow?name=gone", `{"state":{"desired":{"open":true}}}`},
	{"iotdata", "DELETE", "/things/press-1/shadow?name=gone", ``},
}

// questions are asked of the API when all is there, and again by the test. {cert}
// is the id of the operator's certificate.
var questions = []struct{ service, path string }{
	{"iot", "/things"}, {"iot", "/things/press-1"}, {"iot", "/things/" + Device}, {"iot", "/thing-types/press"},
	{"iot", "/thing-groups/hall"}, {"iot", "/thing-groups/hall/things"}, {"iot", "/billing-groups/north/things"},
	{"iot", "/things/" + Operator + "/principals"},
	{"iot", "/certificates"}, {"iot", "/certificates/{cert}"},
	{"iot", "/policies"}, {"iot", "/policies/readers"}, {"iot", "/policies/readers/version"},
	{"iot", "/policies/" + Operator},
	{"iot", "/provisioning-templates"}, {"iot", "/provisioning-templates/fleet"}, {"iot", "/role-aliases/upload"},
	{"iot", "/rules/by_api"},
	{"iotdata", "/things/press-1/shadow"}, {"iotdata", "/things/press-1/shadow?name=door"},
	{"iotdata", "/api/things/shadow/ListNamedShadowsForThing/press-1"},
	{"iotdata", "/retainedMessage/" + url.PathEscape("kept/1")},
}

const (
	counting = "\nbackoff_min = \"100ms\"\nbackoff_max = \"500ms\"\n[board]\nkind = \"sim\"\nseed = 7\n" +
		"[spool]\nflush_every = \"100ms\"\n[shadow]\nreport_every = \"100ms\"\n"
	counter = "[[sensor]]\nname = \"counter\"\ndriver = \"count\"\nevery = \"10ms\"\n"
	lamp    = "[[sensor]]\nname = \"lamp\"\ndriver = \"gpio-out\"\nevery = \"1h\"\n[sensor.options]\nline = \"sim:4\"\n"
)

// Leave runs the programs of bin, of the version named, in the empty folder dir,
// kills them under load, and writes what they left and its manifest to
// out/VERSION.tar.gz and .json.
func Leave(ctx context.Context, bin rig.Bin, version, dir, out string) error {
	l := &leaver{ctx: ctx, dir: dir, m: &Manifest{Version: version, Made: time.Now().UTC().Truncate(time.Second)}}
	if err := l.leave(bin); err != nil {
		return err
	}
	// Logs and the configuration of this run are no data.
	for _, name := range []string{"bridge.log", Device + ".log", "bridge.toml"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(l.m, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, version+".json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return pack(dir, filepath.Join(out, version+".tar.gz"))
}

// A leaver makes data.
type leaver struct {
	ctx    context.Context
	dir    string
	m      *Manifest
	bridge *rig.Bridge
	agent  *rig.Agent
	api    *api
}

func (l *leaver) leave(bin rig.Bin) (err error) {
	if l.bridge, err = rig.NewBridge(bin, l.dir, ""); err != nil {
		return err
	}
	defer l.bridge.Kill()
	for name, doc := range declared {
		if err := l.bridge.Declare(name, doc); err != nil {
			return err
		}
	}
	if err := errors.Join(l.bridge.Start(), l.bridge.Ready(l.ctx)); err != nil {
		return err
	}
	if l.api, err = newAPI(l.bridge); err != nil {
		return err
	}
	if l.agent, err = rig.NewAgent(l.ctx, l.bridge, Device, l.dir, l.bridge.MQTT, counting+counter); err != nil {
		return err
	}
	defer l.agent.Kill()
	for _, step := range []func() error{l.fill, l.put, l.people, l.hold, l.keep, l.ask, l.agent.Start, l.killBridge,
		l.mix, l.killAll, l.away} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// fill makes what registry and shadows have.
func (l *leaver) fill() error {
	if _, err := l.bridge.Command(l.ctx, "thing", "create", Operator, "-out", filepath.Join(l.dir, Operator), "-sensor",
		"none"); err != nil {
		return err
	}
	id, err := l.certificate()
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"policy", "put", Operator, "-document", policy}, {"policy", "attach", Operator, id},
	} {
		if _, err := l.bridge.Command(l.ctx, args...); err != nil {
			return err
		}
	}
	for _, c := range changes {
		if _, err := l.api.do(l.ctx, c.service, c.method, c.path, c.body); err != nil {
			return err
		}
	}
	return nil
}

// certificate returns the id of the operator's certificate.
func (l *leaver) certificate() (string, error) {
	var list struct{ Principals []string }
	text, err := l.api.do(l.ctx, "iot", http.MethodGet, "/things/"+Operator+"/principals", "")
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(text, &list); err != nil || len(list.Principals) != 1 {
		return "", fmt.Errorf("%s: %v", text, err)
	}
	_, id := filepath.Split(list.Principals[0])
	return id, nil
}

// put fills a stream and splits its first shard in the middle.
func (l *leaver) put() error {
	if err := l.api.kinesis(l.ctx, "CreateStream", map[string]any{"StreamName": StreamPut, "ShardCount": 2},
		nil); err != nil {
		return err
	}
	for round := range 2 {
		if err := l.api.active(l.ctx, StreamPut); err != nil {
			return err
		}
		var records []map[string]any
		for i := range 40 {
			records = append(records, map[string]any{"Data": fmt.Appendf(nil, "record %d of round %d", i, round),
				"PartitionKey": fmt.Sprint("k", i)})
		}
		if err := l.api.kinesis(l.ctx, "PutRecords", map[string]any{"StreamName": StreamPut, "Records": records},
			nil); err != nil {
			return err
		}
		if round > 0 {
			break
		}
		const middle = "85070591730234615865843651857942052864" // 2^126: of the first of two shards
		if err := l.api.kinesis(l.ctx, "SplitShard", map[string]any{"StreamName": StreamPut,
			"ShardToSplit": "shardId-000000000000", "NewStartingHashKey": middle}, nil); err != nil {
			return err
		}
	}
	var err error
	l.m.Records, err = l.api.records(l.ctx, StreamPut)
	return err
}

// hold puts something into the way of the bucket Held that is no data: what is
// written there fails until it is gone.
func (l *leaver) hold() error {
	return os.Symlink(Held, filepath.Join(l.bridge.Dir, "objects", Held))
}

// mix puts records to the stream StreamMixed, of which every third is no JSON, and
// waits until the connectors that read it are as far as they get.
func (l *leaver) mix() error {
	var records []map[string]any
	for i := range mixed {
		records = append(records, map[string]any{"Data": []byte(mixedRecord(i)), "PartitionKey": fmt.Sprint("k", i)})
	}
	if err := l.api.kinesis(l.ctx, "PutRecords", map[string]any{"StreamName": StreamMixed, "Records": records},
		nil); err != nil {
		return err
	}
	l.m.Mixed = mixed
	return rig.Until(l.ctx, "connectors", func() (bool, error) {
		all, err := l.api.records(l.ctx, StreamSorted)
		return len(all) > 0, err
	})
}

// keep retains messages and makes the session for which messages wait.
func (l *leaver) keep() error {
	c, _, err := dial(l.bridge.MQTT, Subscriber, filepath.Join(l.dir, Operator), false, nil)
	if err != nil {
		return err
	}
	defer c.Disconnect(100)
	if err := wait(c.SubscribeMultiple(map[string]byte{"q/#": 1, "out/#": 1}, nil)); err != nil {
		return err
	}
	for i := range 5 {
		topic, payload := fmt.Sprint("kept/", i), fmt.Sprintf(`{"kept":%d}`, i)
		if err := errors.Join(wait(c.Publish(topic, 1, true, "an earlier one")),
			wait(c.Publish(topic, 1, true, payload))); err != nil {
			return err
		}
		l.m.Retained = append(l.m.Retained, [2]string{topic, payload})
	}
	return wait(c.Publish("kept/4", 1, true, "")) // removed again
}

// ask notes what the API answers.
func (l *leaver) ask() error {
	l.m.Retained = l.m.Retained[:4]
	id, err := l.certificate()
	if err != nil {
		return err
	}
	for _, q := range questions {
		path := q.path
		if path == "/certificates/{cert}" {
			path = "/certificates/" + id
		}
		text, err := l.api.do(l.ctx, q.service, http.MethodGet, path, "")
		if err != nil {
			return err
		}
		l.m.Answers = append(l.m.Answers, Answer{q.service, path, text})
	}
	return l.askPeople()
}

// load publishes, at QoS 1, at QoS 2, and for the session that is away, until
// end, which is called when enough was acknowledged, has killed the bridge.
func (l *leaver) load(life int, end func() error) error {
	number := func(thing string) func(int) (string, string) {
		return func(n int) (string, string) {
			return "dt/" + thing + "/counter", fmt.Sprintf(`{"n":%d,"life":%d}`, n, life)
		}
	}
	counts := []*count{
		{Counted: Counted{Thing: "one", Life: life}, qos: 1, message: number("one")},
		{Counted: Counted{Thing: "two", Life: life}, qos: 2, message: number("two")},
		{Counted: Counted{Thing: "queue", Life: life}, qos: 1, message: func(n int) (string, string) {
			return fmt.Sprint("q/", life), fmt.Sprintf(`{"n":%d}`, n)
		}},
	}
	var running sync.WaitGroup
	failed := make(chan error, len(counts))
	for _, c := range counts {
		c.enough = make(chan struct{})
		running.Go(func() {
			if err := c.run(l.bridge.MQTT, filepath.Join(l.dir, Operator)); err != nil {
				failed <- err
			}
		})
	}
	for _, c := range counts {
		select {
		case <-c.enough:
		case err := <-failed:
			return err
		case <-l.ctx.Done():
			return l.ctx.Err()
		}
	}
	err := end()
	running.Wait()
	for _, c := range counts[:2] {
		l.m.Counted = append(l.m.Counted, c.Counted)
	}
	l.m.Queued = append(l.m.Queued, counts[2].Counted)
	return err
}

// killBridge kills the bridge under load and starts it again.
func (l *leaver) killBridge() error {
	if err := l.load(1, func() error { l.bridge.Kill(); return nil }); err != nil {
		return err
	}
	return errors.Join(l.bridge.Start(), l.bridge.Ready(l.ctx))
}

// killAll kills the agent and then the bridge under load; in between, the
// device's shadow changes.
func (l *leaver) killAll() error {
	if err := l.appended(100); err != nil {
		return err
	}
	return l.load(2, func() error {
		l.agent.Kill()
		_, err := l.api.do(l.ctx, "iotdata", http.MethodPost, "/things/"+Device+"/shadow",
			`{"state":{"desired":{"outputs":{"lamp":{"level":true}}}}}`)
		l.bridge.Kill()
		return err
	})
}

// away runs the agent without a bridge, and with one sensor more, and kills it.
func (l *leaver) away() error {
	if err := errors.Join(l.agent.Configure(counting+counter+lamp), l.agent.Start(), l.appended(100)); err != nil {
		return err
	}
	l.agent.Kill()
	return nil
}

// appended waits until the agent has put n readings more on its disk.
func (l *leaver) appended(n uint64) error {
	from := l.m.Agent.Appended
	return rig.Until(l.ctx, "the agent", func() (bool, error) {
		var s device.Status
		if err := l.agent.Status(l.ctx, &s); err != nil {
			return false, err
		}
		if from == 0 {
			from = s.Spool.Appended
		}
		l.m.Agent.Appended, l.m.Agent.Acked = s.Spool.Appended, s.Spool.Acked
		return s.Spool.Appended >= from+n, nil
	})
}
