package action

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// maxKey is how many characters a partition key has, and maxPut how many bytes a
// record that every stream of Kinesis takes (PutRecord; 10 MiB is for those that
// are set to it).
const (
	maxKey = 256
	maxPut = 1 << 20
)

// toKinesis is the kinesis action to a stream elsewhere.
var toKinesis = sentKind{
	name: "kinesis",
	members: []member{
		{name: "streamName", required: true},
		{name: "partitionKey", standard: "${newuuid()}"},
	},
	resource: "streamName",
	judge: func(d *Delivery) error {
		return errors.Join(d.judge("streamName", isStream), d.judge("partitionKey", checkKey))
	},
	stage: func(d *Delivery) error {
		if len(d.Data) > maxPut {
			return fmt.Errorf("record of %d bytes, want at most %d", len(d.Data), maxPut)
		}
		return nil
	},
}

// isStream judges a stream's name (CreateStream).
var isStream = matches(regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`), "1 to 128 of a-z A-Z 0-9 _ . -")

func checkKey(key string) error {
	if n := utf8.RuneCountInString(key); n == 0 || n > maxKey {
		return fmt.Errorf("partition key of %d characters, want 1 to %d", n, maxKey)
	}
	return nil
}

// toStream is the kinesis action to a stream of the bridge's own.
type toStream struct {
	streamName, key *iotsql.Template
	catalog         Catalog
	resource        string
	constant
}

func compileKinesis(p *parser) Target {
	if p.catalog != nil && p.catalog.Remote("kinesis") {
		return p.sent(&toKinesis)
	}
	t := &toStream{
		streamName: p.template("streamName", ""), key: p.template("partitionKey", "${newuuid()}"),
		catalog: p.catalog, resource: p.raw("streamName"),
	}
	if len(p.errs) == 0 {
		t.never = errors.Join(judged("streamName", t.streamName, isStream), judged("partitionKey", t.key, checkKey))
	}
	return t
}

func (t *toStream) Kind() string     { return "kinesis" }
func (t *toStream) Resource() string { return t.resource }
func (t *toStream) Outbox() string   { return "" }

// A put is what the kinesis action makes of one message.
type put struct {
	stream, key string
	hash        streams.Hash
	shard       int // as things are now
}

func (t *toStream) resolve(ctx context.Context, in *Input) (p put, err error) {
	if p.stream, err = t.streamName.Text(ctx, in.Input); err != nil {
		return p, err
	}
	if p.key, err = t.key.Text(ctx, in.Input); err != nil {
		return p, err
	}
	if err = checkKey(p.key); err != nil {
		return p, err
	}
	p.hash = streams.HashOf(p.key)
	var ok bool
	if p.shard, ok = t.catalog.Shard(p.stream, p.hash); !ok {
		return p, fmt.Errorf("stream %s does not exist", p.stream)
	}
	if len(in.Doc) > streams.MaxData { // it would fail the whole commit, for ever
		return p, fmt.Errorf("record of %d bytes, want at most %d", len(in.Doc), streams.MaxData)
	}
	return p, nil
}

func (t *toStream) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	p, err := t.resolve(ctx, in)
	if err == nil {
		b.Put(p.stream, p.hash, streams.Record{Key: p.key, Data: in.Doc})
	}
	return onResource(p.stream, err)
}

func (t *toStream) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	p, err := t.resolve(ctx, in)
	all := []Parameter{{"streamName", p.stream}, {"partitionKey", p.key}}
	if err == nil {
		all = append(all, Parameter{"shard", strconv.Itoa(p.shard)})
	}
	return all, err
}
