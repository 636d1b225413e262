package action

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

func TestDelivery(t *testing.T) {
	d := &Delivery{Kind: "s3", Rule: "r", Bucket: "b", Name: "k/ü", QoS: 1, Hops: 3, Data: []byte("doc"),
		Topic: "dt/x", ClientID: "c", TraceID: "t", Time: 1700000000000, Payload: []byte{0, 1},
		Properties: packet.AppendUser(nil, "k", "v"), Expiry: 60, ID: "id",
		Parameters: []Parameter{{"b", "1"}, {"a", ""}}}
	got, err := ParseDelivery(d.append(nil))
	if err != nil || !reflect.DeepEqual(got, d) {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range len(d.append(nil)) - len(d.Data) {
		if _, err := ParseDelivery(d.append(nil)[:n]); err == nil {
			t.Errorf("the first %d bytes are taken for a delivery", n)
		}
	}
}

// A delivery that an earlier release left behind is done.
func TestDeliveryOfEarlierVersions(t *testing.T) {
	old := append([]byte{1, 1, 3, 2}, "s3\x01r\x01b\x01k\x01t\x01c\x02id\x03pay{}"...)
	want := &Delivery{Kind: "s3", Rule: "r", Bucket: "b", Name: "k", QoS: 1, Hops: 3, Data: []byte("{}"),
		Topic: "t", ClientID: "c", TraceID: "id", Payload: []byte("pay")}
	if got, err := ParseDelivery(old); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	old = append([]byte{2, 1, 3, 2}, "s3\x01r\x01b\x01k\x01t\x01c\x02id\x04\x03pay{}"...)
	want.Time = 2
	if got, err := ParseDelivery(old); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	old = append([]byte{3, 1, 3, 2}, "s3\x01r\x01b\x01k\x01t\x01c\x02id\x04\x03pay\x05\x02\x01\x01{}"...)
	want.Expiry, want.Properties = 5, []byte{1, 1}
	if got, err := ParseDelivery(old); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A delivery has one id however often its message is met; another slot of the
// rule has another, and an error action one for each document.
func TestDeliveryID(t *testing.T) {
	in := &Input{Input: &iotsql.Input{Message: message.Message{Trace: message.NewTrace()}}, Doc: []byte("{}")}
	again := &Input{Input: in.Input, Doc: []byte(`{"u":"other"}`)}
	id := func(slot string, in *Input) string { return outbox{stream: OutboxStream("r", slot)}.id(in) }
	if a, b := id("0", in), id("0", again); a != b || uuid.Validate(a) != nil {
		t.Errorf("%s, then %s", a, b)
	}
	if id("0", in) == id("1", in) {
		t.Error("two slots have one id")
	}
	if a, b := id(ErrorSlot, in), id(ErrorSlot, again); a == b || a != id(ErrorSlot, in) {
		t.Errorf("error action: %s and %s", a, b)
	}
	in = &Input{Input: &iotsql.Input{}}
	if a, b := id("0", in), id("0", in); a == b {
		t.Error("messages without a trace share an id")
	}
}

// Whatever ParseDelivery accepts, append writes back to the same meaning.
func FuzzDelivery(f *testing.F) {
	f.Add((&Delivery{Kind: "republish", Name: "a/b", Data: []byte("x")}).append(nil))
	f.Add((&Delivery{Kind: "republish", Name: "a/b", Properties: packet.AppendUser(nil, "k", "v"),
		Expiry: 1}).append(nil))
	f.Add((&Delivery{Kind: "sqs", ID: "x", Parameters: []Parameter{{"queueUrl", "q"}}}).append(nil))
	f.Add([]byte{1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := ParseDelivery(in)
		if err != nil {
			return
		}
		again, err := ParseDelivery(d.append(nil))
		if err != nil || !bytes.Equal(again.append(nil), d.append(nil)) {
			t.Fatalf("%x -> %+v -> %+v, %v", in, d, again, err)
		}
	})
}
