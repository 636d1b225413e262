package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// A WhyLine is one line of the answer to why a rule did what it did with a
// message: how far the search in the log has come, or at last one of the others.
type WhyLine struct {
	Searched uint64     `json:"searched,omitempty"` // records
	Of       uint64     `json:"of,omitempty"`
	Why      *rules.Why `json:"why,omitempty"`
	Error    string     `json:"error,omitempty"`
}

// A Sample is a message that was not published.
type Sample struct {
	Topic    string `json:"topic"`
	Payload  []byte `json:"payload"`
	ClientID string `json:"client_id"`
}

// whySince is how far back the log is searched if nobody says.
const whySince = time.Hour

// searchProgressEvery is how often a search tells of its progress.
const searchProgressEvery = 500 * time.Millisecond

// asked reads what a request asks of: the rule in force that it names, and
// ?since=DURATION.
func (h *topicRules) asked(r *http.Request) (rule *rules.Rule, since time.Duration, err error) {
	if rule, err = h.rules.Named(r.PathValue("name")); err != nil {
		return nil, 0, err
	}
	text := r.URL.Query().Get("since")
	if text == "" {
		return rule, whySince, nil
	}
	since, err = time.ParseDuration(text)
	if err != nil || since <= 0 {
		return nil, 0, badRequest{fmt.Errorf("since: %q, want a duration", text)}
	}
	return rule, since, nil
}

// recent lists the newest messages of a rule: ?failed=true for those
// that failed, &since=DURATION as of why.
func (h *topicRules) recent(w http.ResponseWriter, r *http.Request) error {
	rule, since, err := h.asked(r)
	if err != nil {
		return err
	}
	failed, _ := strconv.ParseBool(r.URL.Query().Get("failed"))
	all, err := h.engine.Recent(r.Context(), rule, failed, since)
	if err != nil {
		return err
	}
	return writeJSON(w, h.peers.shown(r.Context(), all))
}

// why answers with WhyLines: ?message=ID, &since=DURATION for how far back the
// log is searched. The search ends when the client leaves.
func (h *topicRules) why(w http.ResponseWriter, r *http.Request) error {
	rule, since, err := h.asked(r)
	if err != nil {
		return err
	}
	reported := time.Now()
	enc, rc := json.NewEncoder(w), http.NewResponseController(w)
	x, err := h.engine.Why(r.Context(), rule, r.URL.Query().Get("message"), since, func(searched, of uint64) {
		if time.Since(reported) < searchProgressEvery {
			return
		}
		reported = time.Now()
		_ = enc.Encode(WhyLine{Searched: searched, Of: of}) // when nobody is there any more the context ends
		_ = rc.Flush()
	})
	line := WhyLine{Why: x}
	if errors.Is(err, rules.ErrID) {
		return err
	}
	if err != nil {
		line.Error = err.Error()
	}
	return enc.Encode(h.peers.shown(r.Context(), line))
}

// try says what a rule would make of a Sample. Nothing is done with it.
func (h *topicRules) try(w http.ResponseWriter, r *http.Request) error {
	rule, err := h.rules.Named(r.PathValue("name"))
	if err != nil {
		return err
	}
	var in Sample
	if err := readJSON(r, &in); err != nil {
		return err
	}
	if err := topic.ValidName(in.Topic); err != nil {
		return badRequest{err}
	}
	m := &message.Message{Topic: in.Topic, Payload: in.Payload, ClientID: in.ClientID}
	return writeJSON(w, h.peers.shown(r.Context(), h.engine.Try(r.Context(), rule, m)))
}
