package kafka

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestProperties(t *testing.T) {
	good := Properties{"bootstrap.servers": "a:9092, b:9092"}
	with := func(pairs ...string) Properties {
		p := Properties{"bootstrap.servers": "a:9092"}
		for i := 0; i < len(pairs); i += 2 {
			p[pairs[i]] = pairs[i+1]
		}
		return p
	}
	for _, c := range []struct {
		p    Properties
		want string
	}{
		{good, ""},
		{Properties{}, "bootstrap.servers: missing"},
		{Properties{"bootstrap.servers": "host"}, "HOST:PORT"},
		{with("acks", "all"), ""},
		{with("acks", "0"), ""},
		{with("acks", "2"), "want all, 1 or 0"},
		{with("compression.type", "zstd"), ""},
		{with("compression.type", "rar"), "want none"},
		{with("security.protocol", "SASL_SSL", "sasl.mechanism", "PLAIN", "sasl.plain.username", "u"), ""},
		{with("security.protocol", "SASL_SSL", "sasl.mechanism", "SCRAM-SHA-512"), ""},
		{with("security.protocol", "SASL_SSL"), "sasl.mechanism"},
		{with("security.protocol", "SASL_SSL", "sasl.mechanism", "GSSAPI"), "want PLAIN"},
		{with("security.protocol", "TLS"), "want SSL"},
		{with("linger.ms", "5"), `"linger.ms" is not served`},
	} {
		err := Check(c.p)
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, errProperty) ||
			!strings.Contains(err.Error(), c.want)) {
			t.Errorf("%v: %v, want word of %q", c.p, err, c.want)
		}
		if _, err := Open(c.p, nil, nil); (err == nil) != (c.want == "") {
			t.Errorf("%v: opened: %v", c.p, err)
		}
	}
}

func direct(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

func TestProduce(t *testing.T) {
	brokers, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(3, "readings"))
	if err != nil {
		t.Fatal(err)
	}
	defer brokers.Close()
	seeds := strings.Join(brokers.ListenAddrs(), ",")
	p, err := Open(Properties{"bootstrap.servers": seeds, "security.protocol": "PLAINTEXT"}, direct, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()

	errs := p.Produce(t.Context(), []Record{
		{Topic: "readings", Value: []byte("a"), Partition: 2, Headers: []Header{{"id", []byte("1")}}},
		{Topic: "readings", Value: []byte("b"), Key: []byte("pi-1"), Partition: -1},
		{Topic: "readings", Value: []byte("c"), Key: []byte("pi-1"), Partition: -1},
		{Topic: "readings", Value: []byte("d"), Partition: 3},
		{Topic: "readings", Value: make([]byte, MaxRecord+100_000), Partition: -1},
	})
	for i, permanent := range []bool{false, false, false, true, true} {
		if (errs[i] != nil) != permanent || permanent && !Permanent(errs[i]) {
			t.Errorf("record %d: %v", i, errs[i])
		}
	}

	reader, err := kgo.NewClient(kgo.SeedBrokers(brokers.ListenAddrs()...), kgo.ConsumeTopics("readings"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	got, keyed := map[string]*kgo.Record{}, map[int32]bool{}
	for len(got) < 3 {
		f := reader.PollFetches(t.Context())
		if err := f.Err(); err != nil {
			t.Fatal(err)
		}
		f.EachRecord(func(r *kgo.Record) {
			got[string(r.Value)] = r
			if string(r.Key) == "pi-1" {
				keyed[r.Partition] = true
			}
		})
	}
	if r := got["a"]; r == nil || r.Partition != 2 || len(r.Headers) != 1 || r.Headers[0].Key != "id" {
		t.Errorf("%+v", got["a"])
	}
	if got["b"] == nil || got["c"] == nil || len(keyed) != 1 {
		t.Errorf("one key in partitions %v of %v", keyed, got)
	}

	// A refusal by the brokers.
	brokers.ControlKey(int16(kmsg.Produce), func(q kmsg.Request) (kmsg.Response, error, bool) {
		brokers.KeepControl()
		r := q.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range q.(*kmsg.ProduceRequest).Topics {
			at := kmsg.NewProduceResponseTopic()
			at.Topic, at.TopicID = topic.Topic, topic.TopicID
			for _, part := range topic.Partitions {
				one := kmsg.NewProduceResponseTopicPartition()
				one.Partition, one.ErrorCode = part.Partition, kerr.TopicAuthorizationFailed.Code
				at.Partitions = append(at.Partitions, one)
			}
			r.Topics = append(r.Topics, at)
		}
		return r, nil, true
	})
	if err := p.Produce(t.Context(), []Record{{Topic: "readings", Partition: -1}})[0]; !Permanent(err) {
		t.Errorf("without a right: %v", err)
	}
}

// Brokers that are away fail each record, and a later one is taken again.
func TestAway(t *testing.T) {
	p, err := Open(Properties{"bootstrap.servers": "127.0.0.1:1", "security.protocol": "PLAINTEXT"},
		func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("away") }, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), timeout/100)
	defer cancel()
	if err := p.Produce(ctx, []Record{{Topic: "readings", Partition: -1}})[0]; err == nil || Permanent(err) {
		t.Errorf("%v", err)
	}
}
