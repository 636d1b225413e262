package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"

	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/kinesis/kpl"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A tail writes the records of several shards to one response.
type tail struct {
	store interface {
		streams.Router
		streams.Reader
	}
	stream string
	show   func(data []byte) []byte // as who asks may see it now
	follow bool
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup

	mu    sync.Mutex   // guards what follows
	begun map[int]bool // shards
	ended map[int]bool // those that are closed and read
	w     http.ResponseWriter
	rc    *http.ResponseController
}

// begin reads a shard, and what came of it after its end.
func (t *tail) begin(ctx context.Context, shard int, from uint64) {
	t.wg.Go(func() {
		err := t.shard(ctx, shard, from)
		if errors.Is(err, streams.ErrShardClosed) || errors.Is(err, streams.ErrShard) {
			t.mu.Lock()
			t.ended[shard] = true
			t.mu.Unlock()
			err = t.ready(ctx)
		}
		if err != nil {
			t.cancel(err)
		}
	})
}

// ready begins those shards all of whose parents have been read or are gone.
func (t *tail) ready(ctx context.Context) error {
	all, err := streams.Shards(t.store, t.stream)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, sh := range all {
		waits := func(p int) bool {
			return !t.ended[p] && slices.ContainsFunc(all, func(o streams.Shard) bool { return o.Index == p })
		}
		if !t.begun[sh.Index] && !slices.ContainsFunc(sh.Parents, waits) {
			t.begun[sh.Index] = true
			t.begin(ctx, sh.Index, 0)
		}
	}
	return nil
}

func (t *tail) flush() error {
	if err := t.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

func (t *tail) shard(ctx context.Context, shard int, from uint64) error {
	for ctx.Err() == nil {
		recs, err := t.store.Read(t.stream, shard, from, 1000, 1<<20)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			if !t.follow {
				return t.atEnd(shard)
			}
			if err := t.store.Wait(ctx, t.stream, shard, from); err != nil {
				return err
			}
			continue
		}
		if err := t.write(shard, recs); err != nil {
			return err
		}
		from = recs[len(recs)-1].Offset + 1
	}
	return ctx.Err()
}

// atEnd says with ErrShardClosed whether a shard that is read can get no more.
func (t *tail) atEnd(shard int) error {
	sh, err := streams.ShardAt(t.store, t.stream, shard)
	if err == nil && !sh.Open() {
		return streams.ErrShardClosed
	}
	return err
}

func (t *tail) write(shard int, recs []streams.Record) error {
	sh, err := streams.ShardAt(t.store, t.stream, shard)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	enc := json.NewEncoder(t.w)
	for _, r := range recs {
		inner, several := kpl.Split(r.Data, sh.Range)
		if !several || !kinesis.IsName(t.stream) {
			inner = []kpl.Record{{Key: r.Key, Data: r.Data}}
		}
		for i, u := range inner {
			line := StreamRecord{Shard: shard, Offset: r.Offset, Sub: i, Time: r.Time, Key: u.Key}
			if data := t.show(u.Data); message.IsJSON(data) {
				line.JSON = data
			} else {
				line.Data = data
			}
			if err := enc.Encode(line); err != nil {
				return errors.Join(errUnread, err)
			}
		}
	}
	if err := t.flush(); err != nil {
		return errors.Join(errUnread, err)
	}
	return nil
}
