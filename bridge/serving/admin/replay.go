package admin

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
	Against  string          `json:"against,omitempty"` // name of a rule in force; "": the one of the same name, if any
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

// replayProgressEvery is how often a replay tells of its progress.
const replayProgressEvery = 500 * time.Millisecond

// maxReplays run at once; each may hold rules.MaxExamples for each processor.
const maxReplays = 4

var errReplays = fmt.Errorf("%d replays run already, which is the most; wait until one ends: %w",
	maxReplays, registry.ErrConflict)

// replays are those that run.
type replays struct {
	rules    TopicRules
	engine   *rules.Engine
	compiler *rules.Compiler

	mu    sync.Mutex
	stops map[string]context.CancelFunc // by id
}

func (x *replays) add(stop context.CancelFunc) (id string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.stops) >= maxReplays {
		return "", errReplays
	}
	if x.stops == nil {
		x.stops = map[string]context.CancelFunc{}
	}
	id = rand.Text()
	x.stops[id] = stop
	return id, nil
}

func (x *replays) remove(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.stops, id)
}

// stopOne ends a replay, which then reports what it found so far.
func (h *replays) stopOne(_ http.ResponseWriter, r *http.Request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	stop := h.stops[r.PathValue("id")]
	if stop == nil {
		return fmt.Errorf("replay %s: %w", r.PathValue("id"), registry.ErrNotFound)
	}
	stop()
	return nil
}

// run answers a ReplayRequest with ReplayLines. It ends when the client
// leaves, and with a report when it is told to by stopOne.
func (h *replays) run(w http.ResponseWriter, r *http.Request) error {
	var in ReplayRequest
	if err := readJSON(r, &in); err != nil {
		return err
	}
	x, note, err := h.parse(&in)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(r.Context())
	defer stop()
	id, err := h.add(stop)
	if err != nil {
		return err
	}
	defer h.remove(id)
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc, rc := json.NewEncoder(w), http.NewResponseController(w)
	began, reported := time.Now(), time.Time{}
	answered := false
	report, err := h.engine.Replay(ctx, x, func(read, of uint64) {
		now := time.Now()
		if answered && now.Sub(reported) < replayProgressEvery && read < of {
			return
		}
		line := ReplayLine{ID: id, Read: read, Of: of}
		if spent := now.Sub(began).Seconds(); spent > 0 {
			line.Rate = float64(read) / spent
		}
		answered, reported = true, now
		_ = enc.Encode(line) // when nobody is there any more the context ends
		_ = rc.Flush()
	})
	switch {
	case err == nil:
		if note != "" {
			report.Notes = append([]string{note}, report.Notes...)
		}
		return enc.Encode(ReplayLine{ID: id, Read: report.Read, Of: report.Records, Report: report})
	case !answered:
		return err
	}
	return enc.Encode(ReplayLine{ID: id, Error: err.Error()})
}

// parse compiles what a request asks for. note says why there is no rule to
// compare with, where that needs saying.
func (h *replays) parse(in *ReplayRequest) (x *rules.Replay, note string, err error) {
	new, err := h.compiler.Parse(in.Name, in.Document)
	if err != nil {
		return nil, "", badRequest{err}
	}
	x = &rules.Replay{New: new, Services: h.compiler.Services, From: in.From, To: in.To,
		Shards: in.Shards, Examples: in.Examples, Jobs: min(in.Jobs, runtime.GOMAXPROCS(0))}
	name := in.Against
	if name == "" {
		name = new.Name
	}
	x.Old, err = h.rules.Named(name)
	if err != nil && in.Against == "" { // none, or one that is not in force
		x.Old = nil
		if errors.Is(err, registry.ErrNotFound) {
			return x, fmt.Sprintf("no rule %s is in force; -against names another", name), nil
		}
		return x, err.Error(), nil
	}
	return x, "", err
}
