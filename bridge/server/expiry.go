package server

import (
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// certificates tells how long certificates last.
func (x series) certificates(s *Server) {
	const help = "Seconds until a certificate ends: the server's of a listener (mqtt, https), the bridge's CA " +
		"(ca, previous-ca), " +
		"or the active device certificate that ends soonest (device)."
	now := time.Now()
	left := func(of string, end time.Time) {
		x.gauge("certificate_expires_in_seconds", help, end.Sub(now).Seconds(), "of", of)
	}
	for _, e := range s.pki.Expiries() {
		left(e.Of, e.NotAfter)
	}
	d, err := s.expiries.Devices(admin.DevicesAge)
	if err != nil {
		return // the registry is closing, or damaged and told elsewhere
	}
	if d.Soonest.ID != "" {
		left("device", d.Soonest.NotAfter)
	}
	x.gauge("device_certificates_expired", "Active device certificates that are over: their devices cannot connect.",
		float64(d.Over))
}
