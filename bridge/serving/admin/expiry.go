package admin

import (
	"net/http"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// An Expiry says when a certificate ends.
type Expiry struct {
	Of       string    `json:"of"` // mqtt, https, ca, previous-ca; device: the active one that ends soonest
	ID       string    `json:"id"`
	NotAfter time.Time `json:"not_after"`
}

// DevicesAge is how old what a scrape says of devices' certificates may be: they are
// all read for it, and each scrape of the metrics asks.
const DevicesAge = 10 * time.Minute

// Expiries knows when certificates end. Its methods may be called from several
// goroutines.
type Expiries struct {
	own      func() []pki.Expiry // those of the bridge itself
	registry registry.Viewer

	mu      sync.Mutex // guards what follows
	looking int        // how many read the certificates now
	looked  time.Time
	devices DeviceExpiry
}

// NewExpiries returns the Expiries of device certificates in a registry, and of the
// bridge's own.
func NewExpiries(own func() []pki.Expiry, r registry.Viewer) *Expiries {
	return &Expiries{own: own, registry: r}
}

// A DeviceExpiry is what there is to know of active device certificates.
type DeviceExpiry struct {
	Soonest registry.Certificate // of those that are not over; no ID: there is none
	Over    int                  // how many are over
}

// List tells of the bridge's own certificates and of the device certificate that
// ends soonest.
func (e *Expiries) List() ([]Expiry, error) {
	all := []Expiry{}
	for _, x := range e.own() {
		all = append(all, Expiry{Of: x.Of, ID: x.ID, NotAfter: x.NotAfter})
	}
	d, err := e.Devices(0)
	if d.Soonest.ID != "" {
		all = append(all, Expiry{Of: "device", ID: d.Soonest.ID, NotAfter: d.Soonest.NotAfter})
	}
	return all, err
}

// Devices looks at active device certificates, unless it did within age, or did
// once and somebody does just now.
func (e *Expiries) Devices(age time.Duration) (DeviceExpiry, error) {
	now := time.Now()
	e.mu.Lock()
	if age > 0 && !e.looked.IsZero() && (now.Sub(e.looked) < age || e.looking > 0) {
		defer e.mu.Unlock()
		return e.devices, nil
	}
	e.looking++
	e.mu.Unlock()
	d, err := e.look(now)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.looking--
	if err == nil && !now.Before(e.looked) {
		e.looked, e.devices = now, d
	}
	return d, err
}

// look reads all device certificates.
func (e *Expiries) look(now time.Time) (d DeviceExpiry, err error) {
	err = inRegistry.View(e.registry, func(tx records) error {
		for after := ""; ; {
			page, next, err := tx.Certificates(after, registry.MaxPage)
			if err != nil {
				return err
			}
			for _, c := range page {
				switch {
				case c.Status != registry.Active:
				case c.NotAfter.Before(now):
					d.Over++
				case d.Soonest.ID == "" || c.NotAfter.Before(d.Soonest.NotAfter):
					d.Soonest = c
				}
			}
			if next == "" {
				return nil
			}
			after = next
		}
	})
	return d, err
}

// get answers when certificates end.
func (e *Expiries) get(w http.ResponseWriter, _ *http.Request) error {
	all, err := e.List()
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}
