package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"

	"github.com/tidemill/tidemill/agent/provision"
	"github.com/tidemill/tidemill/hal/secretfile"
)

// files returns what is wrong with the files that c names: what is not there,
// cannot be read, is others' to read, or does not fit together. Each error begins
// with its key. Load leaves them alone, since a file may come later and be renewed
// while the agent runs.
func (c *Config) files() (errs []error) {
	no := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	pair := func(table, cert, key string) {
		var public, private []byte
		var err error
		if cert != "" {
			public, err = os.ReadFile(cert)
			no(table+"cert", err)
		}
		if key != "" {
			private, err = secretfile.Read(key)
			no(table+"key", err)
		}
		if public != nil && private != nil {
			if _, err := tls.X509KeyPair(public, private); err != nil {
				no(table+"cert", fmt.Errorf("%s with the key %s: %w", cert, key, err))
			}
		}
	}
	u, p := &c.Uplink, &c.Provision
	if u.CA != "" {
		_, err := provision.Roots(u.CA)
		no("uplink.ca", err)
	}
	if p.Template == "" {
		pair("uplink.", u.Cert, u.Key)
	} else if _, err := provision.Current(c.DataDir); errors.Is(err, provision.ErrNotProvisioned) {
		pair("provision.claim_", p.ClaimCert, p.ClaimKey)
	} else { // the claim may be gone
		pair("uplink.", u.Cert, u.Key)
	}
	if u.PasswordFile != "" {
		_, err := secretfile.Line(u.PasswordFile)
		no("uplink.password_file", err)
	}
	return errs
}
