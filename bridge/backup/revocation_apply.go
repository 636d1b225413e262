package backup

import (
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// apply takes from a registry, and from the access keys of a pki folder ("": none), what was open
// when the backup was taken and is not any more. It returns those, in words.
func (v *Revocations) apply(reg registry.Store, pkiDir string) (revoked []string, err error) {
	var shut []door
	err = eachDoor(reg, func(d door) {
		if d.status != "" && v.Taken[d.kind][d.id] == "" {
			// One that waited to be activated was deleted since, or is active: it
			// stays as it was.
			return
		}
		if is, became := v.open(d); !is && became != d.status {
			revoked = append(revoked, fmt.Sprintf("%s %s: %s", d.kind, d.id, became))
			d.status = became
			shut = append(shut, d)
		}
	})
	if err != nil {
		return nil, err
	}
	const together = 500 // in one commit
	for len(shut) > 0 {
		n := min(together, len(shut))
		if err := reg.Update(func(tx *registry.Tx) error {
			for _, d := range shut[:n] {
				if err := d.close(tx); err != nil {
					return fmt.Errorf("%s %s: %w", d.kind, d.id, err)
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
		shut = shut[n:]
	}
	if pkiDir == "" {
		return revoked, nil
	}
	gone, err := pki.KeepAccessKeys(pkiDir, func(id string, k pki.AccessKey) bool {
		is, _ := v.open(fileKey(id, k))
		return is
	})
	for _, id := range gone {
		revoked = append(revoked, fmt.Sprintf("%s %s: deleted or changed", kindFileKey, id))
	}
	return revoked, err
}

// close takes a door's rights away. status is what became of it.
func (d door) close(tx *registry.Tx) error {
	switch d.kind {
	case kindCertificate:
		status := registry.Revoked // also of one that was deleted: it does not come back
		if d.status == string(registry.Inactive) {
			status = registry.Inactive
		}
		if d.status == string(registry.PendingTransfer) || d.status == string(registry.PendingActivation) {
			status = registry.Inactive
		}
		err := tx.SetCertificateStatus(d.id, status)
		if errors.Is(err, registry.ErrConflict) { // it is being transferred, or revoked already
			return nil
		}
		return err
	case kindCA:
		return tx.UpdateCA(d.id, func(c *registry.CA) { c.Status, c.AutoRegister = registry.Inactive, false })
	case kindUser:
		return ignoreGone(tx.DeleteUser(d.id))
	case kindPassword:
		return ignoreGone(tx.UpdateUser(d.id, func(u *registry.User) { u.Password = "" }))
	case kindAccessKey:
		return ignoreGone(tx.UpdateAccessKey(d.id, func(k *registry.AccessKey) { k.Status = registry.Inactive }))
	case kindAuthorizer:
		return tx.UpdateAuthorizer(d.id, func(a *registry.Authorizer) { a.Status = registry.Inactive })
	case kindTemplate:
		return tx.UpdateTemplate(d.id, func(t *registry.Template) error { t.Enabled = false; return nil })
	}
	return nil
}

// ignoreGone is nil for what went with its user.
func ignoreGone(err error) error {
	if errors.Is(err, registry.ErrNotFound) {
		return nil
	}
	return err
}
