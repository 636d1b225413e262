package kinesis

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"
	"github.com/fxamacker/cbor/v2"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
)

// inCBOR asks with a request that another encoder wrote, and gives the answer
// as JSON would have it.
func (w *served) inCBOR(op string, in any) (int, string) {
	w.t.Helper()
	body, err := cbor.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, text := w.do(w.request(op, cborType, body))
	if kind := resp.Header.Get("Content-Type"); kind != cborType && kind != eventsType {
		w.t.Errorf("%s: answered as %s", op, kind)
	}
	if text == "" {
		return resp.StatusCode, ""
	}
	if m, err := eventstream.NewDecoder().Decode(strings.NewReader(text), nil); err == nil {
		return resp.StatusCode, header(m, ":event-type")
	}
	var out any
	if err := cbor.Unmarshal([]byte(text), &out); err != nil {
		w.t.Fatalf("%s: %v in %x", op, err, text)
	}
	return resp.StatusCode, fmt.Sprint(out)
}

// header is the text of a header, "" for none.
func header(m eventstream.Message, name string) string {
	v, _ := m.Headers.Get(name).(eventstream.StringValue)
	return string(v)
}

type object map[string]any

// TestEveryOperation asks each in CBOR, with all that it needs; what comes must
// have what is wanted. The life of a stream u.
func TestEveryOperation(t *testing.T) {
	w := newServed(t, nil)
	arn := "arn:aws:kinesis:eu-test-7:" + account + ":stream/u"
	u := func(more object) object {
		if more == nil {
			more = object{}
		}
		more["StreamName"] = "u"
		return more
	}
	asked := map[string]bool{}
	ask := func(op string, in object, want ...string) string {
		t.Helper()
		asked[op] = true
		status, text := w.inCBOR(op, in)
		if status != 200 || len(want) == 0 && text != "" {
			t.Errorf("%s: %d %s", op, status, text)
		}
		for _, s := range want {
			if !strings.Contains(text, s) {
				t.Errorf("%s: no %s in %s", op, s, text)
			}
		}
		return text
	}
	after := func(text, name string) string {
		_, v, _ := strings.Cut(text, name+":")
		v, _, _ = strings.Cut(v, " ")
		return strings.TrimRight(v, "]")
	}
	ask("CreateStream", u(object{"ShardCount": 2}))
	ask("ListStreams", object{}, "StreamNames:[s u]")
	ask("DescribeStream", u(nil), arn, "HasMoreShards:false", "shardId-000000000001")
	ask("DescribeStreamSummary", u(nil), "OpenShardCount:2")
	ask("ListShards", u(nil), "Shards:[map[", "HashKeyRange")
	ask("DescribeLimits", object{}, "OpenShardCount:")
	ask("AddTagsToStream", u(object{"Tags": map[string]string{"a": "b"}}))
	ask("ListTagsForStream", u(nil), "Tags:[map[Key:a Value:b]]", "HasMoreTags:false")
	ask("RemoveTagsFromStream", u(object{"TagKeys": []string{"a"}}))
	ask("TagResource", object{"ResourceARN": arn, "Tags": map[string]string{"c": "d"}})
	ask("UntagResource", object{"ResourceARN": arn, "TagKeys": []string{"c"}})
	ask("ListTagsForResource", object{"ResourceARN": arn}, "Tags:[]")
	ask("IncreaseStreamRetentionPeriod", u(object{"RetentionPeriodHours": 48}))
	ask("DecreaseStreamRetentionPeriod", u(object{"RetentionPeriodHours": 24}))
	ask("EnableEnhancedMonitoring", u(object{"ShardLevelMetrics": []string{"IncomingBytes"}}),
		"DesiredShardLevelMetrics:[IncomingBytes]")
	ask("DisableEnhancedMonitoring", u(object{"ShardLevelMetrics": []string{"ALL"}}), "DesiredShardLevelMetrics:[]")
	ask("StartStreamEncryption", u(object{"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"}))
	ask("StopStreamEncryption", u(object{"EncryptionType": "KMS", "KeyId": "alias/aws/kinesis"}))
	ask("PutResourcePolicy", object{"ResourceARN": arn, "Policy": `{"Version":"2012-10-17","Statement":[]}`})
	ask("GetResourcePolicy", object{"ResourceARN": arn}, "2012-10-17")
	ask("DeleteResourcePolicy", object{"ResourceARN": arn})
	ask("PutRecord", u(object{"PartitionKey": "k", "Data": []byte{0, 255}, "ExplicitHashKey": "0"}),
		"shardId-000000000000", "SequenceNumber:4")
	ask("PutRecords", u(object{"Records": []object{{"PartitionKey": "k", "Data": []byte{}, "ExplicitHashKey": "1"}}}),
		"FailedRecordCount:0", "shardId-000000000000")
	from := ask("GetShardIterator", u(object{"ShardId": "shardId-000000000000", "ShardIteratorType": "AT_TIMESTAMP",
		"Timestamp": cbor.Tag{Number: 1, Content: 1700000000000}}), "ShardIterator:")
	got := ask("GetRecords", object{"ShardIterator": after(from, "ShardIterator")}, "Data:[0 255]", "Data:[]",
		"PartitionKey:k", "NextShardIterator:", "ApproximateArrivalTimestamp:")
	if strings.Contains(got, "ChildShards") {
		t.Errorf("children before the end: %s", got)
	}
	consumer := ask("RegisterStreamConsumer", object{"StreamARN": arn, "ConsumerName": "c"}, "ConsumerARN:"+arn+
		"/consumer/c:")
	consumer = after(consumer, "ConsumerARN")
	ask("DescribeStreamConsumer", object{"ConsumerARN": consumer}, "ConsumerStatus:ACTIVE")
	ask("ListStreamConsumers", object{"StreamARN": arn}, "Consumers:[map[")
	// Its stream has no end here: the first message is enough.
	body, _ := cbor.Marshal(object{"ConsumerARN": consumer, "ShardId": "shardId-000000000000",
		"StartingPosition": object{"Type": "TRIM_HORIZON"}})
	resp, err := w.srv.Client().Do(w.request("SubscribeToShard", cborType, body))
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != eventsType {
		t.Errorf("SubscribeToShard: %v %v", resp, err)
	}
	frames := make([]byte, 400)
	n := 0
	for asked["SubscribeToShard"] = true; n < len(frames) && !strings.Contains(string(frames[:n]), `"Data":"AP8="`); {
		m, err := resp.Body.Read(frames[n:])
		if n += m; err != nil {
			t.Errorf("SubscribeToShard: %v after %q", err, frames[:n])
			break
		}
	}
	resp.Body.Close()
	ask("DeregisterStreamConsumer", object{"ConsumerARN": consumer})
	ask("SplitShard", u(object{"ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "1000"}))
	end := ask("GetRecords", object{"ShardIterator": after(got, "NextShardIterator")}, "ChildShards:[map[",
		"ParentShards:[shardId-000000000000]", "Records:[]", "MillisBehindLatest:0")
	if strings.Contains(end, "NextShardIterator") {
		t.Errorf("more after the end: %s", end)
	}
	ask("MergeShards", u(object{"ShardToMerge": "shardId-000000000002",
		"AdjacentShardToMerge": "shardId-000000000003"}))
	ask("UpdateShardCount", u(object{"TargetShardCount": 3, "ScalingType": "UNIFORM_SCALING"}), "TargetShardCount:3")
	ask("UpdateStreamMode", object{"StreamARN": arn, "StreamModeDetails": object{"StreamMode": "ON_DEMAND"}})
	ask("DeleteStream", u(nil))
	for _, op := range Service(nil).Operations {
		if !asked[op.Name] {
			t.Errorf("%s was not asked", op.Name)
		}
	}
}

// The table has every operation of the API, by its name.
func TestTableIsComplete(t *testing.T) {
	api := reflect.TypeFor[kinesis.API]()
	table := map[string]bool{}
	for _, op := range Service(nil).Operations {
		table[op.Name] = true
	}
	for m := range api.Methods() {
		if !table[m.Name] && m.Type.NumIn() == 3 {
			t.Errorf("%s is not served", m.Name)
		}
	}
	if len(table) < 35 {
		t.Errorf("%v", slices.Sorted(maps.Keys(table)))
	}
}

// JSON and CBOR say the same: a record goes in by the one and out by the other.
func TestBothWays(t *testing.T) {
	w := newServed(t, nil)
	w.ask("PutRecords", `{"StreamName":"s","Records":[{"Data":"AP8=","PartitionKey":"ä\ud83d\ude00","ExplicitHashKey":"0"}]}`,
		nil)
	var from struct{ ShardIterator string }
	w.ask("GetShardIterator", strings.Replace(latest, "LATEST", "TRIM_HORIZON", 1), &from)
	_, text := w.inCBOR("GetRecords", object{"ShardIterator": from.ShardIterator})
	if !strings.Contains(text, "Data:[0 255]") || !strings.Contains(text, "PartitionKey:ä😀") {
		t.Error(text)
	}
	var got struct {
		Records []struct {
			Data                        []byte
			ApproximateArrivalTimestamp json.Number
		}
	}
	ask, _ := json.Marshal(from)
	if w.ask("GetRecords", string(ask), &got); len(got.Records) != 1 || string(got.Records[0].Data) != "\x00\xff" ||
		len(got.Records[0].ApproximateArrivalTimestamp) > 14 {
		t.Errorf("%+v", got)
	}
}

// denying refuses all, and remembers what for.
type denying struct{ last wire.Question }

func (d *denying) Admit(wire.Question) (bool, error) { return false, nil }

func (d *denying) Authorize(q wire.Question) error {
	d.last = q
	return wire.ErrDenied
}

// Policies are asked about the stream that a request names.
func TestResources(t *testing.T) {
	d := &denying{}
	w := newServed(t, func(o *wire.Options) { o.Authorizer = d })
	for op, body := range map[string]string{
		"PutRecord":    `{"StreamName":"s","PartitionKey":"k","Data":""}`,
		"CreateStream": `{"StreamName":"s"}`,
		"SubscribeToShard": `{"ConsumerARN":"arn:aws:kinesis:x:` + account +
			`:stream/s/consumer/c:1","ShardId":"a","StartingPosition":{"Type":"LATEST"}}`,
	} {
		resp, text := w.do(w.request(op, jsonType, []byte(body)))
		if resp.StatusCode != 400 || !strings.Contains(text, `"AccessDeniedException"`) {
			t.Errorf("%s: %s %s", op, resp.Status, text)
		}
		if d.last.Action != "kinesis:"+op ||
			!strings.HasPrefix(d.last.Resource, "arn:aws:kinesis:eu-test-7:"+account+":stream/s") {
			t.Errorf("%s: %+v", op, d.last)
		}
	}
}
