package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// Limits of users and their keys.
const (
	maxUsers = 1000 // our choice: all are in memory
	// maxUserKeys is AWS's (IAM quotas, access keys assigned to an IAM user), active
	// or not. One that has ended does not count.
	maxUserKeys = 2
	// maxUserPolicies are the inline policies of a user, and of a key; each has
	// at most authz.MaxDocument characters, as AWS's of a user together. Our choice.
	maxUserPolicies = 10
	maxUserRoles    = 10
)

// userName is IAM's (CreateUser).
var userName = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)

// A User is a person or a program that has access keys.
type User struct {
	Name     string                     `json:"-"`
	Roles    []string                   `json:"roles,omitempty"`
	Policies map[string]json.RawMessage `json:"policies,omitempty"` // by name
	Password string                     `json:"password,omitempty"` // its hash; "": none was set
	Created  time.Time                  `json:"created"`
	Changed  time.Time                  `json:"changed"`
}

// checkInline checks inline policies.
func checkInline(what string, policies map[string]json.RawMessage) error {
	if len(policies) > maxUserPolicies {
		return fmt.Errorf("%s: %d policies: %w: want at most %d", what, len(policies), ErrLimit, maxUserPolicies)
	}
	for name, doc := range policies {
		if !policyName.MatchString(name) {
			return fmt.Errorf("%s: policy name %q: %w: want 1 to 128 of a-z A-Z 0-9 _ + = , . @ -", what, name,
				ErrInvalid)
		}
		if _, err := authz.Parse(doc); err != nil {
			return fmt.Errorf("%s: policy %s: %w", what, name, err)
		}
	}
	return nil
}

func (u *User) check() error {
	switch {
	case !userName.MatchString(u.Name), u.Name == ".", u.Name == "..": // which no path of the API can name
		return fmt.Errorf("user name %.100q: %w: want 1 to 64 of a-z A-Z 0-9 _ + = , . @ -", u.Name, ErrInvalid)
	case len(u.Roles) > maxUserRoles:
		return fmt.Errorf("user %s: %d roles: %w: want at most %d", u.Name, len(u.Roles), ErrLimit, maxUserRoles)
	}
	return checkInline("user "+u.Name, u.Policies)
}

// CreateUser makes a user. One of that name, in whatever case, is ErrExists.
func (t *Tx) CreateUser(u User) error {
	if err := u.check(); err != nil {
		return err
	}
	n := 0
	err := table.Each(t.tx.Table(bUsers), func(name, _ []byte) error {
		if strings.EqualFold(string(name), u.Name) { // as in IAM: alice and Alice would be taken for one another
			return fmt.Errorf("user %s: %w: as %s", u.Name, ErrExists, name)
		}
		n++
		return nil
	})
	if err != nil {
		return err
	}
	if n >= maxUsers {
		return fmt.Errorf("user %s: %w: there are %d users already", u.Name, ErrLimit, n)
	}
	u.Created = t.reg.now().UTC()
	u.Changed = u.Created
	t.changed(UserChanged, u.Name)
	return t.put(bUsers, u.Name, &u)
}

// HasUser says whether there is a user.
func (t *Tx) HasUser(name string) bool { return t.has(bUsers, name) }

// User returns a user.
func (t *Tx) User(name string) (User, error) {
	u := User{Name: name}
	err := t.get(bUsers, "user", name, &u)
	return u, err
}

// UpdateUser gives a user what f makes of it: Roles, Policies and Password count.
func (t *Tx) UpdateUser(name string, f func(*User)) error {
	u, err := t.User(name)
	if err != nil {
		return err
	}
	created := u.Created
	u.Policies = maps.Clone(u.Policies)
	f(&u)
	u.Name, u.Created, u.Changed = name, created, t.reg.now().UTC()
	if err := u.check(); err != nil {
		return err
	}
	t.changed(UserChanged, name)
	return t.put(bUsers, name, &u)
}

// DeleteUser deletes a user with all keys.
func (t *Tx) DeleteUser(name string) error {
	if !t.has(bUsers, name) {
		return fmt.Errorf("user %q: %w", name, ErrNotFound)
	}
	for _, id := range t.links(bUserKeys, name) {
		if err := t.DeleteAccessKey(id); err != nil {
			return err
		}
	}
	t.changed(UserChanged, name)
	return t.tx.Table(bUsers).Delete([]byte(name))
}

// Users lists all users by name.
func (t *Tx) Users() (all []User, err error) {
	err = table.Each(t.tx.Table(bUsers), func(name, raw []byte) error {
		u := User{Name: string(name)}
		if err := json.Unmarshal(raw, &u); err != nil {
			return fmt.Errorf("user %q: %w: %w", name, ErrCorrupt, err)
		}
		all = append(all, u)
		return nil
	})
	return all, err
}

// An AccessKey is a user's. Its secret is what signatures are made with, so it is
// stored as it is.
type AccessKey struct {
	ID     string `json:"-"`
	User   string `json:"user"`
	Secret string `json:"secret"`
	Status Status `json:"status"` // Active or Inactive
	// Policies narrow the user's rights; empty: these are the key's.
	Policies map[string]json.RawMessage `json:"policies,omitempty"`
	Created  time.Time                  `json:"created"`
	Ends     time.Time                  `json:"ends,omitzero"` // zero: it does not end by itself
}

