package emit

import (
	"context"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/kinesis"
)

// A streamEmitter puts items into a stream of Kinesis, or of a bridge
// elsewhere, under their partition keys.
type streamEmitter struct {
	open
	client *kinesis.Client
	stream string // name or ARN
}

func newStream(p *parse) connector.Emitter {
	var doc struct{ connector.StreamPlace }
	p.into(&doc)
	n := len(p.errs)
	doc.Check("Stream", p.bad)
	if at, stream, _ := doc.At(); len(p.errs) == n {
		return &streamEmitter{client: kinesis.New(p.aws(at)), stream: stream}
	}
	return nil
}

// Emit implements connector.Emitter.
func (e *streamEmitter) Emit(ctx context.Context, b *connector.Batch) ([]connector.Failure, error) {
	w := sink.Writer{
		Most: kinesis.MaxRecords, Bytes: kinesis.MaxBytes,
		Size:    func(i int) int { return len(b.Items[i].Key) + len(b.Items[i].Data) },
		Put:     func(ctx context.Context, idx []int) ([]connector.Failure, error) { return e.put(ctx, b.Items, idx) },
		Refused: kinesis.Refused,
	}
	return w.Write(ctx, sink.Indexes(len(b.Items)))
}

func (e *streamEmitter) put(ctx context.Context, items []connector.Item, idx []int) ([]connector.Failure, error) {
	records := make([]kinesis.Record, len(idx))
	for n, i := range idx {
		records[n] = kinesis.Record{Key: items[i].Key, Data: items[i].Data}
	}
	refused, err := e.client.PutRecords(ctx, e.stream, records)
	var failed []connector.Failure
	for n, err := range refused {
		if err != nil {
			failed = append(failed, connector.Failure{Index: idx[n], Err: err})
		}
	}
	return failed, err
}

// one puts one record.
func (e *streamEmitter) one(ctx context.Context, key string, data []byte) error {
	failed, err := e.put(ctx, []connector.Item{{Key: key, Data: data}}, []int{0})
	if err == nil && len(failed) > 0 {
		err = failed[0].Err
	}
	return err
}
