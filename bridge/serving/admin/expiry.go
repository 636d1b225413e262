package admin

import (
	"net/http"
	"time"
)

// An Expiry says when a certificate ends.
type Expiry struct {
	Of       string    `json:"of"` // mqtt, https, ca, previous-ca; device: the active one that ends soonest
	ID       string    `json:"id"`
	NotAfter time.Time `json:"not_after"`
}

// expiries answers when certificates end.
type expiries struct{ list func() ([]Expiry, error) }

func (h *expiries) get(w http.ResponseWriter, _ *http.Request) error {
	all, err := h.list()
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}
