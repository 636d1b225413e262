package admin

import (
	"net/http"

	"github.com/tidemill/tidemill/bridge/speed/rules"
)

// RuleInfo describes one rule.
type RuleInfo struct {
	Name     string `json:"name"`
	SQL      string `json:"sql"`
	Disabled bool   `json:"disabled"`
	File     string `json:"file,omitempty"`    // that declares it; "" if it was made through the API
	Trouble  string `json:"trouble,omitempty"` // its file is wrong now, or it does not compile any more
	rules.Stats
	Durable rules.Latency `json:"durable"` // from messages' arrivals until what the rule made was in the log
}

// topicRules are those in force, and what they did with messages.
type topicRules struct {
	rules  TopicRules
	engine *rules.Engine
	peers  *Peers // who may not change rules is shown no secrets of theirs
}

func (h *topicRules) list(w http.ResponseWriter, _ *http.Request) error {
	all, counted := []RuleInfo{}, map[string]rules.Metrics{}
	for _, m := range h.engine.Metrics() {
		counted[m.Rule] = m
	}
	for _, r := range h.rules.Rules() {
		info := RuleInfo{Name: r.Name, SQL: r.Payload.SQL, Disabled: r.Disabled, File: r.File,
			Stats: counted[r.Name].Stats, Durable: counted[r.Name].Durable}
		if err := h.rules.Trouble(r.Name); err != nil {
			info.Trouble = err.Error()
		}
		all = append(all, info)
	}
	return writeJSON(w, all)
}
