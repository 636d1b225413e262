package people

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
)

// openAt opens the directory of a registry file.
func openAt(t testing.TB, path string) (*Directory, *registry.Registry) {
	t.Helper()
	e, err := bolt.Open(path, bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := registry.New(e, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(r, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return d, r
}

func open(t testing.TB) *Directory {
	t.Helper()
	d, r := openAt(t, filepath.Join(t.TempDir(), "registry.db"))
	t.Cleanup(func() {
		if err := errors.Join(d.Close(), r.Close()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func ok(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// inline is one policy.
func inline(effect, action, resource string) map[string]json.RawMessage {
	return map[string]json.RawMessage{"p": json.RawMessage(`{"Version":"2012-10-17","Statement":{"Effect":"` + effect +
		`","Action":"` + action + `","Resource":"` + resource + `"}}`)}
}

const streamA = "arn:aws:kinesis:eu-local-1:000000000000:stream/a"

// What holds of a user holds of all keys with the change that makes it so.
func TestRightsFollowChanges(t *testing.T) {
	d := open(t)
	ok(t, d.CreateUser(t.Context(), "alice", nil, nil))
	id, secret, err := d.CreateKey(t.Context(), "alice", nil)
	ok(t, err)
	may := func(id, action string) bool {
		k := d.Key(id)
		if k == nil {
			return false
		}
		some, all := k.Rights.Scope(action, authz.Context{})
		allowed := k.Rights.Allow(action, streamA, authz.Context{})
		if all && !allowed || allowed && !some {
			t.Errorf("%s: scope %v %v, allowed %v", action, some, all, allowed)
		}
		return allowed
	}
	if k := d.Key(id); k == nil || k.Secret != secret || k.Rights.User() != "alice" || may(id, "kinesis:PutRecord") {
		t.Errorf("%+v", k)
	}
	before := d.Generation()
	ok(t, d.ChangeUser(t.Context(), "alice", []string{DeviceData}, inline("Deny", "kinesis:GetRecords", streamA)))
	if !may(id, "kinesis:PutRecord") || may(id, "kinesis:GetRecords") || d.Generation() == before {
		t.Error("a role and a policy are not in force")
	}
	narrow, _, err := d.CreateKey(t.Context(), "alice", inline("Allow", "kinesis:*", "arn:aws:kinesis:*:*:stream/a"))
	ok(t, err)
	if !may(narrow, "kinesis:PutRecord") || may(narrow, "kinesis:GetRecords") || may(narrow, "kinesis:CreateStream") ||
		may(narrow, "iot:Publish") || !may(id, "iot:Publish") {
		t.Error("a key has more rights than its user, or than its policies")
	}
	data := d.Key(narrow).Rights.Data(authz.Context{})
	if data.Allows(authz.Publish, "x") || !d.Key(id).Rights.Data(authz.Context{}).Allows(authz.Publish, "x") {
		t.Error("the data plane is not narrowed")
	}
	ok(t, d.SetKeyStatus(t.Context(), id, registry.Inactive))
	if d.Key(id) != nil || d.Key(narrow) == nil || d.Owner(id) != "alice" {
		t.Error("an inactive key")
	}
	ok(t, d.SetKeyStatus(t.Context(), id, registry.Active), d.DeleteKey(t.Context(), narrow))
	if d.Key(id) == nil || d.Key(narrow) != nil {
		t.Error("a deleted key")
	}
	ok(t, d.DeleteUser(t.Context(), "alice"))
	if d.Key(id) != nil || d.Owner(id) != "" {
		t.Error("a key of nobody")
	}
}

// A policy with an action that does not exist, of a version that took it, stays: the
// user keeps all other rights, may be changed, and the log says so.
func TestStoredSlip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	d, r := openAt(t, path)
	slip := inline("Deny", "iot:DeleteThng", "*")
	ok(t, r.Update(func(tx *registry.Tx) error {
		return tx.CreateUser(registry.User{Name: "alice", Roles: []string{Operator}, Policies: slip})
	}), d.Close(), r.Close())
	d, r = openAt(t, path)
	defer r.Close()
	defer d.Close()
	ok(t, d.ChangeUser(t.Context(), "alice", []string{Viewer}, slip))
	id, _, err := d.CreateKey(t.Context(), "alice", nil)
	ok(t, err)
	if !d.Key(id).Rights.Allow("iot:DescribeThing", "*", authz.Context{}) {
		t.Error("alice has lost her role")
	}
}

// What people may not be made of.
func TestRefused(t *testing.T) {
	d := open(t)
	ok(t, d.CreateUser(t.Context(), "alice", nil, nil))
	thing := inline("Allow", "iot:Publish", "arn:aws:iot:*:*:topic/${iot:Connection.Thing.ThingName}")
	group := map[string]json.RawMessage{"p": json.RawMessage(`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*",` +
		`"Condition":{"StringEquals":{"aws:PrincipalTag/x":"y"}}}}`)}
	_, _, noUser := d.CreateKey(t.Context(), "bob", nil)
	_, _, badPolicy := d.CreateKey(t.Context(), "alice", thing)
	_, _, _, noKey := d.RotateKey(t.Context(), "AKIANONE", time.Hour)
	slip := inline("Deny", "iot:DeleteThng", "*")
	_, _, slipOfKey := d.CreateKey(t.Context(), "alice", slip)
	for _, c := range []struct {
		name string
		err  error
		want error
		says string
	}{
		{"a role", d.CreateUser(t.Context(), "bob", []string{"root"}, nil), registry.ErrInvalid, "admin, operator, viewer"},
		{"a variable", d.CreateUser(t.Context(), "bob", nil, thing), authz.ErrMalformed, "iot:connection.thing.thingname"},
		{"a condition", d.ChangeUser(t.Context(), "alice", nil, group), authz.ErrMalformed, "aws:principaltag/x"},
		{"a policy of a key", badPolicy, authz.ErrMalformed, "aws:sourceip"},
		{"an action that is none", d.CreateUser(t.Context(), "bob", nil, slip), authz.ErrMalformed,
			`"iot:DeleteThng", the nearest is "iot:DeleteThing"`},
		{"an action that is none, later", d.ChangeUser(t.Context(), "alice", nil, slip), authz.ErrMalformed,
			"iot:DeleteThing"},
		{"an action that is none, of a key", slipOfKey, authz.ErrMalformed, "iot:DeleteThing"},
		{"a name in another case", d.CreateUser(t.Context(), "Alice", nil, nil), registry.ErrExists, "as alice"},
		{"a role twice", d.CreateUser(t.Context(), "bob", []string{Viewer, Operator, Viewer}, nil),
			registry.ErrInvalid, "viewer"},
		{"a key of nobody", noUser, registry.ErrNotFound, "bob"},
		{"a key that is not there", noKey, registry.ErrNotFound, "AKIANONE"},
		{"a short password", d.SetPassword(t.Context(), "alice", "short"), registry.ErrInvalid, "12 characters"},
		{"a password of nobody", d.SetPassword(t.Context(), "bob", "correct horse battery"), registry.ErrNotFound, "bob"},
	} {
		if !errors.Is(c.err, c.want) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
}

func TestSignIn(t *testing.T) {
	d := open(t)
	const right = "correct horse battery"
	ok(t, d.CreateUser(t.Context(), "alice", []string{Viewer}, nil),
		d.CreateUser(t.Context(), "bob", nil, nil), d.SetPassword(t.Context(), "alice", right))
	for _, c := range []struct {
		user, password string
		want           error
	}{
		{"alice", right, nil}, {"alice", right + "!", errSignIn}, {"alice", "", errSignIn}, {"bob", "", errSignIn},
		{"bob", right, errSignIn}, {"carol", right, errSignIn}, {"alice", strings.Repeat("x", 1<<20), errSignIn},
	} {
		r, err := d.SignIn(t.Context(), c.user, c.password)
		if !errors.Is(err, c.want) || (r != nil) != (c.want == nil) {
			t.Errorf("%s %.30q: %v", c.user, c.password, err)
		}
	}
	if info, err := d.User("alice"); err != nil || !info.Password {
		t.Errorf("%+v %v", info, err)
	}
	ok(t, d.SetPassword(t.Context(), "alice", ""))
	if _, err := d.SignIn(t.Context(), "alice", right); !errors.Is(err, errSignIn) {
		t.Error(err)
	}
	for range hashesAtOnce {
		d.hashes <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.SignIn(ctx, "alice", right); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Hashes that say what they should not are no hashes of anything.
func FuzzCheckPassword(f *testing.F) {
	good, err := hashPassword("correct horse battery")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAA")
	f.Add(noHash)
	f.Fuzz(func(t *testing.T, hash string) {
		if checkPassword(hash, "another one, certainly") {
			t.Fatalf("%q is the hash of a password that it was not made of", hash)
		}
		if strings.Count(hash, "$") != 5 && checkPassword(hash, "correct horse battery") {
			t.Fatalf("%q", hash)
		}
	})
}

// A key that was rotated holds for a time beside the new one, also over a restart.
func TestRotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	synctest.Test(t, func(t *testing.T) {
		d, r := openAt(t, path)
		ok(t, d.CreateUser(t.Context(), "alice", []string{Viewer}, nil))
		old, _, err := d.CreateKey(t.Context(), "alice", inline("Allow", "iot:*", "*"))
		ok(t, err)
		user, id, secret, err := d.RotateKey(t.Context(), old, 24*time.Hour)
		ok(t, err)
		if k := d.Key(id); user != "alice" || k == nil || k.Secret != secret || d.Key(old) == nil ||
			k.Rights.Allow("kinesis:ListStreams", "*", authz.Context{}) {
			t.Error("the new key, the one of before, or the policies that narrow it")
		}
		if _, _, _, err := d.RotateKey(t.Context(), id, time.Hour); !errors.Is(err, registry.ErrLimit) {
			t.Error("a third key:", err)
		}
		time.Sleep(time.Hour)
		ok(t, d.Close(), r.Close())
		d, r = openAt(t, path)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		ended := make(chan registry.Event, 8)
		defer r.Watch(func(e registry.Event) { ended <- e })()
		time.Sleep(23*time.Hour - time.Second)
		if d.Key(old) == nil || len(ended) > 0 {
			t.Error("it ended early")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if d.Key(old) != nil || len(ended) != 1 || d.Owner(old) != "" || d.Key(id) == nil {
			t.Errorf("it has not ended; told %d times", len(ended))
		}
		_, now, _, err := d.RotateKey(t.Context(), id, 0)
		if ok(t, err); d.Key(id) != nil || d.Key(now) == nil {
			t.Error("rotated at once")
		}
		stop()
		ok(t, <-done, d.Close(), r.Close())
	})
}

// When a key was used last is written every few minutes and at the end, not with
// each request.
func TestLastUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	synctest.Test(t, func(t *testing.T) {
		d, r := openAt(t, path)
		ok(t, d.CreateUser(t.Context(), "alice", nil, nil))
		id, _, err := d.CreateKey(t.Context(), "alice", nil)
		ok(t, err)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		synctest.Wait()
		before := r.Revision()
		for range 290 {
			d.Used(id, "kinesis")
			d.Used("AKIAOFAFILE", "iot")
			time.Sleep(time.Second)
		}
		if n := r.Revision() - before; n != 0 {
			t.Errorf("%d writes", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := r.Revision() - before; n != 1 {
			t.Errorf("%d writes after five minutes", n)
		}
		d.Used(id, "iotdata")
		last := time.Now().UTC()
		stop()
		ok(t, <-done, d.Close(), r.Close())
		d, r = openAt(t, path)
		if u := d.LastUse(id); !u.At.Equal(last) || u.Service != "iotdata" {
			t.Errorf("%+v, want %v", u, last)
		}
		if u := d.LastUse("AKIAOFAFILE"); u.Service != "iot" {
			t.Errorf("%+v", u)
		}
		all, err := d.Keys("alice")
		if err != nil || len(all) != 1 || all[0].Service != "iotdata" {
			t.Errorf("%+v %v", all, err)
		}
		ok(t, d.DeleteUser(t.Context(), "alice"))
		if u := d.LastUse(id); !u.At.IsZero() {
			t.Error("a deleted key was used")
		}
		ok(t, d.Close(), r.Close())
	})
}

// What is told of users and keys has no secrets.
func TestInfosHaveNoSecrets(t *testing.T) {
	d := open(t)
	const password = "correct horse battery"
	ok(t, d.CreateUser(t.Context(), "alice", []string{Viewer}, nil), d.SetPassword(t.Context(), "alice", password))
	_, secret, err := d.CreateKey(t.Context(), "alice", nil)
	ok(t, err)
	users, err1 := d.Users()
	keys, err2 := d.Keys("")
	text, err3 := json.Marshal([]any{users, keys})
	ok(t, err1, err2, err3)
	if strings.Contains(string(text), secret) || strings.Contains(string(text), "argon2") || len(keys) != 1 ||
		len(users[0].Keys) != 1 {
		t.Errorf("%s", text)
	}
}
