package people

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A UserInfo is what is told of a user: no secrets.
type UserInfo struct {
	Name     string                     `json:"name"`
	Roles    []string                   `json:"roles"`
	Policies map[string]json.RawMessage `json:"policies,omitempty"`
	Password bool                       `json:"password"` // one was set
	Keys     []KeyInfo                  `json:"keys"`
	Created  time.Time                  `json:"created"`
	Changed  time.Time                  `json:"changed"`
}

// A KeyInfo is what is told of an access key: no secret.
type KeyInfo struct {
	ID       string                     `json:"id"`
	User     string                     `json:"user,omitempty"`     // "" for a key of a file
	Declared string                     `json:"declared,omitempty"` // the file of a key of a file
	Grants   string                     `json:"grants,omitempty"`   // what [[access]] grants it, in words
	Status   registry.Status            `json:"status"`
	Policies map[string]json.RawMessage `json:"policies,omitempty"` // that narrow the user's rights
	Created  time.Time                  `json:"created,omitzero"`
	Ends     time.Time                  `json:"ends,omitzero"`      // zero: it does not end by itself
	Used     time.Time                  `json:"last_used,omitzero"` // zero: never
	Service  string                     `json:"service,omitempty"`  // that it was used for last
}

// maxOverlap bounds the time for which a key that was rotated still holds, our choice.
const maxOverlap = 365 * 24 * time.Hour

// check checks roles and policies beyond what the registry does. A role is named
// once, and the actions of policies exist, but of those that are the same in had,
// which the user has already.
func check(names []string, policies, had map[string]json.RawMessage) error {
	if _, err := RightsOf(names); err != nil {
		return err
	}
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			return fmt.Errorf("role %s: %w: it is there twice", name, registry.ErrInvalid)
		}
	}
	docs, err := parseAll(policies)
	for _, d := range docs {
		if string(policies[d.Name]) != string(had[d.Name]) {
			if wrong := d.CheckActions(); wrong != nil {
				err = errors.Join(err, fmt.Errorf("policy %s: %w: %w", d.Name, authz.ErrMalformed, wrong))
			}
		}
	}
	return err
}

// CreateUser makes a user with roles and inline policies, which may do nothing
// without. One of that name is registry.ErrExists.
func (d *Directory) CreateUser(ctx context.Context, name string, roles []string,
	policies map[string]json.RawMessage) error {
	if err := check(roles, policies, nil); err != nil {
		return err
	}
	return audit.Update(ctx, d.store, func(tx *registry.Tx) error {
		return tx.CreateUser(registry.User{Name: name, Roles: roles, Policies: policies})
	})
}

// ChangeUser gives a user other roles and policies in the place of all there are.
func (d *Directory) ChangeUser(ctx context.Context, name string, roles []string,
	policies map[string]json.RawMessage) error {
	return audit.Update(ctx, d.store, func(tx *registry.Tx) error {
		old, err := tx.User(name)
		if err == nil {
			err = check(roles, policies, old.Policies)
		}
		if err != nil {
			return err
		}
		return tx.UpdateUser(name, func(u *registry.User) { u.Roles, u.Policies = roles, policies })
	})
}

// SetPassword gives a user a password, or with "" takes it away.
func (d *Directory) SetPassword(ctx context.Context, name, password string) (err error) {
	hash := ""
	if password != "" {
		if hash, err = hashPassword(password); err != nil {
			return err
		}
	}
	return audit.Update(ctx, d.store, func(tx *registry.Tx) error {
		return tx.UpdateUser(name, func(u *registry.User) { u.Password = hash })
	})
}

// DeleteUser deletes a user with all keys.
func (d *Directory) DeleteUser(ctx context.Context, name string) error {
	return audit.Update(ctx, d.store, func(tx *registry.Tx) error { return tx.DeleteUser(name) })
}

// CreateKey gives a user an access key, narrowed by policies if there are some. Its
// secret is not told again.
func (d *Directory) CreateKey(ctx context.Context, user string,
	policies map[string]json.RawMessage) (id, secret string, err error) {
	if err := check(nil, policies, nil); err != nil {
		return "", "", err
	}
	id, secret = pki.NewAccessKey()
	return id, secret, audit.Update(ctx, d.store, func(tx *registry.Tx) error {
		return tx.AddAccessKey(registry.AccessKey{ID: id, User: user, Secret: secret, Policies: policies})
	})
}

