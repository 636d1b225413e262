package backup

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A door is something that lets somebody in.
type door struct {
	kind, id string
	mark     string // what else has to be as it was, for it to be the same door
	status   string // "": it is open
}

// eachDoor calls f for all that a registry lets in.
func eachDoor(reg registry.Viewer, f func(door)) error {
	return reg.View(func(tx *registry.Tx) error {
		open := func(s registry.Status) string {
			if s == registry.Active {
				return ""
			}
			return string(s)
		}
		for after := ""; ; {
			page, next, err := tx.Certificates(after, registry.MaxPage)
			if err != nil {
				return err
			}
			for _, c := range page {
				f(door{kind: kindCertificate, id: c.ID, status: open(c.Status)})
			}
			if after = next; next == "" {
				break
			}
		}
		return errors.Join(eachSigner(tx, open, f), eachPerson(tx, open, f))
	})
}

// eachSigner calls f for what lets devices in that are not known yet.
func eachSigner(tx *registry.Tx, open func(registry.Status) string, f func(door)) error {
	for after := ""; ; {
		page, next, err := tx.CAs(after, registry.MaxPage)
		if err != nil {
			return err
		}
		for _, c := range page {
			f(door{kind: kindCA, id: c.ID, mark: fmt.Sprint(c.AutoRegister), status: open(c.Status)})
		}
		if after = next; next == "" {
			break
		}
	}
	for after := ""; ; {
		page, next, err := tx.Authorizers(after, registry.MaxPage)
		if err != nil {
			return err
		}
		for _, a := range page {
			keys := slices.Sorted(maps.Values(a.Keys))
			f(door{kind: kindAuthorizer, id: a.Name, status: open(a.Status),
				mark: fmt.Sprint(a.Function, a.TokenKey, a.SigningDisabled, keys)})
		}
		if after = next; next == "" {
			break
		}
	}
	for after := ""; ; {
		page, next, err := tx.Templates(after, registry.MaxPage)
		if err != nil {
			return err
		}
		for _, t := range page {
			d := door{kind: kindTemplate, id: t.Name}
			if !t.Enabled {
				d.status = "DISABLED"
			}
			f(d)
		}
		if after = next; next == "" {
			return nil
		}
	}
}

// eachPerson calls f for users, their passwords and their keys.
func eachPerson(tx *registry.Tx, open func(registry.Status) string, f func(door)) error {
	users, err := tx.Users()
	if err != nil {
		return err
	}
	for _, u := range users {
		f(door{kind: kindUser, id: u.Name})
		if u.Password != "" {
			f(door{kind: kindPassword, id: u.Name, mark: u.Password})
		}
	}
	keys, err := tx.AccessKeys("")
	for _, k := range keys {
		d := door{kind: kindAccessKey, id: k.ID, mark: k.Secret, status: open(k.Status)}
		if k.Ended(time.Now()) {
			d.status = "ENDED"
		}
		f(d)
	}
	return err
}

func fileKey(id string, k pki.AccessKey) door {
	return door{kind: kindFileKey, id: id, mark: k.Secret + "\x00" + k.Token}
}
