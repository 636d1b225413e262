package registry

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
)

// rights is what a certificate may: nothing, or the documents in effect for it.
func rights(r *Registry, id string) (string, error) {
	var all strings.Builder
	err := r.View(func(tx *Tx) error {
		c, err := tx.Certificate(id)
		if err != nil || c.Status != Active {
			return err
		}
		for _, name := range tx.CertificatePolicies(id) {
			p, err := tx.Policy(name)
			if err != nil {
				return err
			}
			fmt.Fprintln(&all, name, p.Default)
		}
		return nil
	})
	return all.String(), err
}

// What is salvaged of a registry with pages damaged at random opens, and gives no
// certificate more than it had: none that was revoked is active again, and none that
// is active lacks a policy. Where nothing is lost that rights depend on, all stay.
func TestSalvage(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "registry.db")
	r, err := openAs(path, bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	const certificates = 120
	var ids []string
	update(t, r, func(tx *Tx) error {
		errs := []error{tx.CreatePolicy("all", allow("iot:*", "*")),
			tx.CreatePolicy("some", allow("iot:Connect", "client/x"))}
		for i := range certificates {
			c, err := tx.RegisterCertificate(testPEM(t, int64(i)), Active)
			ids = append(ids, c.ID)
			errs = append(errs, err, tx.AttachPolicy("all", c.ID), tx.AttachPolicy("some", c.ID),
				tx.CreateThing(Thing{Name: fmt.Sprint("t", i)}), tx.AttachThing(fmt.Sprint("t", i), c.ID),
				tx.KeepDeclaration(fmt.Sprint("rules/", i), make([]byte, 3000)))
		}
		return errors.Join(errs...)
	})
	for i := range 60 { // each a commit: the file is full of pages in which they were active
		update(t, r, func(tx *Tx) error { return tx.SetCertificateStatus(ids[2*i], Revoked) })
	}
	want := map[string]string{}
	for _, id := range ids {
		if want[id], err = rights(r, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	opened, untouched, refused := 0, 0, 0
	for try := range 60 {
		b := append([]byte(nil), raw...)
		for range 1 + rnd.IntN(2) {
			at := page * (2 + rnd.IntN(len(raw)/page-2))
			clear(b[at : at+page])
		}
		if try%10 == 0 { // a commit back
			b[page*(try/10%2)+16+20] ^= 1
		}
		dir := t.TempDir()
		from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
		if err := os.WriteFile(from, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var lost []string
		e, err := bolt.Open(to, bolt.Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = Salvage(from, e, func(err error) { lost = append(lost, err.Error()) })
		if err := errors.Join(err, e.Close()); err != nil {
			t.Fatalf("seed %d try %d: %v", seed, try, err)
		}
		s, err := openFile(to)
		if err != nil {
			t.Fatalf("seed %d try %d: %v\n%s", seed, try, err, strings.Join(lost, "\n"))
		}
		opened++
		active := 0
		for _, id := range ids {
			got, err := rights(s, id)
			if err != nil && !errors.Is(err, ErrNotFound) {
				t.Fatalf("seed %d try %d: %v", seed, try, err)
			}
			if got == "" {
				continue
			}
			active++
			if got != want[id] {
				t.Fatalf("seed %d try %d: certificate has %q, had %q\n%s", seed, try, got, want[id],
					strings.Join(lost, "\n"))
			}
		}
		said := strings.Join(lost, "\n")
		switch {
		case len(lost) == 0 && active != certificates-60:
			t.Errorf("seed %d try %d: %d active, and nothing is lost", seed, try, active)
		case active == certificates-60:
			untouched++
		case !strings.Contains(said, "are INACTIVE in the new file"):
			t.Errorf("seed %d try %d: %d active, and it is not said:\n%s", seed, try, active, said)
		default:
			refused++
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if untouched == 0 || refused == 0 {
		t.Errorf("seed %d: %d untouched, %d without rights of %d", seed, untouched, refused, opened)
	}
	t.Logf("%d of %d kept all rights, %d none", untouched, opened, refused)
}

// A value that a registry cannot decode is not what its bucket has.
func TestFits(t *testing.T) {
	for bucket, value := range map[string]string{string(bCertificates): `{"created":"2026\u00c511-30T08:49:47Z"}`,
		string(bThings): `{"attributes":7}`,
		string(bRules):  `{"created":"yesterday"}`, string(bPolicies): `{`} {
		if fits(bucket, []byte("bad"), []byte(value)) == nil {
			t.Errorf("%s takes %s", bucket, value)
		}
		if err := fits(bucket, []byte("good"), []byte(`{}`)); err != nil {
			t.Errorf("%s: %v", bucket, err)
		}
	}
}
