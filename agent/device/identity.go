package device

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/provision"
	"github.com/tidemill/tidemill/hal/secretfile"
)

// yieldFor is how long the agent stays away for another process that connects as
// this device. A rotation takes 24 s over a link with a round trip of 2 s
// (measured); one that gets no answers does not keep the agent away for longer.
const yieldFor = time.Minute

// errYield is no fault: the uplink tries again soon.
var errYield = errors.New("another process renews this device's certificate")

// unlessBusy returns conf that fails while busy says that another process connects
// under this device's client id: the two would end each other's connections.
func unlessBusy(conf func() (*tls.Config, error), busy func() bool, now func() time.Time) func() (*tls.Config, error) {
	var since time.Time // busy was first seen
	return func() (*tls.Config, error) {
		switch {
		case !busy():
			since = time.Time{}
		case since.IsZero():
			since = now()
			return nil, errYield
		case now().Sub(since) < yieldFor:
			return nil, errYield
		}
		return conf()
	}
}

// certificate is the id of the one that the device was provisioned with, "" for none.
func certificate(dir string) string {
	id, err := provision.Current(dir)
	if err != nil {
		return ""
	}
	return id.Certificate
}

// withRenewed returns conf that calls renewed when now says something else than before.
func withRenewed(conf func() (*tls.Config, error), now func() string, renewed func()) func() (*tls.Config, error) {
	before := now()
	return func() (*tls.Config, error) {
		if id := now(); id != before && id != "" {
			before = id
			if renewed != nil {
				renewed()
			}
		}
		return conf()
	}
}

// identity reads the files at each connection, so that a renewed certificate
// needs no restart. It is nil for plain TCP.
func identity(u config.Uplink) (*tls.Config, error) {
	if u.Security == config.Plaintext {
		return nil, nil
	}
	roots, err := provision.Roots(u.CA)
	if err != nil {
		return nil, fmt.Errorf("uplink.ca: %w", err)
	}
	conf := &tls.Config{RootCAs: roots}
	if u.Security == config.MutualTLS {
		cert, err := secretfile.KeyPair(u.Cert, u.Key)
		if err != nil {
			return nil, fmt.Errorf("uplink.cert, uplink.key: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

// password is what uplink.password_file holds.
func password(path string) (string, error) {
	line, err := secretfile.Line(path)
	if err != nil {
		return "", fmt.Errorf("uplink.password_file: %w", err)
	}
	return line, nil
}
