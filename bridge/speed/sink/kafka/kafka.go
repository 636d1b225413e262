// Package kafka writes records to brokers that speak Kafka's protocol, by franz-go,
// which is pure Go and kept up with the protocol.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// timeout is how long a record may take from Produce to its acknowledgement; then
// it is its caller's again.
const timeout = 15 * time.Second

// MaxRecord is how many bytes a record has at most with its key and headers: as
// many as a broker takes in one batch if nobody says (Kafka's message.max.bytes,
// less what a batch has besides).
const MaxRecord = 1_000_000

// errProperty says that a client property cannot be served.
var errProperty = errors.New("kafka: client property")

// Dial connects to a broker; an egress.List's refuses what is not to be reached.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// A Properties is how a producer is set up, by the names of Kafka's own clients.
type Properties map[string]string

// settings are the properties that are served, each with what it adds to a setup.
var settings = map[string]func(s *setup, value string) error{
	"bootstrap.servers":   (*setup).servers,
	"acks":                (*setup).acks,
	"compression.type":    (*setup).compression,
	"security.protocol":   (*setup).security,
	"sasl.mechanism":      func(s *setup, v string) error { s.mechanism = v; return nil },
	"sasl.plain.username": func(s *setup, v string) error { s.user = v; return nil },
	"sasl.plain.password": func(s *setup, v string) error { s.password = v; return nil },
	"sasl.scram.username": func(s *setup, v string) error { s.user = v; return nil },
	"sasl.scram.password": func(s *setup, v string) error { s.password = v; return nil },
	"client.id":           func(s *setup, v string) error { s.opts = append(s.opts, kgo.ClientID(v)); return nil },
}

// A setup is a producer's, as far as it was read.
type setup struct {
	opts                      []kgo.Opt
	seeds                     bool
	encrypted, signs          bool // security.protocol
	mechanism, user, password string
}

func (s *setup) servers(value string) error {
	var seeds []string
	for _, text := range strings.Split(value, ",") {
		text = strings.TrimSpace(text)
		if _, _, err := net.SplitHostPort(text); err != nil {
			return fmt.Errorf("%q, want HOST:PORT, more of them with commas between", text)
		}
		seeds = append(seeds, text)
	}
	s.seeds = true
	s.opts = append(s.opts, kgo.SeedBrokers(seeds...))
	return nil
}

func (s *setup) acks(value string) error {
	switch value {
	case "all", "-1":
		return nil // as it is if nobody says, and then it is idempotent
	case "1":
		s.opts = append(s.opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		s.opts = append(s.opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return fmt.Errorf("%q, want all, 1 or 0", value)
	}
	return nil
}

func (s *setup) compression(value string) error {
	codec, ok := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}[value]
	if !ok {
		return fmt.Errorf("%q, want none, gzip, snappy, lz4 or zstd", value)
	}
	s.opts = append(s.opts, kgo.ProducerBatchCompression(codec))
	return nil
}

func (s *setup) security(value string) error {
	protocol, signs := strings.CutPrefix(value, "SASL_")
	if protocol != "SSL" && protocol != "PLAINTEXT" {
		return fmt.Errorf("%q, want SSL, SASL_SSL, PLAINTEXT or SASL_PLAINTEXT", value)
	}
	s.encrypted, s.signs = protocol == "SSL", signs
	return nil
}

// sign returns how the producer proves who it is; nil: it does not.
func (s *setup) sign() (sasl.Mechanism, error) {
	if !s.signs {
		return nil, nil
	}
	switch s.mechanism {
	case "PLAIN":
		return plain.Auth{User: s.user, Pass: s.password}.AsMechanism(), nil
	case "SCRAM-SHA-512":
		return scram.Auth{User: s.user, Pass: s.password}.AsSha512Mechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: s.user, Pass: s.password}.AsSha256Mechanism(), nil
	}
	return nil, fmt.Errorf("%w sasl.mechanism: %q, want PLAIN, SCRAM-SHA-512 or SCRAM-SHA-256", errProperty,
		s.mechanism)
}

// read returns the options of a producer with these properties.
func read(p Properties) (*setup, error) {
	s := &setup{encrypted: true} // as AWS's: SSL if nobody says
	for name, value := range p {
		set, ok := settings[name]
		if !ok {
			return nil, fmt.Errorf("%w %q is not served", errProperty, name)
		}
		if err := set(s, value); err != nil {
			return nil, fmt.Errorf("%w %s: %w", errProperty, name, err)
		}
	}
	if !s.seeds {
		return nil, fmt.Errorf("%w bootstrap.servers: missing", errProperty)
	}
	_, err := s.sign()
	return s, err
}

