package connector

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A localStream takes items, or dead letters, in the log of this process.
// Where the leases are there too, it takes them in one commit with the lease:
// exactly once.
type localStream struct {
	store  streams.Writer
	stream string
}

// ToLog returns an emitter into a stream of the log.
func ToLog(store streams.Writer, stream string) Emitter { return &localStream{store, stream} }

// localDeadLetters puts dead letters into a stream of the log.
func localDeadLetters(store streams.Writer, stream string) DeadLetters {
	return &localStream{store, stream}
}

// fits says why the log could not take an item.
func (l *localStream) fits(it *Item) error {
	if len(it.Data) > streams.MaxData || len(it.Key) > streams.MaxKey {
		return fmt.Errorf("%d bytes with a key of %d: %w", len(it.Data), len(it.Key), streams.ErrTooLarge)
	}
	return nil
}

// fitting parts what the log can take from what it cannot, which is added to
// given.
func (l *localStream) fitting(items []Item, given []dead) ([]Item, []dead) {
	var fit []Item
	for i := range items {
		if err := l.fits(&items[i]); err != nil {
			given = append(given, dead{items[i], "emit", err})
		} else {
			fit = append(fit, items[i])
		}
	}
	return fit, given
}

func (l *localStream) append(b *streams.Batch, items []Item) {
	for i := range items {
		b.Put(l.stream, streams.HashOf(items[i].Key), streams.Record{Key: items[i].Key, Data: items[i].Data})
	}
}

// Emit implements Emitter, for leases that are elsewhere.
func (l *localStream) Emit(ctx context.Context, b *Batch) ([]Failure, error) {
	var failed []Failure
	batch := l.store.NewBatch()
	for i := range b.Items {
		if err := l.fits(&b.Items[i]); err != nil {
			failed = append(failed, Failure{Index: i, Err: err, Permanent: true})
			continue
		}
		l.append(batch, b.Items[i:i+1])
	}
	return failed, l.store.Commit(ctx, batch)
}

// Close implements Emitter.
func (l *localStream) Close() error { return nil }

func (l *localStream) limit() int { return streams.MaxData }

func (l *localStream) add(b *streams.Batch, letters []Letter) {
	for _, x := range letters {
		b.Put(l.stream, streams.HashOf(x.Key), streams.Record{Key: x.Key, Data: x.Data})
	}
}

// Put implements DeadLetters.
func (l *localStream) Put(ctx context.Context, letters []Letter) error {
	b := l.store.NewBatch()
	l.add(b, letters)
	return l.store.Commit(ctx, b)
}

// A remoteStream takes dead letters.
type remoteStream struct {
	client *kinesis.Client
	stream string
}

// remoteDeadLetters puts dead letters into a stream of Kinesis, or of a bridge
// elsewhere.
func remoteDeadLetters(ctx context.Context, p awsapi.Place, stream string) (DeadLetters, error) {
	c, err := p.Config(ctx)
	if err != nil {
		return nil, err
	}
	return &remoteStream{kinesis.New(c), stream}, nil
}

func (r *remoteStream) limit() int { return kinesis.MaxRecord }

// Put implements DeadLetters. Records that were refused are put again.
func (r *remoteStream) Put(ctx context.Context, letters []Letter) error {
	for len(letters) > 0 {
		var records []kinesis.Record
		for size := 0; len(records) < min(len(letters), kinesis.MaxRecords); {
			x := &letters[len(records)]
			if size += len(x.Key) + len(x.Data); len(records) > 0 && size > kinesis.MaxBytes {
				break
			}
			records = append(records, kinesis.Record{Key: x.Key, Data: x.Data})
		}
		n := len(records)
		refused, err := r.client.PutRecords(ctx, r.stream, records)
		if err != nil {
			return err
		}
		var again []Letter
		var why error
		for i, err := range refused {
			if err != nil {
				again, why = append(again, letters[i]), err
			}
		}
		letters = append(again, letters[n:]...)
		if why != nil {
			if len(again) == n {
				return why
			}
			if err := sleep(ctx, jitter(throttledWait)); err != nil {
				return err
			}
		}
	}
	return nil
}
