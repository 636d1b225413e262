package control

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// maxBatch is how many bytes of records one PutRecordBatch may have: 4 MiB
// (Firehose quotas).
const maxBatch = 4 << 20

// PutRecord stores a record; it is synced when PutRecord returns.
func (s *Service) PutRecord(ctx context.Context, in *PutRecordInput) (*PutRecordOutput, error) {
	ids, encrypted, err := s.put(ctx, in.Name(), []Record{*in.Record})
	if err != nil {
		return nil, err
	}
	return &PutRecordOutput{&ids[0], &encrypted}, nil
}

// PutRecordBatch stores records in order, all or none, in one write that is synced
// when it returns.
func (s *Service) PutRecordBatch(ctx context.Context, in *PutRecordBatchInput) (*PutRecordBatchOutput, error) {
	size := 0
	for _, r := range in.Records {
		size += len(r.Data)
	}
	if size > maxBatch {
		return nil, errorf(InvalidArgument, "Records size exceeds 4 MB limit")
	}
	ids, encrypted, err := s.put(ctx, in.Name(), in.Records)
	if err != nil {
		return nil, err
	}
	out := &PutRecordBatchOutput{FailedPutCount: new(int32), Encrypted: &encrypted,
		RequestResponses: make([]PutResponse, len(ids))}
	for i := range ids {
		out.RequestResponses[i].RecordId = &ids[i]
	}
	return out, nil
}

// put stores records and returns their ids.
func (s *Service) put(ctx context.Context, name string, records []Record) (ids []string, encrypted bool, err error) {
	f, err := s.find(name)
	if err == nil && f.status != active {
		err = errorf(ResourceNotFound, "Firehose %s under account %s not found.", name, s.opts.Account)
	}
	if err != nil {
		return nil, false, err
	}
	if !f.config.Source.Direct() {
		return nil, false, errorf(InvalidSource,
			"This operation is not permitted on KinesisStreamAsSource delivery stream type.")
	}
	stream := firehose.StreamName(name)
	info, err := s.log.Describe(stream)
	if err == nil && s.opts.MaxBacklog > 0 {
		var size streams.Size
		if size, err = s.log.Size(stream); err == nil && size.Bytes > s.opts.MaxBacklog {
			s.throttle(name, len(records))
			return nil, false, errorf(Unavailable, "Slow down: too much waits for delivery.")
		}
	}
	if err == nil {
		b := s.log.NewBatch()
		for _, r := range records {
			b.Append(stream, 0, streams.Record{Data: r.Data})
		}
		if err = s.log.Commit(ctx, b); err == nil {
			ids = make([]string, len(records))
			for i := range ids {
				// The stream's incarnation, when it came, and its place: once each.
				ids[i] = fmt.Sprintf("%08x%012x%016x", info.ID, b.Time(), b.Offset(i))
			}
			return ids, f.state != nil && f.state.Encryption == "ENABLED", nil
		}
	}
	if gone(err) {
		err = errorf(ResourceNotFound, "Firehose %s under account %s not found.", name, s.opts.Account)
	}
	return nil, false, err
}
