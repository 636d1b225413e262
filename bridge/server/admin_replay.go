package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

// A ReplayRequest asks for a replay of a changed rule.
type ReplayRequest struct {
	Name     string          `json:"name"`              // of the rule, if its document does not say
	Document json.RawMessage `json:"document"`          // topic rule payload
	Against  string          `json:"against,omitempty"` // name of the rule in force; "": the one of the same name, if there is one
	From     time.Time       `json:"from,omitzero"`     // as of rules.Replay, and so are the others
	To       time.Time       `json:"to,omitzero"`
	Shards   []int           `json:"shards,omitempty"`
	Examples int             `json:"examples"`
	Jobs     int             `json:"jobs"` // no more are taken than there are processors
}

// A ReplayLine is one line of the answer: the id of the replay, to end it
// with, and how far it has come; at last the report or an error.
type ReplayLine struct {
	ID     string              `json:"id,omitempty"`
	Read   uint64              `json:"read"` // records of the log
	Of     uint64              `json:"of"`
	Rate   float64             `json:"rate"` // records a second, since the begin
	Report *rules.ReplayReport `json:"report,omitempty"`
	Error  string              `json:"error,omitempty"`
}

// tellReplay is how often a replay tells of its progress.
const tellReplay = 500 * time.Millisecond

// maxReplays run at once; each may hold rules.MaxExamples for each processor.
const maxReplays = 4

var errReplays = fmt.Errorf("%d replays run already, which is the most; wait until one ends: %w", maxReplays, registry.ErrConflict)

// replays are those that run, by id.
type replays struct {
	mu   sync.Mutex
	stop map[string]context.CancelFunc
}

func (x *replays) add(stop context.CancelFunc) (id string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.stop) >= maxReplays {
		return "", errReplays
	}
	if x.stop == nil {
		x.stop = map[string]context.CancelFunc{}
	}
	id = rand.Text()
	x.stop[id] = stop
	return id, nil
}

func (x *replays) remove(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.stop, id)
}

// deleteReplay ends a replay, which then reports what it found so far.
func (s *Server) deleteReplay(_ http.ResponseWriter, r *http.Request) error {
	s.replays.mu.Lock()
	defer s.replays.mu.Unlock()
	stop := s.replays.stop[r.PathValue("id")]
	if stop == nil {
		return fmt.Errorf("replay %s: %w", r.PathValue("id"), registry.ErrNotFound)
	}
	stop()
	return nil
}

// postReplay answers a ReplayRequest with ReplayLines. It ends when the client
// leaves, and with a report when it is told to by deleteReplay.
func (s *Server) postReplay(w http.ResponseWriter, r *http.Request) error {
	var in ReplayRequest
	if err := readJSON(r, &in); err != nil {
		return err
	}
	x, note, err := s.replay(&in)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	id, err := s.replays.add(stop)
	if err != nil {
		return err
	}
	defer s.replays.remove(id)
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc, rc := json.NewEncoder(w), http.NewResponseController(w)
	began, told := time.Now(), time.Time{}
	answered := false
	report, err := s.rules.Replay(ctx, x, func(read, of uint64) {
		now := time.Now()
		if answered && now.Sub(told) < tellReplay && read < of {
			return
		}
		line := ReplayLine{ID: id, Read: read, Of: of}
		if spent := now.Sub(began).Seconds(); spent > 0 {
			line.Rate = float64(read) / spent
		}
		answered, told = true, now
		_ = enc.Encode(line) // when nobody is there any more the context ends
		_ = rc.Flush()
	})
	switch {
	case err == nil:
		if note != "" {
			report.Notes = append([]string{note}, report.Notes...)
		}
		return enc.Encode(ReplayLine{ID: id, Read: report.Read, Of: report.Records, Report: report})
	case !answered && errors.Is(err, rules.ErrReplay):
		return badRequest{err}
	case !answered:
		return err
	}
	return enc.Encode(ReplayLine{ID: id, Error: err.Error()})
}

// replay compiles what a request asks for. note says why there is no rule to
// compare with, where that needs saying.
func (s *Server) replay(in *ReplayRequest) (x *rules.Replay, note string, err error) {
	new, err := s.compiler.Parse(in.Name, in.Document)
	if err != nil {
		return nil, "", badRequest{err}
	}
	x = &rules.Replay{New: new, Services: s.compiler.Services, From: in.From, To: in.To, Shards: in.Shards, Examples: in.Examples,
		Jobs: min(in.Jobs, runtime.GOMAXPROCS(0))}
	name := in.Against
	if name == "" {
		name = new.Name
	}
	x.Old, err = s.topicRules.Named(name)
	if err != nil && in.Against == "" { // none, or one that is not in force
		x.Old = nil
		if errors.Is(err, registry.ErrNotFound) {
			return x, fmt.Sprintf("no rule %s is in force; -against names another", name), nil
		}
		return x, err.Error(), nil
	}
	return x, "", err
}
