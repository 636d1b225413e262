package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/kinesis/kpl"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A StreamInfo describes one stream to the command line.
type StreamInfo struct {
	Name      string        `json:"name"`
	Shards    int           `json:"shards"`       // that are open
	Retention time.Duration `json:"retention_ns"` // 0: kept until read or trimmed
	Records   uint64        `json:"records"`      // ever appended
	Kept      uint64        `json:"kept"`         // of those, not yet trimmed
	Bytes     int64         `json:"bytes"`        // of what is kept
}

// A StreamRecord is one line of `stream tail`. The records that a producer put
// into one, as Kinesis's producer library does, have a line each.
type StreamRecord struct {
	Shard  int             `json:"shard"`
	Offset uint64          `json:"offset"`
	Sub    int             `json:"sub,omitempty"` // of those in one record, from 0
	Time   int64           `json:"time"`          // arrival, epoch ms
	Key    string          `json:"key,omitempty"`
	JSON   json.RawMessage `json:"json,omitempty"` // the data, where it is JSON
	Data   []byte          `json:"data,omitempty"` // else, base64
}

func (s *Server) streamInfo(name string) (StreamInfo, error) {
	d, err := s.store.Describe(name)
	if err != nil {
		return StreamInfo{}, err
	}
	shards, err := s.store.Shards(name)
	if err != nil {
		return StreamInfo{}, err
	}
	info := StreamInfo{Name: name, Shards: d.Open, Retention: d.Config.Retention}
	for _, sh := range shards {
		oldest, next, err := s.store.Bounds(name, sh.Index)
		if errors.Is(err, streams.ErrShard) {
			continue // retention took it just now
		}
		if err != nil {
			return info, err
		}
		info.Records += next
		info.Kept += next - oldest
	}
	size, err := s.store.Size(name)
	info.Bytes = size.Bytes
	return info, err
}

func (s *Server) listStreams(w http.ResponseWriter, _ *http.Request) error {
	all := []StreamInfo{}
	for _, d := range s.store.List() {
		info, err := s.streamInfo(d.Name)
		if err != nil {
			return err
		}
		all = append(all, info)
	}
	return writeJSON(w, all)
}

// tailStream writes records as JSON lines: ?name=STREAM, &from=oldest|latest
// (default latest), &follow=true to go on at the tip until the client leaves.
// Shards that are split or merged are followed: what came of them begins when
// they are at their end.
func (s *Server) tailStream(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	name := q.Get("name")
	shards, err := s.store.Shards(name)
	if err != nil {
		return err
	}
	follow, _ := strconv.ParseBool(q.Get("follow"))
	oldest := q.Get("from") == "oldest"
	w.Header().Set("Content-Type", "application/x-ndjson")
	ctx, cancel := context.WithCancelCause(r.Context())
	t := &tail{store: s.store, stream: name, follow: follow, cancel: cancel, begun: map[int]bool{}, ended: map[int]bool{},
		w: w, rc: http.NewResponseController(w)}
	defer func() { cancel(nil); t.wg.Wait() }() // none writes to w after this
	if t.flush() != nil {
		return nil // nobody is there any more
	}
	for _, sh := range shards {
		if oldest {
			continue
		}
		if !sh.Open() {
			t.begun[sh.Index], t.ended[sh.Index] = true, true
			continue
		}
		_, next, err := s.store.Bounds(name, sh.Index)
		if err != nil {
			return err
		}
		t.begun[sh.Index] = true
		t.begin(ctx, sh.Index, next)
	}
	if err := t.ready(ctx); err != nil {
		return err
	}
	t.wg.Wait()
	if err := context.Cause(ctx); err != nil && r.Context().Err() == nil && !errors.Is(err, errUnread) {
		return fmt.Errorf("stream %s: %w", name, err)
	}
	return nil
}

// errUnread ends a tail whose client has left.
var errUnread = errors.New("nobody reads the answer")

// A tail writes the records of several shards to one response.
type tail struct {
	store  *streams.Store
	stream string
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
	all, err := t.store.Shards(t.stream)
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
	sh, err := t.store.Shard(t.stream, shard)
	if err == nil && !sh.Open() {
		return streams.ErrShardClosed
	}
	return err
}

func (t *tail) write(shard int, recs []streams.Record) error {
	sh, err := t.store.Shard(t.stream, shard)
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
			if message.IsJSON(u.Data) {
				line.JSON = u.Data
			} else {
				line.Data = u.Data
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
