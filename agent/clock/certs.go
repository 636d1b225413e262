package clock

import (
	"crypto/tls"
	"errors"
	"runtime/debug"
	"time"
)

// defaultWindow is for a device that lay in a drawer, since it was built or last
// knew the time, for less than that.
const defaultWindow = 3 * 365 * 24 * time.Hour

// written is when this was, for a program that does not say when it was built.
var written = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// Built returns the time of the commit that the program was built from: it is later
// than that.
func Built() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return written
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil && t.After(written) {
				return t
			}
		}
	}
	return written
}

// certs is by what time the next server is judged.
type certs struct {
	at int64 // wall ms; 0: by the clock
}

// CertTime is the time by which certificates are judged, for tls.Config.Time. When
// the time is known it is that. Otherwise it is a guess that is not before the
// newest time that was known, so that a certificate which had expired by then is
// never accepted, and not later than Options.Window after it.
func (c *Clock) CertTime() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
	offset, _, known := c.current()
	if known {
		return time.UnixMilli(c.mono + offset)
	}
	floor := c.h.lower(len(c.h.boots)-1, c.mono)
	at := c.mono + offset
	if c.certs.at != 0 {
		at = c.certs.at
	}
	if at < floor || at > floor+c.o.Window.Milliseconds() {
		at = floor
	}
	return time.UnixMilli(at)
}

// Refused is told how a handshake failed. It says whether another one, at once, is
// worth it: the time is not known, and there is one at which the server's
// certificates were valid, not before the newest time that was known and not later
// than Options.Window after it. CertTime is that time then. The chain is checked in
// full, as ever, at that time.
func (c *Clock) Refused(err error) bool {
	cause, ok := errors.AsType[*tls.CertificateVerificationError](err)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _, known := c.current()
	tried := c.certs.at
	c.certs.at = 0
	if !ok || known || len(cause.UnverifiedCertificates) == 0 {
		return false
	}
	floor := c.h.lower(len(c.h.boots)-1, c.mono)
	at := floor
	for _, x := range cause.UnverifiedCertificates {
		at = max(at, x.NotBefore.UnixMilli()+1)
	}
	for _, x := range cause.UnverifiedCertificates {
		if at > x.NotAfter.UnixMilli() {
			return false
		}
	}
	if at == tried || at > floor+c.o.Window.Milliseconds() {
		return false
	}
	c.certs.at = at
	return true
}