// accessKeyID is the shape of a key's id, AWS's.
var accessKeyID = regexp.MustCompile(`^[A-Z0-9]{16,128}$`)

// AddAccessKey gives a user a key, of ID, User, Secret and Policies, which is
// active. Keys of the user that have ended go.
func (t *Tx) AddAccessKey(k AccessKey) error {
	if !accessKeyID.MatchString(k.ID) || k.Secret == "" {
		return fmt.Errorf("access key %.20q: %w", k.ID, ErrInvalid)
	}
	if err := checkInline("access key "+k.ID, k.Policies); err != nil {
		return err
	}
	if !t.has(bUsers, k.User) {
		return fmt.Errorf("user %q: %w", k.User, ErrNotFound)
	}
	if t.has(bAccessKeys, k.ID) {
		return fmt.Errorf("access key %s: %w", k.ID, ErrExists)
	}
	have, err := t.AccessKeys(k.User)
	if err != nil {
		return err
	}
	for _, old := range have {
		if old.Ended(t.reg.deletes()) {
			if err := t.DeleteAccessKey(old.ID); err != nil {
				return err
			}
		}
	}
	if n := count(have, t.reg.now()); n >= maxUserKeys {
		return fmt.Errorf("user %s: %w: there are %d access keys: revoke one first", k.User, ErrLimit, n)
	}
	k.Status, k.Created = Active, t.reg.now().UTC()
	if err := t.addLink(bUserKeys, k.User, k.ID); err != nil {
		return err
	}
	t.changed(UserChanged, k.User)
	return t.put(bAccessKeys, k.ID, &k)
}

// count is how many keys have not ended.
func count(keys []AccessKey, now time.Time) (n int) {
	for _, k := range keys {
		if !k.Ended(now) {
			n++
		}
	}
	return n
}

// EndAccessKeys deletes the keys whose time is over, and has watchers hear of them.
// One that is over by the wall clock alone stays, and is over all the same.
func (t *Tx) EndAccessKeys() error {
	all, err := t.AccessKeys("")
	if err != nil {
		return err
	}
	for _, k := range all {
		if !k.Ended(t.reg.now()) {
			continue
		}
		t.changed(UserChanged, k.User)
		if k.Ended(t.reg.deletes()) {
			if err := t.DeleteAccessKey(k.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// Ended says whether the time of a key is over.
func (k *AccessKey) Ended(now time.Time) bool { return !k.Ends.IsZero() && !now.Before(k.Ends) }

// AccessKey returns a key, which may have ended.
func (t *Tx) AccessKey(id string) (AccessKey, error) {
	k := AccessKey{ID: id}
	err := t.get(bAccessKeys, "access key", id, &k)
	return k, err
}

// AccessKeys lists the keys of a user, or with "" of all users, by id.
func (t *Tx) AccessKeys(user string) (all []AccessKey, err error) {
	var ids []string
	if user != "" {
		ids = t.links(bUserKeys, user)
	} else if err := table.Each(t.tx.Table(bAccessKeys), func(id, _ []byte) error {
		ids = append(ids, string(id))
		return nil
	}); err != nil {
		return nil, err
	}
	for _, id := range ids {
		k, err := t.AccessKey(id)
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

// UpdateAccessKey gives a key what f makes of it: Status and Ends count.
func (t *Tx) UpdateAccessKey(id string, f func(*AccessKey)) error {
	old, err := t.AccessKey(id)
	if err != nil {
		return err
	}
	k := old
	f(&k)
	if k.Status != Active && k.Status != Inactive {
		return fmt.Errorf("access key %s: status %.20q: %w: want %s or %s", id, k.Status, ErrInvalid, Active, Inactive)
	}
	old.Status, old.Ends = k.Status, k.Ends
	t.changed(UserChanged, old.User)
	return t.put(bAccessKeys, id, &old)
}

// DeleteAccessKey deletes a key.
func (t *Tx) DeleteAccessKey(id string) error {
	k, err := t.AccessKey(id)
	if err != nil {
		return err
	}
	if err := t.removeLink(bUserKeys, k.User, id); err != nil {
		return err
	}
	if err := t.tx.Table(bKeyUses).Delete([]byte(id)); err != nil {
		return err
	}
	t.changed(UserChanged, k.User)
	return t.tx.Table(bAccessKeys).Delete([]byte(id))
}

// A KeyUse is when an access key was used last, and for which service.
type KeyUse struct {
	At      time.Time `json:"at"`
	Service string    `json:"service"`
}

// SetKeyUse keeps the last use of a key, of a user or of a file.
func (t *Tx) SetKeyUse(id string, u KeyUse) error { return t.put(bKeyUses, id, &u) }

// KeyUses are the last uses that are kept, by key.
func (t *Tx) KeyUses() (map[string]KeyUse, error) {
	all := map[string]KeyUse{}
	err := table.Each(t.tx.Table(bKeyUses), func(id, raw []byte) error {
		var u KeyUse
		if err := json.Unmarshal(raw, &u); err != nil {
			return fmt.Errorf("last use of access key %q: %w: %w", id, ErrCorrupt, err)
		}
		all[string(id)] = u
		return nil
	})
	return all, err
}
