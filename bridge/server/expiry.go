package server

import (
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// lookAtDevices is how old what is told of devices' certificates may be: they are
// all read for it, and each scrape of the metrics asks.
const lookAtDevices = 10 * time.Minute

// expiries knows when certificates end.
type expiries struct {
	pki      *pki.PKI
	registry registry.Viewer

	mu      sync.Mutex // guards what follows
	looking int        // how many read the certificates now
	looked  time.Time
	devices deviceExpiry
}

// A deviceExpiry is what there is to know of active device certificates.
type deviceExpiry struct {
	soonest registry.Certificate // of those that are not over; no ID: there is none
	over    int                  // how many are over
}

// list tells of the bridge's own certificates and of the device certificate that
// ends soonest.
func (e *expiries) list() ([]admin.Expiry, error) {
	all := []admin.Expiry{}
	for _, x := range e.pki.Expiries() {
		all = append(all, admin.Expiry{Of: x.Of, ID: x.ID, NotAfter: x.NotAfter})
	}
	d, err := e.ofDevices(0)
	if d.soonest.ID != "" {
		all = append(all, admin.Expiry{Of: "device", ID: d.soonest.ID, NotAfter: d.soonest.NotAfter})
	}
	return all, err
}

// ofDevices looks at active device certificates, unless it did within age, or did
// once and somebody does just now.
func (e *expiries) ofDevices(age time.Duration) (deviceExpiry, error) {
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
func (e *expiries) look(now time.Time) (d deviceExpiry, err error) {
	err = e.registry.View(func(tx *registry.Tx) error {
		for after := ""; ; {
			page, next, err := tx.Certificates(after, registry.MaxPage)
			if err != nil {
				return err
			}
			for _, c := range page {
				switch {
				case c.Status != registry.Active:
				case c.NotAfter.Before(now):
					d.over++
				case d.soonest.ID == "" || c.NotAfter.Before(d.soonest.NotAfter):
					d.soonest = c
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

// certificates tells how long certificates last.
func (x series) certificates(s *Server) {
	const help = "Seconds until a certificate ends: the server's of a listener (mqtt, https), the bridge's CA (ca, previous-ca), " +
		"or the active device certificate that ends soonest (device)."
	now := time.Now()
	left := func(of string, end time.Time) {
		x.gauge("certificate_expires_in_seconds", help, end.Sub(now).Seconds(), "of", of)
	}
	for _, e := range s.pki.Expiries() {
		left(e.Of, e.NotAfter)
	}
	d, err := s.expiries.ofDevices(lookAtDevices)
	if err != nil {
		return // the registry is closing, or damaged and told elsewhere
	}
	if d.soonest.ID != "" {
		left("device", d.soonest.NotAfter)
	}
	x.gauge("device_certificates_expired", "Active device certificates that are over: their devices cannot connect.",
		float64(d.over))
}
