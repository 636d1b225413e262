package admin

import (
	"net/http"

	"github.com/tidemill/tidemill/bridge/control/audit"
)

// clockState is the bridge's clock, which is held after a jump.
type clockState struct{ clock Clock }

func (h *clockState) get(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, h.clock.Status())
}

// accept trusts the clock as it is, durably when it answers.
func (h *clockState) accept(w http.ResponseWriter, r *http.Request) error {
	before := h.clock.Status()
	if err := h.clock.Accept(); err != nil {
		return err
	}
	audit.Of(r.Context()).Show(before, h.clock.Status())
	return h.get(w, r)
}
