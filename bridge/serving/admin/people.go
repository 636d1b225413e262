package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// NewUser asks for a user, or for a change of one: Roles and Policies then take the
// place of all there are.
type NewUser struct {
	Name     string                     `json:"name"`
	Roles    []string                   `json:"roles"`
	Policies map[string]json.RawMessage `json:"policies,omitempty"`
}

// NewPassword asks for a password of a user; "" for none.
type NewPassword struct {
	Password string `json:"password"`
}

// NewAccessKey asks for an access key.
type NewAccessKey struct {
	User     string                     `json:"user"`
	Policies map[string]json.RawMessage `json:"policies,omitempty"` // that narrow the user's rights
}

// Rotation asks for a key beside one, which ends after a time.
type Rotation struct {
	After time.Duration `json:"after_ns"`
}

// A CreatedKey is an access key with its secret, which is shown here once.
type CreatedKey struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
	User   string `json:"user"`
}

// KeyStatus asks for a state of an access key, ACTIVE or INACTIVE.
type KeyStatus struct {
	Status registry.Status `json:"status"`
}

// users are the bridge's people.
type users struct{ people *people.Directory }

func (h *users) list(w http.ResponseWriter, _ *http.Request) error {
	all, err := h.people.Users()
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

func (h *users) get(w http.ResponseWriter, r *http.Request) error {
	u, err := h.people.User(r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, u)
}

func (h *users) create(_ http.ResponseWriter, r *http.Request) error {
	var in NewUser
	if err := readJSON(r, &in); err != nil {
		return err
	}
	return h.people.CreateUser(r.Context(), in.Name, in.Roles, in.Policies)
}

func (h *users) change(_ http.ResponseWriter, r *http.Request) error {
	var in NewUser
	if err := readJSON(r, &in); err != nil {
		return err
	}
	name := r.PathValue("name")
	if in.Name != "" && in.Name != name {
		return badRequest{fmt.Errorf("name %q: a user keeps the name", in.Name)}
	}
	return h.people.ChangeUser(r.Context(), name, in.Roles, in.Policies)
}

func (h *users) remove(_ http.ResponseWriter, r *http.Request) error {
	return h.people.DeleteUser(r.Context(), r.PathValue("name"))
}

func (h *users) setPassword(_ http.ResponseWriter, r *http.Request) error {
	var in NewPassword
	if err := readJSON(r, &in); err != nil {
		return err
	}
	return h.people.SetPassword(r.Context(), r.PathValue("name"), in.Password)
}

// accessKeys are those of users, and those that files declare.
type accessKeys struct {
	people   *people.Directory
	declared func() []people.KeyInfo
}

// all lists the keys of a user, or with "" all there are: those of files first.
func (h *accessKeys) all(user string) ([]people.KeyInfo, error) {
	all := []people.KeyInfo{}
	if user == "" {
		for _, k := range h.declared() {
			use := h.people.LastUse(k.ID)
			k.Used, k.Service = use.At, use.Service
			all = append(all, k)
		}
	}
	keys, err := h.people.Keys(user)
	return append(all, keys...), err
}

// list answers with all keys, or those of ?user=.
func (h *accessKeys) list(w http.ResponseWriter, r *http.Request) error {
	all, err := h.all(r.URL.Query().Get("user"))
	if err != nil {
		return err
	}
	return writeJSON(w, all)
}

func (h *accessKeys) get(w http.ResponseWriter, r *http.Request) error {
	all, err := h.all("")
	for _, k := range all {
		if k.ID == r.PathValue("id") {
			return writeJSON(w, k)
		}
	}
	return errors.Join(err, fmt.Errorf("access key %q: %w", r.PathValue("id"), registry.ErrNotFound))
}

func (h *accessKeys) create(w http.ResponseWriter, r *http.Request) error {
	var in NewAccessKey
	if err := readJSON(r, &in); err != nil {
		return err
	}
	id, secret, err := h.people.CreateKey(r.Context(), in.User, in.Policies)
	if err != nil {
		return err
	}
	return writeJSON(w, CreatedKey{id, secret, in.User})
}

// stored returns an error for a key of a file, which is changed there.
func (h *accessKeys) stored(id string) error {
	for _, k := range h.declared() {
		if k.ID == id {
			return fmt.Errorf("access key %s: %w: it is declared in %s: change it there, then tidemill-bridge reload",
				id, registry.ErrConflict, k.Declared)
		}
	}
	return nil
}

func (h *accessKeys) rotate(w http.ResponseWriter, r *http.Request) error {
	var in Rotation
	id := r.PathValue("id")
	if err := errors.Join(readJSON(r, &in), h.stored(id)); err != nil {
		return err
	}
	user, id, secret, err := h.people.RotateKey(r.Context(), id, in.After)
	if err != nil {
		return err
	}
	return writeJSON(w, CreatedKey{id, secret, user})
}

func (h *accessKeys) setStatus(_ http.ResponseWriter, r *http.Request) error {
	var in KeyStatus
	id := r.PathValue("id")
	if err := errors.Join(readJSON(r, &in), h.stored(id)); err != nil {
		return err
	}
	return h.people.SetKeyStatus(r.Context(), id, in.Status)
}

func (h *accessKeys) remove(_ http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if err := h.stored(id); err != nil {
		return err
	}
	return h.people.DeleteKey(r.Context(), id)
}
