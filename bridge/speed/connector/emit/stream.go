package emit

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// Bounds of PutRecords (Kinesis API reference).
const (
	putRecords = 500
	putBytes   = 10 << 20
)

// A streamEmitter puts items into a stream of Kinesis, or of a bridge
// elsewhere, under their partition keys.
type streamEmitter struct {
	open
	api    *kinesis.Client
	stream string // name or ARN
}

func newStream(p *parse) connector.Emitter {
	var doc struct{ connector.StreamPlace }
	p.into(&doc)
	n := len(p.errs)
	doc.Check("Stream", p.bad)
	if at, stream, _ := doc.At(); len(p.errs) == n {
		return &streamEmitter{api: kinesis.NewFromConfig(p.aws(at)), stream: stream}
	}
	return nil
}

// Emit implements connector.Emitter.
func (e *streamEmitter) Emit(ctx context.Context, b *connector.Batch) ([]connector.Failure, error) {
	w := sink.Writer{
		Most: putRecords, Bytes: putBytes,
		Size:    func(i int) int { return len(b.Items[i].Key) + len(b.Items[i].Data) },
		Put:     func(ctx context.Context, idx []int) ([]connector.Failure, error) { return e.put(ctx, b.Items, idx) },
		Refused: refusedRecords,
	}
	return w.Write(ctx, sink.Indexes(len(b.Items)))
}

// refusedRecords tells whether a record of many may be at fault: it is too
// large for the stream, or all are for the service.
func refusedRecords(err error) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return ok && (e.ErrorCode() == "ValidationException" || e.ErrorCode() == "InvalidArgumentException" ||
		e.ErrorCode() == "RequestEntityTooLarge")
}

func (e *streamEmitter) put(ctx context.Context, items []connector.Item, idx []int) ([]connector.Failure, error) {
	entries := make([]types.PutRecordsRequestEntry, len(idx))
	for n, i := range idx {
		entries[n] = types.PutRecordsRequestEntry{PartitionKey: &items[i].Key, Data: items[i].Data}
	}
	refused, err := connector.PutRecords(ctx, e.api, e.stream, entries)
	for n := range refused {
		refused[n].Index = idx[refused[n].Index]
	}
	return refused, err
}

// one puts one record.
func (e *streamEmitter) one(ctx context.Context, key string, data []byte) error {
	failed, err := e.put(ctx, []connector.Item{{Key: key, Data: data}}, []int{0})
	if err == nil && len(failed) > 0 {
		err = failed[0].Err
	}
	return err
}
