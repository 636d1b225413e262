package action

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

func TestDelivery(t *testing.T) {
	d := &Delivery{Kind: "s3", Rule: "r", Bucket: "b", Name: "k/ü", QoS: 1, Hops: 3, Data: []byte("doc"),
		Topic: "dt/x", ClientID: "c", TraceID: "t", Time: 1700000000000, Payload: []byte{0, 1},
		Properties: packet.AppendUser(nil, "k", "v"), Expiry: 60}
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
}

// Whatever ParseDelivery accepts, append writes back to the same meaning.
func FuzzDelivery(f *testing.F) {
	f.Add((&Delivery{Kind: "republish", Name: "a/b", Data: []byte("x")}).append(nil))
	f.Add((&Delivery{Kind: "republish", Name: "a/b", Properties: packet.AppendUser(nil, "k", "v"),
		Expiry: 1}).append(nil))
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
