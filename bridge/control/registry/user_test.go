package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// keyNumber is an access key's id.
func keyNumber(n int) string { return fmt.Sprintf("AKIATESTTESTTEST%04d", n) }

// TestUsers makes, changes and deletes users and keys.
func TestUsers(t *testing.T) {
	r := open(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r.now = func() time.Time { return now }
	var heard []Event
	r.Watch(func(e Event) { heard = append(heard, e) })
	some := map[string]json.RawMessage{"p": allow("kinesis:PutRecord", "*")}
	many := map[string]json.RawMessage{}
	for i := range maxUserPolicies + 1 {
		many[fmt.Sprint("p", i)] = some["p"]
	}
	for _, c := range []struct {
		name string
		do   func(*Tx) error
		want error
	}{
		{"a user", func(tx *Tx) error { return tx.CreateUser(User{Name: "alice", Policies: some}) }, nil},
		{"again", func(tx *Tx) error { return tx.CreateUser(User{Name: "alice"}) }, ErrExists},
		{"a name", func(tx *Tx) error { return tx.CreateUser(User{Name: "a b"}) }, ErrInvalid},
		{"no name", func(tx *Tx) error { return tx.CreateUser(User{}) }, ErrInvalid},
		{"policies", func(tx *Tx) error { return tx.CreateUser(User{Name: "bob", Policies: many}) }, ErrLimit},
		{"a policy", func(tx *Tx) error {
			return tx.CreateUser(User{Name: "bob", Policies: map[string]json.RawMessage{"p": []byte("{}")}})
		}, authz.ErrMalformed},
		{"a key", func(tx *Tx) error {
			return tx.AddAccessKey(AccessKey{ID: keyNumber(1), User: "alice", Secret: "s1"})
		}, nil},
		{"the same key", func(tx *Tx) error {
			return tx.AddAccessKey(AccessKey{ID: keyNumber(1), User: "alice", Secret: "s1"})
		}, ErrExists},
		{"of nobody", func(tx *Tx) error {
			return tx.AddAccessKey(AccessKey{ID: keyNumber(2), User: "bob", Secret: "s"})
		}, ErrNotFound},
		{"two keys", func(tx *Tx) error {
			return tx.AddAccessKey(AccessKey{ID: keyNumber(2), User: "alice", Secret: "s2", Policies: some})
		}, nil},
		{"three keys", func(tx *Tx) error {
			return tx.AddAccessKey(AccessKey{ID: keyNumber(3), User: "alice", Secret: "s3"})
		}, ErrLimit},
		{"a status", func(tx *Tx) error {
			return tx.UpdateAccessKey(keyNumber(1), func(k *AccessKey) { k.Status = Revoked })
		}, ErrInvalid},
		{"one ends", func(tx *Tx) error {
			return tx.UpdateAccessKey(keyNumber(1), func(k *AccessKey) { k.Ends, k.Secret = now, "other" })
		}, nil},
		{"used", func(tx *Tx) error { return tx.SetKeyUse(keyNumber(1), KeyUse{now, "kinesis"}) }, nil},
		{"in its place another", func(tx *Tx) error {
			return tx.AddAccessKey(AccessKey{ID: keyNumber(3), User: "alice", Secret: "s3"})
		}, nil},
		{"it is gone", func(tx *Tx) error { return tx.DeleteAccessKey(keyNumber(1)) }, ErrNotFound},
		{"changed", func(tx *Tx) error {
			return tx.UpdateUser("alice", func(u *User) { u.Roles, u.Name = []string{"viewer"}, "other" })
		}, nil},
	} {
		heard = nil
		err := r.Update(c.do)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if told := slices.Contains(heard, Event{UserChanged, "alice"}); told != (c.want == nil && c.name != "used") {
			t.Errorf("%s: told %v", c.name, heard)
		}
	}
	update(t, r, func(tx *Tx) error {
		u, err := tx.User("alice")
		keys, err2 := tx.AccessKeys("alice")
		uses, err3 := tx.KeyUses()
		if len(keys) != 2 || keys[0].Secret != "s2" || keys[0].Status != Active || len(uses) != 0 ||
			u.Roles[0] != "viewer" || u.Created != now {
			t.Errorf("%+v\n%+v\n%v", u, keys, uses)
		}
		return errors.Join(err, err2, err3, tx.SetKeyUse(keyNumber(2), KeyUse{now, "iot"}), tx.DeleteUser("alice"))
	})
	_ = r.View(func(tx *Tx) error {
		users, _ := tx.Users()
		keys, _ := tx.AccessKeys("")
		uses, _ := tx.KeyUses()
		if len(users)+len(keys)+len(uses)+len(tx.links(bUserKeys, "alice")) != 0 {
			t.Errorf("%v %v %v", users, keys, uses)
		}
		return nil
	})
}

// There are at most maxUsers.
func TestMaxUsers(t *testing.T) {
	r := open(t)
	update(t, r, func(tx *Tx) error {
		var errs []error
		for i := range maxUsers {
			errs = append(errs, tx.CreateUser(User{Name: fmt.Sprint("u", i)}))
		}
		return errors.Join(errs...)
	})
	if err := r.Update(func(tx *Tx) error { return tx.CreateUser(User{Name: "more"}) }); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
}

// A registry of before there were users opens, and has none.
func TestUsersOfEarlierVersions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	r, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	update(t, r, func(tx *Tx) error { return tx.CreateThing(Thing{Name: "t"}) })
	if err := r.engine.Update(func(tx table.Tx) error {
		return errors.Join(tx.Drop(bUsers), tx.Drop(bAccessKeys), tx.Drop(bUserKeys), tx.Drop(bKeyUses))
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = openFile(path); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	update(t, r, func(tx *Tx) error {
		users, err := tx.Users()
		if len(users) != 0 {
			t.Error(users)
		}
		_, err2 := tx.Thing("t")
		return errors.Join(err, err2, tx.CreateUser(User{Name: "alice"}))
	})
}

// What is left of a registry that is not all there lets nobody in.
func TestUsersOfSalvage(t *testing.T) {
	e, err := bolt.Open(filepath.Join(t.TempDir(), "registry.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(e, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	update(t, r, func(tx *Tx) error {
		return errors.Join(tx.CreateUser(User{Name: "alice", Password: "hash"}), tx.CreateUser(User{Name: "bob"}),
			tx.AddAccessKey(AccessKey{ID: keyNumber(1), User: "alice", Secret: "s1"}))
	})
	if n, err := distrust(e); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	_ = r.View(func(tx *Tx) error {
		u, err1 := tx.User("alice")
		k, err2 := tx.AccessKey(keyNumber(1))
		if u.Password != "" || k.Status != Inactive || k.Secret != "s1" || err1 != nil || err2 != nil {
			t.Errorf("%+v %+v %v %v", u, k, err1, err2)
		}
		return nil
	})
}
