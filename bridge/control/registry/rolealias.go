package registry

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"regexp"
	"time"
)

// Bounds of a role alias (API reference, CreateRoleAlias).
const (
	leastCredentialTime   = 900 * time.Second
	mostCredentialTime    = 43200 * time.Second
	defaultCredentialTime = 3600 * time.Second
)

var aliasName = regexp.MustCompile(`^[\w=,@-]{1,128}$`)

// A RoleAlias is the name by which devices ask for the rights of a role.
type RoleAlias struct {
	Name     string        `json:"-"`
	Role     string        `json:"role"` // an ARN
	Life     time.Duration `json:"life"` // of credentials, in ns
	Created  time.Time     `json:"created"`
	Modified time.Time     `json:"modified"`
}

func (a *RoleAlias) check() error {
	switch {
	case !aliasName.MatchString(a.Name):
		return fmt.Errorf("role alias %q: %w: want 1 to 128 of a-z A-Z 0-9 _ = , @ -", a.Name, ErrInvalid)
	case len(a.Role) < 20 || len(a.Role) > 2048:
		return fmt.Errorf("role alias %s: role %.100q: %w: want an ARN of 20 to 2048 characters", a.Name, a.Role,
			ErrInvalid)
	case a.Life < leastCredentialTime || a.Life > mostCredentialTime:
		return fmt.Errorf("role alias %s: credentials of %v: %w: want %v to %v", a.Name, a.Life, ErrInvalid,
			leastCredentialTime, mostCredentialTime)
	}
	return nil
}

// CreateRoleAlias makes a role alias of Name, Role and Life (0: the default). One of that name is
// ErrExists.
func (t *Tx) CreateRoleAlias(a RoleAlias) error {
	if a.Life == 0 {
		a.Life = defaultCredentialTime
	}
	if err := a.check(); err != nil {
		return err
	}
	if t.has(bRoleAliases, a.Name) {
		return fmt.Errorf("role alias %s: %w", a.Name, ErrExists)
	}
	a.Created = t.reg.now().UTC()
	a.Modified = a.Created
	return t.put(bRoleAliases, a.Name, &a)
}

// RoleAlias returns a role alias.
func (t *Tx) RoleAlias(name string) (RoleAlias, error) {
	a := RoleAlias{Name: name}
	err := t.get(bRoleAliases, "role alias", name, &a)
	return a, err
}

// UpdateRoleAlias gives a role alias what f makes of it: Role and Life count.
func (t *Tx) UpdateRoleAlias(name string, f func(*RoleAlias)) error {
	a, err := t.RoleAlias(name)
	if err != nil {
		return err
	}
	created := a.Created
	f(&a)
	a.Name, a.Created, a.Modified = name, created, t.reg.now().UTC()
	if err := a.check(); err != nil {
		return err
	}
	return t.put(bRoleAliases, name, &a)
}

// DeleteRoleAlias deletes a role alias. Credentials that were given out go on
// until they expire.
func (t *Tx) DeleteRoleAlias(name string) error {
	if !t.has(bRoleAliases, name) {
		return fmt.Errorf("role alias %q: %w", name, ErrNotFound)
	}
	if err := t.deleteTags("rolealias/" + name); err != nil {
		return err
	}
	return t.tx.Table(bRoleAliases).Delete([]byte(name))
}

// RoleAliases lists role aliases by name; see Things.
func (t *Tx) RoleAliases(after string, n int) (page []RoleAlias, next string, err error) {
	next, err = t.page(bRoleAliases, after, n, func(key string, raw []byte) (bool, error) {
		a := RoleAlias{Name: key}
		if err := json.Unmarshal(raw, &a); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		page = append(page, a)
		return true, nil
	})
	return page, next, err
}

// A TemporaryKey is an access key that was given to the holder of a certificate.
// Its secret is not stored: it follows from its id.
type TemporaryKey struct {
	ID          string    `json:"-"`
	Role        string    `json:"role"`
	Certificate string    `json:"certificate"`
	Thing       string    `json:"thing,omitempty"`
	Expires     time.Time `json:"expires"`
}

// forgetKeys is how many keys that have expired a new one takes with it: more
// than one, so that they come to an end.
const forgetKeys = 8

// AddTemporaryKey stores a key; again is no error.
func (t *Tx) AddTemporaryKey(k TemporaryKey) error {
	ends := t.tx.Table(bKeyEnds)
	var old [][]byte
	c := ends.Cursor()
	now := uint64(t.reg.deletes().UnixMilli())
	for e, _ := c.First(); e != nil && binary.BigEndian.Uint64(e) < now && len(old) < forgetKeys; e, _ = c.Next() {
		old = append(old, append([]byte(nil), e...))
	}
	for _, e := range old {
		if err := ends.Delete(e); err != nil {
			return err
		}
		if err := t.tx.Table(bKeys).Delete(e[8:]); err != nil {
			return err
		}
	}
	end := append(binary.BigEndian.AppendUint64(nil, uint64(k.Expires.UnixMilli())), k.ID...)
	if err := ends.Put(end, []byte{}); err != nil {
		return err
	}
	return t.put(bKeys, k.ID, &k)
}

// TemporaryKey returns a key that has not expired, of a certificate that is
// active; else ErrNotFound.
func (t *Tx) TemporaryKey(id string) (TemporaryKey, error) {
	k := TemporaryKey{ID: id}
	if err := t.get(bKeys, "access key", id, &k); err != nil {
		return k, err
	}
	c, err := t.Certificate(k.Certificate)
	if err != nil {
		return k, err
	}
	if c.Status != Active || t.reg.now().After(k.Expires) {
		return k, fmt.Errorf("access key %s has expired, or its certificate is not active: %w", id, ErrNotFound)
	}
	return k, nil
}