// RotateKey gives the user of a key another one with the same policies. The one of
// before ends after a time, 0 for at once.
func (d *Directory) RotateKey(ctx context.Context, old string,
	after time.Duration) (user, id, secret string, err error) {
	if after < 0 || after > maxOverlap {
		return "", "", "", fmt.Errorf("access key %s: after %v: %w: want 0 to %v", old, after, registry.ErrInvalid,
			maxOverlap)
	}
	id, secret = pki.NewAccessKey()
	err = audit.Update(ctx, d.store, func(tx *registry.Tx) error {
		k, err := tx.AccessKey(old)
		if err != nil {
			return err
		}
		now := time.Now().UTC()
		if k.Status != registry.Active || k.Ended(now) {
			return fmt.Errorf("access key %s: %w: it is not active", old, registry.ErrConflict)
		}
		user = k.User
		if after == 0 {
			err = tx.DeleteAccessKey(old)
		} else {
			err = tx.UpdateAccessKey(old, func(k *registry.AccessKey) {
				if end := now.Add(after); k.Ends.IsZero() || end.Before(k.Ends) {
					k.Ends = end
				}
			})
		}
		if err != nil {
			return err
		}
		return tx.AddAccessKey(registry.AccessKey{ID: id, User: user, Secret: secret, Policies: k.Policies})
	})
	return user, id, secret, err
}

// SetKeyStatus makes a key registry.Active or registry.Inactive.
func (d *Directory) SetKeyStatus(ctx context.Context, id string, s registry.Status) error {
	return audit.Update(ctx, d.store, func(tx *registry.Tx) error {
		return tx.UpdateAccessKey(id, func(k *registry.AccessKey) { k.Status = s })
	})
}

// DeleteKey deletes a key.
func (d *Directory) DeleteKey(ctx context.Context, id string) error {
	return audit.Update(ctx, d.store, func(tx *registry.Tx) error { return tx.DeleteAccessKey(id) })
}

// Users lists all users by name.
func (d *Directory) Users() (all []UserInfo, err error) {
	all = []UserInfo{}
	err = d.store.View(func(tx *registry.Tx) error {
		rows, err := tx.Users()
		for _, u := range rows {
			info, err := d.info(tx, u)
			if err != nil {
				return err
			}
			all = append(all, info)
		}
		return err
	})
	return all, err
}

// User tells of one user.
func (d *Directory) User(name string) (info UserInfo, err error) {
	err = d.store.View(func(tx *registry.Tx) error {
		u, err := tx.User(name)
		if err == nil {
			info, err = d.info(tx, u)
		}
		return err
	})
	return info, err
}

func (d *Directory) info(tx *registry.Tx, u registry.User) (UserInfo, error) {
	keys, err := d.keyInfos(tx, u.Name)
	return UserInfo{u.Name, append([]string{}, u.Roles...), u.Policies, u.Password != "", keys, u.Created, u.Changed},
		err
}

// Keys lists the keys of a user, or with "" of all users, the oldest first.
func (d *Directory) Keys(user string) (all []KeyInfo, err error) {
	err = d.store.View(func(tx *registry.Tx) error {
		if user != "" && !tx.HasUser(user) {
			return fmt.Errorf("user %q: %w", user, registry.ErrNotFound)
		}
		all, err = d.keyInfos(tx, user)
		return err
	})
	return all, err
}

func (d *Directory) keyInfos(tx *registry.Tx, user string) ([]KeyInfo, error) {
	all := []KeyInfo{}
	rows, err := tx.AccessKeys(user)
	for _, k := range rows {
		use := d.LastUse(k.ID)
		all = append(all, KeyInfo{ID: k.ID, User: k.User, Status: k.Status, Policies: maps.Clone(k.Policies),
			Created: k.Created, Ends: k.Ends, Used: use.At, Service: use.Service})
	}
	slices.SortFunc(all, func(a, b KeyInfo) int { return a.Created.Compare(b.Created) })
	return all, err
}
