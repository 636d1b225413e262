package registry

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// rightless are the buckets that nobody's rights depend on. All others are taken
// for some that do: what is lost there may have been a Deny, a revocation or a
// detachment.
var rightless = []string{string(bRules), string(bRuleDocuments), string(bDeclarations), string(bTags), string(bOutbox),
	string(bBillingGroups), string(bBillingThings), string(bKeyUses), string(bRecords)}

// A salvager is an engine, as yet empty, that can fill itself from a damaged file;
// see bolt.Engine.Salvage.
type salvager interface {
	table.Engine
	Salvage(from string, sound func(table string, key, value []byte) error,
		lost func(table string, err error)) (sure bool, err error)
}

// Salvage writes what can be read of the damaged registry file at from, which
// nobody has open, into the engine to, and calls lost for each piece that is not,
// with the table that may be incomplete. Only what the last update left is taken,
// as far as that can be told.
//
// Where that is not certain, or a piece is lost on which rights may depend, nobody
// gets more than there was: all active certificates, authorizers and access keys are
// INACTIVE in to, CAs register no certificates by themselves, and temporary keys and
// passwords are left out; lost is told that too.
func Salvage(from string, to salvager, lost func(error)) (err error) {
	trusted := true
	serials := true // certificate-serials is whole
	sure, err := to.Salvage(from, sound, func(table string, cause error) {
		serials = serials && table != string(bSerials)
		trusted = trusted && slices.Contains(rightless, table)
		if table == "" {
			lost(fmt.Errorf("%s: whole buckets: %w", from, cause))
			return
		}
		lost(fmt.Errorf("%s: bucket %s may be incomplete: %w", from, table, cause))
	})
	if err == nil && !serials {
		err = to.Update(func(tx table.Tx) error { return tx.Drop(bSerials) }) // New makes it anew
	}
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if !sure {
		lost(fmt.Errorf("%s: what was written last may be undone: a meta page or the list of free pages is damaged",
			from))
	}
	if sure && trusted {
		return nil
	}
	n, err := distrust(to)
	if err == nil {
		lost(fmt.Errorf("%s: rights may have been lost with it: %d certificates, authorizers and access keys "+
			"that were ACTIVE are INACTIVE in the new file, "+
			"CAs register none by themselves, and temporary keys and users' passwords are gone; "+
			"look at cert list, policy list and access-key list, then activate with cert activate and access-key "+
			"activate",
			from, n))
	}
	return err
}

// sound returns an error for a value that is not what its table has: the file has no
// sums of them.
func sound(bucket string, key, value []byte) error {
	if err := fits(bucket, key, value); err != nil {
		return fmt.Errorf("%w: %.100q: %w", ErrCorrupt, key, err)
	}
	return nil
}

// Verify calls lost for each entry of a registry that is not what its table has: the
// pages of a file may be sound and a value in one of them damaged, at which the
// registry's users would fail.
func Verify(e table.Engine, lost func(error)) error {
	return e.View(func(tx table.Tx) error {
		for _, bucket := range append(slices.Sorted(maps.Keys(kinds)), string(bPEM), string(bCAPEM)) {
			if !tx.Has([]byte(bucket)) {
				continue
			}
			err := table.Each(tx.Table([]byte(bucket)), func(key, value []byte) error {
				if err := fits(bucket, key, value); err != nil {
					lost(fmt.Errorf("%s: bucket %s: %.100q: %w: %w", e.Name(), bucket, key, ErrCorrupt, err))
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func fits(bucket string, key, value []byte) error {
	switch bucket {
	case string(bPEM), string(bCAPEM):
		block, _ := pem.Decode(value)
		if block == nil {
			return errors.New("no PEM")
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return err
		}
		if fingerprint(block.Bytes) != string(key) {
			return errors.New("another certificate than its id says")
		}
	}
	into := kinds[bucket]
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(value, into()); err != nil {
		return errors.New("not what this bucket has")
	}
	return nil
}

// kinds has what the values of a bucket are decoded into.
var kinds = map[string]func() any{
	string(bThings):        func() any { return new(Thing) },
	string(bTypes):         func() any { return new(ThingType) },
	string(bGroups):        func() any { return new(Group) },
	string(bBillingGroups): func() any { return new(BillingGroup) },
	string(bCertificates):  func() any { return new(Certificate) },
	string(bPolicies):      func() any { return new(Policy) },
	string(bAuthorizers):   func() any { return new(Authorizer) },
	string(bRoleAliases):   func() any { return new(RoleAlias) },
	string(bKeys):          func() any { return new(TemporaryKey) },
	string(bUsers):         func() any { return new(User) },
	string(bAccessKeys):    func() any { return new(AccessKey) },
	string(bKeyUses):       func() any { return new(KeyUse) },
	string(bCAs):           func() any { return new(CA) },
	string(bCRLs):          func() any { return new(CRL) },
	string(bTemplates):     func() any { return new(Template) },
	string(bRules):         func() any { return new(Rule) },
	string(bOutbox):        func() any { return new(Change) },
	string(bTags):          func() any { return new(any) },
	string(bDocuments):     func() any { return new(any) },
	string(bRuleDocuments): func() any { return new(any) },
}

// distrust takes away what a registry that is not all there must not grant, and
// returns how many were active.
func distrust(e table.Engine) (n int, err error) {
	err = e.Update(func(tx table.Tx) error {
		for _, name := range [][]byte{bKeys, bKeyEnds} {
			if err := tx.Drop(name); err != nil {
				return err
			}
		}
		for _, change := range []struct {
			bucket []byte
			member string
			is, to string // JSON; is "": whatever it is
		}{
			{bCertificates, "status", `"ACTIVE"`, `"INACTIVE"`},
			{bAuthorizers, "status", `"ACTIVE"`, `"INACTIVE"`},
			{bAccessKeys, "status", `"ACTIVE"`, `"INACTIVE"`},
			{bCAs, "auto_register", `true`, `false`},
			{bUsers, "password", "", `""`},
		} {
			if !tx.Has(change.bucket) {
				continue
			}
			b := tx.Table(change.bucket)
			changed := map[string][]byte{}
			err := table.Each(b, func(k, v []byte) error {
				var doc map[string]json.RawMessage
				if err := json.Unmarshal(v, &doc); err != nil {
					return err
				}
				if is, there := doc[change.member]; !there || change.is != "" && string(is) != change.is {
					return nil
				}
				doc[change.member] = json.RawMessage(change.to)
				raw, err := json.Marshal(doc)
				changed[string(k)] = raw
				return err
			})
			if err != nil {
				return err
			}
			for k, v := range changed {
				if err := b.Put([]byte(k), v); err != nil {
					return err
				}
			}
			n += len(changed)
		}
		return nil
	})
	return n, err
}
