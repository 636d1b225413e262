package admin

import (
	"context"
	"net/http"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/speed/hold"
)

// Holds are of what waits after a restore.
type Holds interface {
	List() ([]hold.Held, error)
	Release(ctx context.Context, name string) error
}

// Revocations make the file of what is revoked; a backup.Revoker does.
type Revocations interface {
	Export() (raw []byte, v *backup.Revocations, err error)
}

type restored struct {
	holds       Holds
	revocations Revocations
}

func (h *restored) list(w http.ResponseWriter, _ *http.Request) error {
	all, err := h.holds.List()
	if err != nil {
		return err
	}
	if all == nil {
		all = []hold.Held{}
	}
	return writeJSON(w, all)
}

// release releases ?name=.
func (h *restored) release(_ http.ResponseWriter, r *http.Request) error {
	return h.holds.Release(r.Context(), r.URL.Query().Get("name"))
}

// export answers the file.
func (h *restored) export(w http.ResponseWriter, _ *http.Request) error {
	raw, _, err := h.revocations.Export()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(raw)
	return err
}
