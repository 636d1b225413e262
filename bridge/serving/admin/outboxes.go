package admin

import "net/http"

// outboxes are those of rules.
type outboxes struct{ drainer Outboxes }

func (h *outboxes) list(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, h.drainer.List())
}

func (h *outboxes) retry(_ http.ResponseWriter, r *http.Request) error {
	return h.drainer.Retry(r.PathValue("rule"), r.PathValue("slot"))
}

// Dropped says how many deliveries an outbox had that was dropped.
type Dropped struct {
	Deliveries uint64 `json:"deliveries"`
}

func (h *outboxes) drop(w http.ResponseWriter, r *http.Request) error {
	n, err := h.drainer.Drop(r.Context(), r.PathValue("rule"), r.PathValue("slot"))
	if err != nil {
		return err
	}
	return writeJSON(w, Dropped{n})
}
