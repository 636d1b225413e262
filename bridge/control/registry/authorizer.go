package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"time"
)

var authorizerName = regexp.MustCompile(`^[\w=,@-]{1,128}$`)

// maxSigningKeys is how many public keys an authorizer has (API reference:
// 2 are enough to change one for another; the quota is not told).
const maxSigningKeys = 10

// An Authorizer is a custom authorizer that was made through the API. The
// registry checks its form; what its keys are is for control/customauth.
type Authorizer struct {
	Name            string            `json:"-"`
	Function        string            `json:"function"` // an ARN
	TokenKey        string            `json:"token_key,omitempty"`
	Keys            map[string]string `json:"keys,omitempty"` // PEM by name
	SigningDisabled bool              `json:"signing_disabled,omitempty"`
	Cache           bool              `json:"cache,omitempty"` // for HTTPS: a verdict holds for its connection
	Status          Status            `json:"status"`          // ACTIVE or INACTIVE
	Created         time.Time         `json:"created"`
	Modified        time.Time         `json:"modified"`
}

func (a *Authorizer) check() error {
	switch {
	case !authorizerName.MatchString(a.Name):
		return fmt.Errorf("authorizer %q: %w: want 1 to 128 of a-z A-Z 0-9 _ = , @ -", a.Name, ErrInvalid)
	case a.Function == "" || len(a.Function) > 2048:
		return fmt.Errorf("authorizer %s: function %.100q: %w: want an ARN of at most 2048 characters", a.Name,
			a.Function, ErrInvalid)
	case a.Status != Active && a.Status != Inactive:
		return fmt.Errorf("authorizer %s: status %q: %w: want ACTIVE or INACTIVE", a.Name, a.Status, ErrInvalid)
	case len(a.TokenKey) > 128:
		return fmt.Errorf("authorizer %s: token key of %d bytes: %w: want at most 128", a.Name, len(a.TokenKey),
			ErrInvalid)
	case len(a.Keys) > maxSigningKeys:
		return fmt.Errorf("authorizer %s: %d signing keys: %w: want at most %d", a.Name, len(a.Keys), ErrInvalid,
			maxSigningKeys)
	case !a.SigningDisabled && (len(a.Keys) == 0 || a.TokenKey == ""):
		return fmt.Errorf("authorizer %s: %w: want tokenKeyName and tokenSigningPublicKeys, or signingDisabled", a.Name,
			ErrInvalid)
	}
	return nil
}

// CreateAuthorizer makes an authorizer. One of that name is ErrExists.
func (t *Tx) CreateAuthorizer(a Authorizer) error {
	if a.Status == "" {
		a.Status = Inactive // as AWS
	}
	if err := a.check(); err != nil {
		return err
	}
	if t.has(bAuthorizers, a.Name) {
		return fmt.Errorf("authorizer %s: %w", a.Name, ErrExists)
	}
	a.Created = t.reg.now().UTC()
	a.Modified = a.Created
	t.changed(AuthorizerChanged, a.Name)
	return t.put(bAuthorizers, a.Name, &a)
}

// Authorizer returns an authorizer.
func (t *Tx) Authorizer(name string) (Authorizer, error) {
	a := Authorizer{Name: name}
	err := t.get(bAuthorizers, "authorizer", name, &a)
	return a, err
}

// UpdateAuthorizer gives an authorizer what f makes of it.
func (t *Tx) UpdateAuthorizer(name string, f func(*Authorizer)) error {
	a, err := t.Authorizer(name)
	if err != nil {
		return err
	}
	created := a.Created
	a.Keys = maps.Clone(a.Keys)
	f(&a)
	a.Name, a.Created, a.Modified = name, created, t.reg.now().UTC()
	if err := a.check(); err != nil {
		return err
	}
	t.changed(AuthorizerChanged, name)
	return t.put(bAuthorizers, name, &a)
}

// DeleteAuthorizer deletes an authorizer that is INACTIVE and not the default,
// else ErrInUse.
func (t *Tx) DeleteAuthorizer(name string) error {
	a, err := t.Authorizer(name)
	if err != nil {
		return err
	}
	if a.Status == Active || t.DefaultAuthorizer() == name {
		return fmt.Errorf("authorizer %s is active, or the default: %w", name, ErrInUse)
	}
	if err := t.deleteTags("authorizer/" + name); err != nil {
		return err
	}
	t.changed(AuthorizerChanged, name)
	return t.tx.Table(bAuthorizers).Delete([]byte(name))
}

// DefaultAuthorizer is the name of the one that is asked for clients that name
// none, "" for none.
func (t *Tx) DefaultAuthorizer() string { return string(t.tx.Table(bMeta).Get(keyDefaultAuthorizer)) }

// SetDefaultAuthorizer makes an authorizer the default, "" for none. When there
// is another it is ErrExists.
func (t *Tx) SetDefaultAuthorizer(name string) error {
	old := t.DefaultAuthorizer()
	if name == old {
		return nil
	}
	t.changed(AuthorizerChanged, name)
	if name == "" {
		return t.tx.Table(bMeta).Delete(keyDefaultAuthorizer)
	}
	if old != "" {
		return fmt.Errorf("default authorizer: %s is: %w", old, ErrExists)
	}
	if !t.has(bAuthorizers, name) {
		return fmt.Errorf("authorizer %q: %w", name, ErrNotFound)
	}
	return t.tx.Table(bMeta).Put(keyDefaultAuthorizer, []byte(name))
}

// Authorizers lists authorizers by name; see Things.
func (t *Tx) Authorizers(after string, n int) (page []Authorizer, next string, err error) {
	next, err = t.page(bAuthorizers, after, n, func(key string, raw []byte) (bool, error) {
		a := Authorizer{Name: key}
		if err := json.Unmarshal(raw, &a); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		page = append(page, a)
		return true, nil
	})
	return page, next, err
}
