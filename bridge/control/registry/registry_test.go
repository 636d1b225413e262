package registry

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/shadow/format"

	"github.com/tidemill/tidemill/bridge/control/registry/table"

	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
)

func open(t testing.TB) *Registry {
	t.Helper()
	// tests of content, not of the disk
	r, err := openAs(filepath.Join(t.TempDir(), "registry.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// testPEM returns a certificate that is the same for the same number.
func testPEM(t testing.TB, n int64) []byte {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(n + 1), Subject: pkix.Name{CommonName: fmt.Sprint("device ", n)},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(nil, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func update(t testing.TB, r *Registry, f func(*Tx) error) {
	t.Helper()
	if err := r.Update(f); err != nil {
		t.Fatal(err)
	}
}

func allow(action, resource string) []byte {
	return fmt.Appendf(nil, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":%q,`+
		`"Resource":"arn:aws:iot:eu-local-1:000000000000:%s"}]}`,
		action, resource)
}

var where = authz.Context{Account: "000000000000", Region: "eu-local-1"}

// provision makes a thing with certificate number n and returns its id.
func provision(t testing.TB, r *Registry, thing string, n int64) (id string) {
	t.Helper()
	update(t, r, func(tx *Tx) error {
		c, err := tx.Provision(Provision{Thing: Thing{Name: thing}, Certificate: testPEM(t, n),
			Policy: authz.ThingPolicyName, Document: authz.ThingPolicy(where.Account, where.Region)})
		id = c.ID
		return err
	})
	return id
}

func TestProvisionedThingMayConnect(t *testing.T) {
	r := open(t)
	id := provision(t, r, "pump-1", 1)
	if again := provision(t, r, "pump-1", 1); again != id || len(id) != 64 {
		t.Errorf("id %q, then %q", id, again)
	}
	for _, c := range []struct {
		client string
		want   bool
	}{{"pump-1", true}, {"pump-2", false}, {"", false}, {"pump-1\x00", false}, {"Pump-1", false}} {
		who, err := r.Identity(id, c.client)
		if err != nil {
			t.Fatal(err)
		}
		e := who.Evaluator(where)
		if got := e.Allows(authz.Connect, c.client); got != c.want || (who.Thing != nil) != c.want {
			t.Errorf("connect as %q: %v, thing %v", c.client, got, who.Thing)
		}
	}
	if _, err := r.Identity("none", "pump-1"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	update(t, r, func(tx *Tx) error { return tx.SetCertificateStatus(id, Revoked) })
	who, err := r.Identity(id, "pump-1")
	if err != nil || who.Certificate.Status != Revoked || who.Documents != nil {
		t.Errorf("revoked: %+v, %v", who, err)
	}
	if err := r.Update(func(tx *Tx) error {
		return tx.SetCertificateStatus(id, Active)
	}); !errors.Is(err, ErrConflict) {
		t.Errorf("activate again: %v", err)
	}
}

func TestErrors(t *testing.T) {
	r := open(t)
	id := provision(t, r, "pump-1", 1)
	doc := allow("iot:Publish", "topic/a")
	update(t, r, func(tx *Tx) error {
		return errors.Join(tx.CreatePolicy("p", doc), tx.CreateGroup(Group{Name: "g"}),
			tx.CreateGroup(Group{Name: "below", Parent: "g"}))
	})
	for _, c := range []struct {
		name string
		do   func(*Tx) error
		want error
	}{
		{"same thing", func(tx *Tx) error { return tx.CreateThing(Thing{Name: "pump-1"}) }, nil},
		{"other thing", func(tx *Tx) error { return tx.CreateThing(Thing{Name: "pump-1", Type: "x"}) }, ErrExists},
		{"thing name", func(tx *Tx) error { return tx.CreateThing(Thing{Name: "pump/1"}) }, ErrInvalid},
		{"thing name empty", func(tx *Tx) error { return tx.CreateThing(Thing{}) }, ErrInvalid},
		{"thing attribute", func(tx *Tx) error {
			return tx.CreateThing(Thing{Name: "x", Attributes: map[string]string{"a": "\x00"}})
		}, ErrInvalid},
		{"thing version", func(tx *Tx) error {
			return tx.UpdateThing("pump-1", 7, func(*Thing) error { return nil })
		}, ErrConflict},
		{"thing in use", func(tx *Tx) error { return tx.DeleteThing("pump-1", 0) }, ErrInUse},
		{"thing missing", func(tx *Tx) error { return tx.DeleteThing("pump-2", 0) }, ErrNotFound},
		{"certificate twice", func(tx *Tx) error {
			_, err := tx.RegisterCertificate(testPEM(t, 1), Active)
			return err
		}, ErrExists},
		{"certificate garbage", func(tx *Tx) error {
			_, err := tx.RegisterCertificate([]byte("x"), Active)
			return err
		}, ErrInvalid},
		{"certificate status", func(tx *Tx) error { return tx.SetCertificateStatus(id, "active") }, ErrInvalid},
		{"certificate missing", func(tx *Tx) error { return tx.SetCertificateStatus("00", Active) }, ErrNotFound},
		{"certificate active", func(tx *Tx) error { return tx.DeleteCertificate(id, true) }, ErrConflict},
		{"policy twice", func(tx *Tx) error { return tx.CreatePolicy("p", doc) }, ErrExists},
		{"policy name", func(tx *Tx) error { return tx.CreatePolicy("a b", doc) }, ErrInvalid},
		{"policy malformed", func(tx *Tx) error { return tx.CreatePolicy("q", []byte("{}")) }, authz.ErrMalformed},
		{"policy default", func(tx *Tx) error { return tx.DeletePolicyVersion("p", 1) }, ErrConflict},
		{"policy version", func(tx *Tx) error { return tx.SetDefaultVersion("p", 2) }, ErrNotFound},
		{"policy in use", func(tx *Tx) error { return tx.DeletePolicy(authz.ThingPolicyName) }, ErrInUse},
		{"attach missing policy", func(tx *Tx) error { return tx.AttachPolicy("none", id) }, ErrNotFound},
		{"attach to missing", func(tx *Tx) error { return tx.AttachPolicy("p", "none") }, ErrNotFound},
		{"detach", func(tx *Tx) error { return tx.DetachPolicy("p", id) }, ErrNotFound},
		{"attach thing", func(tx *Tx) error { return tx.AttachThing("none", id) }, ErrNotFound},
		{"group parent", func(tx *Tx) error { return tx.CreateGroup(Group{Name: "h", Parent: "none"}) }, ErrNotFound},
		{"group elsewhere", func(tx *Tx) error { return tx.CreateGroup(Group{Name: "below"}) }, ErrExists},
		{"group in use", func(tx *Tx) error { return tx.DeleteGroup("g", 0) }, ErrInUse},
		{"group member", func(tx *Tx) error { return tx.RemoveFromGroup("pump-1", "g") }, ErrNotFound},
		{"versions", func(tx *Tx) error {
			for range MaxPolicyVersions {
				if _, err := tx.CreatePolicyVersion("p", doc, true); err != nil {
					return err
				}
			}
			return nil
		}, ErrLimit},
		{"policies", func(tx *Tx) error {
			for i := range MaxCertificatePolicies {
				name := fmt.Sprint("p", i)
				if err := errors.Join(tx.CreatePolicy(name, doc), tx.AttachPolicy(name, id)); err != nil {
					return err
				}
			}
			return nil
		}, ErrLimit},
		{"depth", func(tx *Tx) error {
			parent := ""
			for i := range MaxGroupDepth + 1 {
				name := fmt.Sprint("deep", i)
				if err := tx.CreateGroup(Group{Name: name, Parent: parent}); err != nil {
					return err
				}
				parent = name
			}
			return nil
		}, ErrLimit},
	} {
		// A refused update must leave no trace.
		before := r.Revision()
		err := r.Update(c.do)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if c.want != nil && r.Revision() != before {
			t.Errorf("%s: was committed", c.name)
		}
	}
}

func TestGroupPolicies(t *testing.T) {
	r := open(t)
	id := provision(t, r, "pump-1", 1)
	update(t, r, func(tx *Tx) error {
		return errors.Join(tx.CreateGroup(Group{Name: "plant"}), tx.CreateGroup(Group{Name: "hall", Parent: "plant"}),
			tx.AddToGroup("pump-1", "hall"),
			tx.CreatePolicy("plant-policy", allow("iot:Publish", "topic/plant/*")),
			tx.AttachGroupPolicy("plant-policy", "plant"))
	})
	who, err := r.Identity(id, "pump-1")
	if err != nil || !who.Evaluator(where).Allows(authz.Publish, "plant/x") ||
		!slices.Equal(who.Groups, []string{"hall", "plant"}) {
		t.Fatalf("%+v, %v", who, err)
	}
	other, err := r.Identity(id, "someone")
	if err != nil || other.Evaluator(where).Allows(authz.Publish, "plant/x") {
		t.Error("group policies in effect for another client id", err)
	}
	update(t, r, func(tx *Tx) error { return tx.RemoveFromGroup("pump-1", "hall") })
	if who, err = r.Identity(id, "pump-1"); err != nil || who.Evaluator(where).Allows(authz.Publish, "plant/x") {
		t.Error("group policies in effect after leaving", err)
	}
}

func TestPolicyVersions(t *testing.T) {
	r := open(t)
	id := provision(t, r, "pump-1", 1)
	may := func(topic string) bool {
		who, err := r.Identity(id, "pump-1")
		if err != nil {
			t.Fatal(err)
		}
		return who.Evaluator(where).Allows(authz.Publish, topic)
	}
	update(t, r, func(tx *Tx) error {
		return errors.Join(tx.CreatePolicy("p", allow("iot:Publish", "topic/v1")), tx.AttachPolicy("p", id))
	})
	for i := 2; i < 12; i++ { // beyond MaxPolicyVersions
		update(t, r, func(tx *Tx) error { return tx.PutPolicy("p", allow("iot:Publish", fmt.Sprint("topic/v", i))) })
		if may(fmt.Sprint("v", i-1)) || !may(fmt.Sprint("v", i)) {
			t.Fatalf("version %d is not in effect", i)
		}
	}
	err := r.View(func(tx *Tx) error {
		p, err := tx.Policy("p")
		if err == nil && (len(p.Versions) != MaxPolicyVersions || p.Default != 11) {
			t.Errorf("%+v", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	update(t, r, func(tx *Tx) error { return tx.SetDefaultVersion("p", 10) })
	if !may("v10") || may("v11") {
		t.Error("version 10 is not in effect")
	}
	// A policy made again under the name must not get an old document.
	update(t, r, func(tx *Tx) error {
		p, err := tx.Policy("p")
		for _, v := range p.Versions {
			if v.Number != p.Default {
				err = errors.Join(err, tx.DeletePolicyVersion("p", v.Number))
			}
		}
		return errors.Join(err, tx.DetachPolicy("p", id), tx.DeletePolicy("p"),
			tx.CreatePolicy("p", allow("iot:Publish", "topic/new")), tx.AttachPolicy("p", id))
	})
	if !may("new") || may("v10") {
		t.Error("an old document is in effect")
	}
}

// What a session compiled at its CONNECT stays right as long as affectedBy
// doesn't object, whatever happens to the registry.
func TestWatch(t *testing.T) {
	r := open(t)
	id := provision(t, r, "pump-1", 1)
	other := provision(t, r, "pump-2", 2)
	update(t, r, func(tx *Tx) error {
		return errors.Join(tx.CreateGroup(Group{Name: "g"}), tx.AddToGroup("pump-1", "g"),
			tx.CreatePolicy("p", allow("iot:Publish", "topic/a")))
	})
	who, err := r.Identity(id, "pump-1")
	if err != nil {
		t.Fatal(err)
	}
	var got []Event
	stop := r.Watch(func(e Event) {
		got = append(got, e)
		if _, err := r.Identity(id, "pump-1"); err != nil { // reading is allowed
			t.Error(err)
		}
	})
	for _, c := range []struct {
		name string
		do   func(*Tx) error
		hit  bool
	}{
		{"unused version", func(tx *Tx) error {
			_, err := tx.CreatePolicyVersion(authz.ThingPolicyName, allow("iot:Publish", "topic/b"), false)
			return err
		}, false},
		{"other's certificate", func(tx *Tx) error { return tx.SetCertificateStatus(other, Inactive) }, false},
		{"other's thing", func(tx *Tx) error {
			return tx.UpdateThing("pump-2", 0, func(*Thing) error { return nil })
		}, false},
		{"policy in effect", func(tx *Tx) error { return tx.SetDefaultVersion(authz.ThingPolicyName, 2) }, true},
		{"attach", func(tx *Tx) error { return tx.AttachPolicy("p", id) }, true},
		{"attach again", func(tx *Tx) error { return tx.AttachPolicy("p", id) }, false},
		{"attributes", func(tx *Tx) error {
			return tx.UpdateThing("pump-1", 1, func(th *Thing) error {
				th.Attributes = map[string]string{"a": "b"}
				return nil
			})
		}, true},
		{"group policy", func(tx *Tx) error { return tx.AttachGroupPolicy("p", "g") }, true},
		{"group gone", func(tx *Tx) error { return tx.DeleteGroup("g", 0) }, true},
		{"detach thing", func(tx *Tx) error { return tx.DetachThing("pump-1", id) }, true},
		{"revoke", func(tx *Tx) error { return tx.SetCertificateStatus(id, Revoked) }, true},
		// the watcher would find nothing; below
		{"delete", func(tx *Tx) error { return tx.DeleteCertificate(id, true) }, false},
	} {
		if c.name == "delete" {
			stop()
		}
		got = nil
		update(t, r, c.do)
		if hit := slices.ContainsFunc(got, who.affectedBy); hit != c.hit {
			t.Errorf("%s: events %v, affected %v", c.name, got, hit)
		}
	}
	got = nil
	if err := r.Update(func(tx *Tx) error {
		return errors.Join(tx.CreateGroup(Group{Name: "x"}), errors.New("no"))
	}); err == nil || got != nil {
		t.Errorf("events of an update that failed: %v", got)
	}
	if r.Revision() <= who.Revision {
		t.Error("the revision did not grow")
	}
}

func TestPages(t *testing.T) {
	r := open(t)
	var want []string
	update(t, r, func(tx *Tx) error {
		if err := errors.Join(tx.CreateThingType(ThingType{Name: "pump"}),
			tx.CreateThingType(ThingType{Name: "fan"})); err != nil {
			return err
		}
		for i := range 57 {
			th := Thing{Name: fmt.Sprintf("t%03d", i), Type: []string{"pump", "fan"}[i%2]}
			if i%2 == 0 {
				want = append(want, th.Name)
			}
			if err := tx.CreateThing(th); err != nil {
				return err
			}
		}
		return nil
	})
	less := slices.DeleteFunc(slices.Clone(want), func(s string) bool { return s == "t004" })
	for _, n := range []int{1, 7, 29, 250, 0, -1, 1000} {
		for _, c := range []struct {
			want []string
			page func(tx *Tx, after string) ([]Thing, string, error)
		}{
			{want, func(tx *Tx, after string) ([]Thing, string, error) {
				return tx.Things(after, n, func(th *Thing) bool { return th.Type == "pump" })
			}},
			{less, func(tx *Tx, after string) ([]Thing, string, error) {
				return tx.ThingsOfType("pump", after, n, func(th *Thing) bool { return th.Name != "t004" })
			}},
		} {
			var got []string
			for after := ""; ; {
				var page []Thing
				err := r.View(func(tx *Tx) (err error) {
					page, after, err = c.page(tx, after)
					return err
				})
				if err != nil || n > 0 && len(page) > n {
					t.Fatal(len(page), err)
				}
				for _, th := range page {
					got = append(got, th.Name)
				}
				if after == "" {
					break
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("pages of %d: %v", n, got)
			}
		}
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	r, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	id := provision(t, r, "pump-1", 1)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Identity(id, "pump-1"); err == nil {
		t.Error("an identity from a closed registry")
	}
	if r, err = openFile(path); err != nil {
		t.Fatal(err)
	}
	if who, err := r.Identity(id, "pump-1"); err != nil || who.Revision != r.Revision() || r.Revision() == 0 {
		t.Errorf("%+v, revision %d, %v", who, r.Revision(), err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openFile(path); err == nil {
		t.Error("opened garbage")
	}
}

// Readers see an identity as a whole while it changes under them.
func TestConcurrent(t *testing.T) {
	r := open(t)
	id := provision(t, r, "pump-1", 1)
	update(t, r, func(tx *Tx) error { return tx.CreatePolicy("p", allow("iot:Publish", "topic/a")) })
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				who, err := r.Identity(id, "pump-1")
				if err != nil {
					t.Error(err)
					return
				}
				// Thing and policy change in one update: never one without the other.
				if (len(who.Policies) == 2) != (who.Thing.Type == "with") {
					t.Errorf("%v with thing type %q", who.Policies, who.Thing.Type)
					return
				}
			}
		})
	}
	update(t, r, func(tx *Tx) error { return tx.CreateThingType(ThingType{Name: "with"}) })
	for i := range 60 {
		update(t, r, func(tx *Tx) error {
			kind, change := "with", tx.AttachPolicy
			if i%2 == 1 {
				kind, change = "", tx.DetachPolicy
			}
			return errors.Join(change("p", id), tx.UpdateThing("pump-1", 0, func(th *Thing) error {
				th.Type = kind
				return nil
			}))
		})
	}
	close(stop)
	wg.Wait()
}

// A file of a newer version is refused and stays as it is.
func TestNewerFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	r, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]error{"3": format.ErrNewer, "x": ErrCorrupt} {
		err = r.engine.Update(func(tx table.Tx) error {
			if err := tx.Create([]byte("of a newer version")); err != nil {
				return err
			}
			_ = tx.Drop(bTags) // a newer version may do without it
			return tx.Table(bMeta).Put(keyFormat, []byte(text))
		})
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		again, err := openFile(path)
		if !errors.Is(err, want) {
			t.Errorf("format %s: %v", text, err)
		}
		if want == format.ErrNewer && !strings.Contains(err.Error(), "format 3, this program knows up to 2") {
			t.Error(err)
		}
		if err == nil {
			again.Close()
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
			t.Errorf("the file has changed: %v", err)
		}
		if r.engine, err = bolt.Open(path, bolt.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

// openFile opens the registry in a file.
func openFile(path string) (*Registry, error) { return openAs(path, bolt.Options{}) }

func openAs(path string, o bolt.Options) (*Registry, error) {
	e, err := bolt.Open(path, o)
	if err != nil {
		return nil, err
	}
	return New(e, nil)
}
