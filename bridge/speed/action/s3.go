package action

import (
	"context"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// toObject is the s3 action.
type toObject struct {
	outbox
	bucket   string
	key      *iotsql.Template
	resource string
}

func compileS3(p *parser) Target {
	bucket := p.text("bucketName")
	if err := sink.CheckBucket(bucket); bucket != "" && err != nil {
		p.bad("bucketName: %w", err)
	}
	return &toObject{outbox: p.outbox, bucket: bucket, key: p.template("key", ""), resource: bucket}
}

func (t *toObject) Kind() string     { return "s3" }
func (t *toObject) Resource() string { return t.resource }

func (t *toObject) resolve(ctx context.Context, in *Input) (*Delivery, error) {
	key, err := t.key.Text(ctx, in.Input)
	d := t.fill(in, &Delivery{Kind: "s3", Bucket: t.bucket, Name: key})
	if err == nil {
		err = sink.CheckKey(d.Name)
	}
	return d, err
}

func (t *toObject) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	d, err := t.resolve(ctx, in)
	return t.stage(b, d, err)
}

func (t *toObject) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	d, err := t.resolve(ctx, in)
	return t.describe(d, err, Parameter{"bucketName", d.Bucket}, Parameter{"key", d.Name})
}
