package registry

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/shadow/boltfile"
)

// rightless are the buckets that nobody's rights depend on. All others are taken
// for some that do: what is lost there may have been a Deny, a revocation or a
// detachment.
var rightless = []string{string(bRules), string(bRuleDocuments), string(bDeclarations), string(bTags), string(bOutbox),
	string(bBillingGroups), string(bBillingThings)}

// Salvage writes what can be read of the damaged registry file at from, which
// nobody has open, into the new one at to, and calls lost for each piece that is
// not, with the bucket that may be incomplete. Only what the last commit holds is
// taken, as far as that can be told.
//
// Where that is not certain, or a piece is lost on which rights may depend, nobody
// gets more than there was: all active certificates and authorizers are INACTIVE in
// the new file, CAs register no certificates by themselves, and temporary keys are
// left out; lost is told that too.
func Salvage(from, to string, lost func(error)) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	db, err := bolt.Open(to, 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	trusted := true
	serials := true // certificate-serials is whole
	piece := func(bucket string, cause error) {
		serials = serials && bucket != string(bSerials)
		trusted = trusted && slices.Contains(rightless, bucket)
		if bucket == "" {
			lost(fmt.Errorf("%s: whole buckets: %w", from, cause))
			return
		}
		lost(fmt.Errorf("%s: bucket %s may be incomplete: %w", from, bucket, cause))
	}
	w := &boltfile.Copier{DB: db}
	sure, err := boltfile.Salvage(in, info.Size(), 1, func(it boltfile.Item) error {
		if len(it.Path) == 0 {
			return nil // no key of ours is in the root
		}
		if it.Key != nil {
			if err := sound(string(it.Path[0]), it.Key, it.Value); err != nil {
				piece(string(it.Path[0]), fmt.Errorf("%w: %.100q: %w", ErrCorrupt, it.Key, err))
				return nil
			}
		}
		return w.Add(it)
	}, func(path [][]byte, err error) {
		bucket := ""
		if len(path) > 0 {
			bucket = string(path[0])
		}
		piece(bucket, err)
	})
	err = errors.Join(err, w.Flush())
	if err == nil && !serials {
		err = dropSerials(db)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if !sure {
		lost(fmt.Errorf("%s: what was written last may be undone: a meta page or the list of free pages is damaged", from))
	}
	if sure && trusted {
		return nil
	}
	n, err := distrust(db)
	if err == nil {
		lost(fmt.Errorf("%s: rights may have been lost with it: %d certificates and authorizers that were ACTIVE are INACTIVE in the new file, "+
			"CAs register none by themselves, and temporary keys are gone; look at cert list and policy list, then activate with cert activate", from, n))
	}
	return err
}

// sound returns an error for a value that is not what its bucket has: bbolt has no
// sums of them.
func sound(bucket string, key, value []byte) error {
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
	case string(bThings), string(bTypes), string(bBillingGroups), string(bTags), string(bOutbox), string(bCertificates), string(bPolicies), string(bDocuments),
		string(bGroups), string(bAuthorizers), string(bRoleAliases), string(bKeys), string(bRules), string(bRuleDocuments), string(bCAs), string(bCRLs), string(bTemplates):
		if !json.Valid(value) {
			return errors.New("no JSON")
		}
	}
	return nil
}

// dropSerials has Open make certificate-serials anew.
func dropSerials(db *bolt.DB) error {
	return db.Update(func(tx *bolt.Tx) error {
		if tx.Bucket(bSerials) == nil {
			return nil
		}
		return tx.DeleteBucket(bSerials)
	})
}

// distrust takes away what a registry that is not all there must not grant, and
// returns how many were active.
func distrust(db *bolt.DB) (n int, err error) {
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bKeys, bKeyEnds} {
			if err := tx.DeleteBucket(name); err != nil && tx.Bucket(name) != nil {
				return err
			}
		}
		for _, change := range []struct {
			bucket []byte
			member string
			is, to string // JSON
		}{
			{bCertificates, "status", `"ACTIVE"`, `"INACTIVE"`},
			{bAuthorizers, "status", `"ACTIVE"`, `"INACTIVE"`},
			{bCAs, "auto_register", `true`, `false`},
		} {
			b := tx.Bucket(change.bucket)
			if b == nil {
				continue
			}
			changed := map[string][]byte{}
			err := b.ForEach(func(k, v []byte) error {
				var doc map[string]json.RawMessage
				if err := json.Unmarshal(v, &doc); err != nil {
					return err
				}
				if string(doc[change.member]) != change.is {
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
