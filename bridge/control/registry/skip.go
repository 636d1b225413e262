package registry

import (
	"encoding/json"
	"fmt"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// How far SkipVersions goes: more changes than anybody makes of one thing between a
// backup and its restore, and small enough that programs can go on counting in 32 bits
// after 2,000 restores.
const (
	skipVersions  = 1 << 20
	skipDocuments = 1000 // of policies and templates, which people make and read
)

// SkipVersions has the versions of things, groups, billing groups, policies and
// provisioning templates go on behind those that a bridge can have given after the
// backup from which the registry comes. Nobody hears of it.
func (r *Registry) SkipVersions() error {
	return r.engine.Update(func(tx table.Tx) error {
		t := &Tx{reg: r, tx: tx}
		for _, err := range []error{
			skip(t, bThings, func(th *Thing) { th.Version += skipVersions }),
			skip(t, bGroups, func(g *Group) { g.Version = max(g.Version, 1) + skipVersions }),
			skip(t, bBillingGroups, func(g *BillingGroup) { g.Version += skipVersions }),
			skip(t, bPolicies, func(p *Policy) { p.Next += skipDocuments }),
			skip(t, bTemplates, func(tp *Template) { tp.Next += skipDocuments }),
		} {
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// skip changes all entries of a table.
func skip[T any](t *Tx, bucket []byte, f func(*T)) error {
	var keys []string
	err := table.Each(t.tx.Table(bucket), func(key, _ []byte) error { keys = append(keys, string(key)); return nil })
	for i := 0; i < len(keys) && err == nil; i++ {
		var v T
		if err = json.Unmarshal(t.tx.Table(bucket).Get([]byte(keys[i])), &v); err != nil {
			return fmt.Errorf("%s %q: %w: %w", bucket, keys[i], ErrCorrupt, err)
		}
		f(&v)
		err = t.put(bucket, keys[i], &v)
	}
	return err
}
