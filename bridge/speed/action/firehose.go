package action

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// toFirehose is the firehose action.
type toFirehose struct {
	name      *iotsql.Template
	separator string
	catalog   Catalog
	resource  string
}

func compileFirehose(p *parser) Target {
	return &toFirehose{
		name: p.template("deliveryStreamName", ""), separator: p.oneOf("separator", "", "\n", "\t", "\r\n", ","),
		catalog: p.catalog, resource: p.raw("deliveryStreamName"),
	}
}

func (t *toFirehose) Kind() string     { return "firehose" }
func (t *toFirehose) Resource() string { return t.resource }
func (t *toFirehose) Outbox() string   { return "" }

func (t *toFirehose) resolve(ctx context.Context, in *Input) (name string, data []byte, err error) {
	if name, err = t.name.Text(ctx, in.Input); err != nil {
		return "", nil, err
	}
	if !t.catalog.HasDeliveryStream(name) {
		return name, nil, fmt.Errorf("delivery stream %s does not exist, or has a data stream as its source", name)
	}
	if err := t.catalog.Room(firehose.StreamName(name)); err != nil {
		return name, nil, err
	}
	data = in.Doc
	if t.separator != "" {
		data = append(slices.Clip(data), t.separator...)
	}
	if len(data) > firehose.MaxRecord {
		return name, nil, fmt.Errorf("record of %d bytes, want at most %d", len(data), firehose.MaxRecord)
	}
	return name, data, nil
}

func (t *toFirehose) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	name, data, err := t.resolve(ctx, in)
	if err == nil {
		b.Append(firehose.StreamName(name), 0, streams.Record{Data: data})
	}
	return err
}

func (t *toFirehose) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	name, _, err := t.resolve(ctx, in)
	return []Parameter{{"deliveryStreamName", name}}, err
}
