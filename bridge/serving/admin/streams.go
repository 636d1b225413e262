package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
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

// DescribeStream describes a stream of the log.
func DescribeStream(s Log, name string) (StreamInfo, error) {
	d, err := s.Describe(name)
	if err != nil {
		return StreamInfo{}, err
	}
	shards, err := streams.Shards(s, name)
	if err != nil {
		return StreamInfo{}, err
	}
	info := StreamInfo{Name: name, Shards: d.Open, Retention: d.Config.Retention}
	for _, sh := range shards {
		kept, err := s.Count(name, sh.Index, 0)
		if errors.Is(err, streams.ErrShard) {
			continue // retention took it just now
		}
		if err != nil {
			return info, err
		}
		info.Kept += kept
	}
	size, err := s.Size(name)
	info.Bytes, info.Records = size.Bytes, size.Ever
	return info, err
}

// dataStreams are the streams of the log, those of users and the bridge's own.
type dataStreams struct {
	store   Log
	kinesis DataStreams
	peers   *Peers
}

func (h *dataStreams) list(w http.ResponseWriter, _ *http.Request) error {
	all := []StreamInfo{}
	for _, d := range h.store.List() {
		info, err := DescribeStream(h.store, d.Name)
		if err != nil {
			return err
		}
		all = append(all, info)
	}
	return writeJSON(w, all)
}

// tail is records of ?name=STREAM.
func (h *dataStreams) tail(w http.ResponseWriter, r *http.Request) error {
	name := r.URL.Query().Get("name")
	if err := h.peers.readable(r.Context(), name); err != nil {
		return err
	}
	return h.records(w, r, name)
}

// records writes records as JSON lines: ?from=oldest|latest (default latest),
// &follow=true to go on at the tip until the client leaves. Shards that are split or
// merged are followed: what came of them begins when they are at their end.
func (h *dataStreams) records(w http.ResponseWriter, r *http.Request, name string) error {
	q := r.URL.Query()
	shards, err := streams.Shards(h.store, name)
	if err != nil {
		return err
	}
	follow, _ := strconv.ParseBool(q.Get("follow"))
	oldest := q.Get("from") == "oldest"
	w.Header().Set("Content-Type", "application/x-ndjson")
	ctx, cancel := context.WithCancelCause(r.Context())
	t := &tail{store: h.store, stream: name, show: h.peers.showing(r.Context(), name), follow: follow, cancel: cancel,
		begun: map[int]bool{}, ended: map[int]bool{}, w: w, rc: http.NewResponseController(w)}
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
		_, next, err := h.store.Bounds(name, sh.Index)
		if errors.Is(err, streams.ErrShard) { // retention has just dropped it
			t.begun[sh.Index], t.ended[sh.Index] = true, true
			continue
		}
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

// create makes a user's stream; one that exists gets the shards and the
// retention.
func (h *dataStreams) create(_ http.ResponseWriter, r *http.Request) error {
	var in StreamInfo
	if err := readJSON(r, &in); err != nil {
		return err
	}
	audit.Of(r.Context()).Name("streams/" + in.Name)
	n := int32(min(max(in.Shards, 0), streams.MaxShards+1))
	err := h.kinesis.Declare(kinesis.Declaration{StreamName: in.Name, ShardCount: &n, Retention: &in.Retention})
	if e, ok := errors.AsType[*kinesis.Error](err); ok {
		return badRequest{errors.New(e.Message)} // without the API's code
	}
	return err
}
