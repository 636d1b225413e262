package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A StreamInfo describes one stream to the command line.
type StreamInfo struct {
	Name      string        `json:"name"`
	Shards    int           `json:"shards"`
	Retention time.Duration `json:"retention_ns"` // 0: kept until read or trimmed
	Records   uint64        `json:"records"`      // ever appended
	Kept      uint64        `json:"kept"`         // of those, not yet trimmed
	Bytes     int64         `json:"bytes"`        // of what is kept
}

// A StreamRecord is one line of `stream tail`.
type StreamRecord struct {
	Shard  int             `json:"shard"`
	Offset uint64          `json:"offset"`
	Time   int64           `json:"time"` // arrival, epoch ms
	Key    string          `json:"key,omitempty"`
	JSON   json.RawMessage `json:"json,omitempty"` // the data, where it is JSON
	Data   []byte          `json:"data,omitempty"` // else, base64
}

func (s *Server) streamInfo(name string) (StreamInfo, error) {
	d, err := s.store.Describe(name)
	if err != nil {
		return StreamInfo{}, err
	}
	info := StreamInfo{Name: name, Shards: d.Config.Shards, Retention: d.Config.Retention}
	for shard := range d.Config.Shards {
		oldest, next, err := s.store.Bounds(name, shard)
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
func (s *Server) tailStream(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	name := q.Get("name")
	info, err := s.store.Describe(name)
	if err != nil {
		return err
	}
	follow, _ := strconv.ParseBool(q.Get("follow"))
	oldest := q.Get("from") == "oldest"
	from := make([]uint64, info.Config.Shards)
	for shard := range from {
		first, next, err := s.store.Bounds(name, shard)
		if err != nil {
			return err
		}
		if from[shard] = next; oldest {
			from[shard] = first
		}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	t := &tail{store: s.store, stream: name, follow: follow, w: w, rc: http.NewResponseController(w)}
	if t.flush() != nil {
		return nil // nobody is there any more
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, info.Config.Shards)
	for shard, first := range from {
		wg.Go(func() {
			if err := t.shard(ctx, shard, first); err != nil {
				errs <- err
				cancel()
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		if !errors.Is(err, context.Canceled) {
			s.log.Debug("tail ended", "stream", name, "err", err)
		}
	default:
	}
	return nil // the answer has begun; an error could not be told any more
}

// A tail writes the records of several shards to one response.
type tail struct {
	store  *streams.Store
	stream string
	follow bool

	mu sync.Mutex // guards w
	w  http.ResponseWriter
	rc *http.ResponseController
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
				return nil
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

func (t *tail) write(shard int, recs []streams.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	enc := json.NewEncoder(t.w)
	for _, r := range recs {
		line := StreamRecord{Shard: shard, Offset: r.Offset, Time: r.Time, Key: r.Key}
		if json.Valid(r.Data) {
			line.JSON = r.Data
		} else {
			line.Data = r.Data
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return t.flush()
}