// Check says whether a producer can be made with these properties.
func Check(p Properties) error {
	_, err := read(p)
	return err
}

// A Producer writes to the brokers of one cluster. Several goroutines may use it.
type Producer struct{ client *kgo.Client }

// Open returns a producer. Connections are made when there is something to write.
// roots is whom TLS trusts and what certificate the client shows; nil is the
// system's, and none.
func Open(p Properties, dial Dial, roots *tls.Config) (*Producer, error) {
	s, err := read(p)
	if err != nil {
		return nil, err
	}
	mechanism, err := s.sign()
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		s.opts = append(s.opts, kgo.SASL(mechanism))
	}
	if s.encrypted {
		dial = overTLS(dial, roots)
	}
	c, err := kgo.NewClient(append(s.opts, kgo.Dialer(dial),
		kgo.RecordPartitioner(placed{kgo.StickyKeyPartitioner(nil)}),
		kgo.RecordDeliveryTimeout(timeout), kgo.ProduceRequestTimeout(10*time.Second), kgo.RetryTimeout(timeout),
		kgo.UnknownTopicRetries(1), kgo.ConnIdleTimeout(time.Minute))...)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProperty, err)
	}
	return &Producer{c}, nil
}

// overTLS returns a dial that makes a TLS connection of what dial gives.
func overTLS(dial Dial, roots *tls.Config) Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
		if roots != nil {
			conf = roots.Clone()
			conf.ServerName = host
		}
		over := tls.Client(c, conf)
		if err := over.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return over, nil
	}
}

// Close ends the producer's connections. Who still produces is told.
func (p *Producer) Close() { p.client.Close() }

// A Record is one to write.
type Record struct {
	Topic     string
	Key       []byte // nil: none
	Value     []byte
	Partition int32 // -1: the one of its key, or any
	Headers   []Header
}

// A Header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Produce writes records, in their order for each partition, and returns one error
// for each: nil, the brokers have it. It blocks for Timeout, or until ctx ends.
func (p *Producer) Produce(ctx context.Context, records []Record) []error {
	all := make([]*kgo.Record, len(records))
	at := make(map[*kgo.Record]int, len(records))
	for i := range records {
		r := &records[i]
		all[i] = &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Partition: r.Partition}
		for _, h := range r.Headers {
			all[i].Headers = append(all[i].Headers, kgo.RecordHeader(h))
		}
		at[all[i]] = i
	}
	errs := make([]error, len(records))
	for _, r := range p.client.ProduceSync(ctx, all...) {
		errs[at[r.Record]] = r.Err
		// franz-go has no name for this error.
		if r.Err != nil && strings.HasPrefix(r.Err.Error(), "invalid record partitioning choice") {
			errs[at[r.Record]] = fmt.Errorf("%w: %d", errPlace, records[at[r.Record]].Partition)
		}
	}
	return errs
}

// Permanent says whether an error of Produce comes again with the same record: it
// is too large, its topic may not be, or who asks has no right to it.
func Permanent(err error) bool {
	for _, e := range []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidTopicException,
		kerr.InvalidRecord, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.InvalidTimestamp,
		errPlace, errProperty} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

var errPlace = errors.New("the topic has no such partition")

// placed puts records where they say, and others by their key as Kafka's own
// clients do (murmur2), or anywhere.
type placed struct{ keyed kgo.Partitioner }

// ForTopic implements kgo.Partitioner.
func (p placed) ForTopic(topic string) kgo.TopicPartitioner {
	return placedTopic{p.keyed.ForTopic(topic)}
}

type placedTopic struct{ kgo.TopicPartitioner }

// RequiresConsistency implements kgo.TopicPartitioner.
func (p placedTopic) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition >= 0 || p.TopicPartitioner.RequiresConsistency(r)
}

// Partition implements kgo.TopicPartitioner.
func (p placedTopic) Partition(r *kgo.Record, n int) int {
	if r.Partition >= 0 {
		return int(r.Partition) // franz-go fails the record where there are not so many
	}
	return p.TopicPartitioner.Partition(r, n)
}

// OnNewBatch implements kgo.TopicPartitionerOnNewBatch.
func (p placedTopic) OnNewBatch() {
	if b, ok := p.TopicPartitioner.(kgo.TopicPartitionerOnNewBatch); ok {
		b.OnNewBatch()
	}
}
