package registry

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/authz"
)

// fill makes n things with a certificate each, 1000 to an update. Certificates
// are written as the registry would, without making a real one for each.
func fill(tb testing.TB, r *Registry, n int) {
	tb.Helper()
	doc := authz.ThingPolicy(where.Account, where.Region)
	pem := testPEM(tb, 0)
	for from := 0; from < n; from += 1000 {
		update(tb, r, func(tx *Tx) error {
			if err := tx.PutPolicy(authz.ThingPolicyName, doc); err != nil {
				return err
			}
			for i := from; i < min(n, from+1000); i++ {
				name, id := fmt.Sprintf("thing-%06d", i), fmt.Sprintf("%064x", i*7919)
				if err := tx.put(bCertificates, id, &Certificate{Status: Active, Subject: "CN=" + name}); err != nil {
					return err
				}
				if err := tx.tx.Table(bPEM).Put([]byte(id), pem); err != nil {
					return err
				}
				if err := tx.CreateThing(Thing{Name: name,
					Attributes: map[string]string{"line": fmt.Sprint(i % 10)}}); err != nil {
					return err
				}
				if err := tx.AttachThing(name, id); err != nil {
					return err
				}
				if err := tx.AttachPolicy(authz.ThingPolicyName, id); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func BenchmarkIdentity(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		r := open(b)
		fill(b, r, n)
		b.Run(fmt.Sprint(n, " things"), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i = (i + 7919) % n
				if who, err := r.Identity(fmt.Sprintf("%064x", i*7919), fmt.Sprintf("thing-%06d", i)); err != nil ||
					who.Thing == nil {
					b.Fatal(who, err)
				}
			}
		})
	}
}

// BenchmarkProvision syncs, as a running bridge does.
func BenchmarkProvision(b *testing.B) {
	r, err := openFile(filepath.Join(b.TempDir(), "registry.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	doc := authz.ThingPolicy(where.Account, where.Region)
	i := 0
	for b.Loop() {
		i++
		p := Provision{Thing: Thing{Name: fmt.Sprint("thing-", i)}, Certificate: testPEM(b, int64(i)), Policy: "p",
			Document: doc}
		if err := r.Update(func(tx *Tx) error { _, err := tx.Provision(p); return err }); err != nil {
			b.Fatal(err)
		}
	}
}
