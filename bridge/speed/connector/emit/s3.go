package emit

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/sink/s3"
)

// s3JSON are the members of S3.
type s3JSON struct {
	Bucket      string
	Prefix      string
	Suffix      *string
	Delimiter   string
	Compression string
	Region      string
	EndpointURL string
}

// An s3Emitter writes each batch into one object. Its name and content are the
// same at every attempt, so that the last replaces the others.
type s3Emitter struct {
	open
	objects   sink.Objects
	bucket    string
	prefix    name
	suffix    string
	delimiter string
	gzip      bool
}

func newS3(p *parse) connector.Emitter {
	var doc s3JSON
	p.into(&doc)
	return p.s3(&doc)
}

func (p *parse) s3(doc *s3JSON) *s3Emitter {
	e := &s3Emitter{bucket: doc.Bucket, delimiter: doc.Delimiter, gzip: doc.Compression == "GZIP"}
	p.want("Bucket", doc.Bucket, sink.CheckBucket)
	e.prefix = p.name("Prefix", doc.Prefix)
	if e.gzip {
		e.suffix = ".gz"
	} else if c := doc.Compression; c != "" && c != "UNCOMPRESSED" {
		p.bad("Compression: %q, want GZIP or UNCOMPRESSED", c)
	}
	if doc.Suffix != nil {
		e.suffix = *doc.Suffix
	}
	e.objects = p.objects(awsapi.Place{Region: doc.Region, EndpointURL: doc.EndpointURL})
	return e
}

// objects is the bridge's own store, or S3 where a place is given or there is
// no bridge.
func (p *parse) objects(at awsapi.Place) sink.Objects {
	if at == (awsapi.Place{}) && p.env.Objects != nil {
		return p.env.Objects
	}
	return s3.New(p.aws(at))
}

func (e *s3Emitter) key(b *connector.Batch) string {
	return e.prefix.at(b, b.Items[0].Time) + b.First + "-" + b.Last + e.suffix
}

// Emit implements connector.Emitter.
func (e *s3Emitter) Emit(ctx context.Context, b *connector.Batch) ([]connector.Failure, error) {
	return nil, e.objects.Put(ctx, e.bucket, e.key(b), func(to io.Writer) error { return e.content(to, b.Items) })
}

func (e *s3Emitter) content(to io.Writer, items []connector.Item) error {
	var z *gzip.Writer
	if e.gzip {
		z = gzip.NewWriter(to)
		to = z
	}
	w := bufio.NewWriter(to)
	for i := range items {
		_, err := w.Write(items[i].Data)
		if err == nil {
			_, err = w.WriteString(e.delimiter)
		}
		if err != nil {
			return err
		}
	}
	err := w.Flush()
	if err == nil && z != nil {
		err = z.Close()
	}
	return err
}

// A manifestEmitter writes an object and then its key into a stream.
type manifestEmitter struct {
	*s3Emitter
	manifest func(ctx context.Context, key string) error
}

func newS3Manifest(p *parse) connector.Emitter {
	var doc struct {
		s3JSON
		Manifest connector.StreamPlace
	}
	p.into(&doc)
	e := &manifestEmitter{s3Emitter: p.s3(&doc.s3JSON)}
	doc.Manifest.Check("Manifest", p.bad)
	at, stream, local := doc.Manifest.At()
	// All keys go into one shard, as the connector library has it.
	key := streamName(stream)
	if local && p.env.Append != nil {
		e.manifest = func(ctx context.Context, object string) error {
			return p.env.Append(ctx, stream, key, []byte(object))
		}
		return e
	}
	s := &streamEmitter{client: kinesis.New(p.aws(at)), stream: stream}
	e.manifest = func(ctx context.Context, object string) error { return s.one(ctx, key, []byte(object)) }
	return e
}

// Emit implements connector.Emitter. When it is tried again the key is put
// once more: who reads the manifest passes over what it has seen.
func (e *manifestEmitter) Emit(ctx context.Context, b *connector.Batch) ([]connector.Failure, error) {
	if _, err := e.s3Emitter.Emit(ctx, b); err != nil {
		return nil, err
	}
	if err := e.manifest(ctx, e.key(b)); err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	return nil, nil
}
