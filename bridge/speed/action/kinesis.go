package action

import (
	"context"
	"fmt"
	"strconv"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// toStream is the kinesis action.
type toStream struct {
	streamName, key *iotsql.Template
	catalog         Catalog
	resource        string
}

func compileKinesis(p *parser) Target {
	return &toStream{
		streamName: p.template("streamName", ""), key: p.template("partitionKey", "${newuuid()}"),
		catalog: p.catalog, resource: p.raw("streamName"),
	}
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
	if len(p.key) == 0 || len(p.key) > 256 { // PutRecord: 1 to 256 characters
		return p, fmt.Errorf("partition key of %d bytes, want 1 to 256", len(p.key))
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
	return err
}

func (t *toStream) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	p, err := t.resolve(ctx, in)
	all := []Parameter{{"streamName", p.stream}, {"partitionKey", p.key}}
	if err == nil {
		all = append(all, Parameter{"shard", strconv.Itoa(p.shard)})
	}
	return all, err
}
