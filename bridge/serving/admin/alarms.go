package admin

import (
	"context"
	"net/http"

	"github.com/tidemill/tidemill/bridge/speed/alarm"
)

// Alarms are those that rules set; an alarm.Service has them. nil: they are elsewhere.
type Alarms interface {
	List() []alarm.Alarm
	Delete(ctx context.Context, name string) error
}

type alarms struct{ all Alarms }

func (h *alarms) list(w http.ResponseWriter, _ *http.Request) error {
	if h.all == nil {
		return writeJSON(w, []alarm.Alarm{})
	}
	return writeJSON(w, h.all.List())
}

func (h *alarms) remove(_ http.ResponseWriter, r *http.Request) error {
	if h.all == nil {
		return alarm.ErrNotFound
	}
	return h.all.Delete(r.Context(), r.PathValue("name"))
}
