package connector

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A sourceLog has the shards that a source is of.
type sourceLog interface {
	streams.Router
	Bounds(stream string, shard int) (oldest, next uint64, err error)
	Wait(ctx context.Context, stream string, shard int, from uint64) error
}

// InProcess returns a stream of the log of this process as a source.
func InProcess(store sourceLog, api kinesis.API, stream string) Source {
	return &polling{&local{store, api, stream}, stream}
}

type local struct {
	store  sourceLog
	api    kinesis.API
	stream string
}

func (l *local) ref() kinesis.StreamRef { return kinesis.StreamRef{StreamName: &l.stream} }

// shards asks the log, which knows of new shards as soon as they are there.
func (l *local) shards(context.Context) ([]Shard, error) {
	lineage, err := streams.Shards(l.store, l.stream)
	if err != nil {
		return nil, localError(err)
	}
	all := make([]Shard, len(lineage))
	for i, s := range lineage {
		all[i] = Shard{ID: shardID(s.Index), Range: s.Range}
		for _, p := range s.Parents {
			all[i].Parents = append(all[i].Parents, shardID(p))
		}
	}
	return all, nil
}

func shardID(index int) string { return fmt.Sprintf("shardId-%012d", index) }

// iteratorOf says how an iterator for a position is asked for.
func iteratorOf(from Position) (kind string, sequence *string, at *time.Time) {
	switch {
	case from.isNumber():
		return "AT_SEQUENCE_NUMBER", &from.Sequence, nil
	case from.Sequence == AtTimestamp:
		return AtTimestamp, nil, &from.Time
	}
	return from.Sequence, nil, nil
}

func (l *local) iterator(ctx context.Context, shard string, from Position) (string, error) {
	in := &kinesis.GetShardIteratorInput{StreamRef: l.ref(), ShardId: &shard}
	kind, seq, at := iteratorOf(from)
	in.ShardIteratorType, in.StartingSequenceNumber, in.Timestamp = &kind, seq, at
	out, err := l.api.GetShardIterator(ctx, in)
	if err != nil {
		return "", localError(err)
	}
	return *out.ShardIterator, nil
}

// pageRecords bounds a page, so that what a shard holds in memory beyond its
// buffer is little.
const pageRecords = 1000

func (l *local) records(ctx context.Context, _, iterator string) (Page, string, error) {
	limit := int32(pageRecords)
	out, err := l.api.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: &iterator, Limit: &limit})
	if err != nil {
		return Page{}, "", localError(err)
	}
	p := Page{Records: make([]Record, len(out.Records))}
	for i, r := range out.Records {
		p.Records[i] = Record{r.SequenceNumber.String(), r.PartitionKey, r.ApproximateArrivalTimestamp, r.Data}
	}
	if out.MillisBehindLatest != nil {
		p.Behind = time.Duration(*out.MillisBehindLatest) * time.Millisecond
	}
	next := ""
	if out.NextShardIterator != nil {
		next = *out.NextShardIterator
	}
	return p, next, nil
}

func (l *local) index(shard string) (int, error) {
	_, digits, _ := strings.Cut(shard, "-")
	return strconv.Atoi(digits)
}

// tip is the offset that the shard's next record will have.
func (l *local) tip(shard string) uint64 {
	i, err := l.index(shard)
	if err != nil {
		return 0
	}
	_, next, _ := l.store.Bounds(l.stream, i)
	return next
}

// idle waits for a record that was not there when the page was asked for, or
// for the end of the shard.
func (l *local) idle(ctx context.Context, shard string, last *Page, mark uint64) error {
	if len(last.Records) > 0 || last.Behind > 0 {
		return context.Cause(ctx)
	}
	i, err := l.index(shard)
	if err != nil {
		return err
	}
	err = l.store.Wait(ctx, l.stream, i, mark)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, streams.ErrShardClosed):
		return nil // the next page says so
	}
	return localError(err)
}

// localError tells what a reader branches on.
func localError(err error) error {
	if errors.Is(err, streams.ErrNotFound) {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	if e, ok := errors.AsType[*kinesis.Error](err); ok {
		return codeError(e.Code, err)
	}
	return err
}

func codeError(code string, err error) error {
	switch code {
	case kinesis.ExpiredIterator:
		return fmt.Errorf("%w: %w", errExpired, err)
	case kinesis.ThroughputExceeded, kinesis.LimitExceeded, "KMSThrottlingException":
		return fmt.Errorf("%w: %w", errThrottled, err)
	case kinesis.ResourceNotFound:
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return err
}
