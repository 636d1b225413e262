package registry

import (
	"bytes"
	"errors"
	"path"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// DeclaredIn lists the folders of what the registry file keeps of declarations, by
// name. It changes nothing; no other process may write the file.
func DeclaredIn(file string) (folders []string, err error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	err = db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bDeclarations)
		if b == nil {
			return nil
		}
		return b.ForEach(func(name, _ []byte) error {
			if dir := path.Dir(string(name)); !slices.Contains(folders, dir) {
				folders = append(folders, dir)
			}
			return nil
		})
	})
	return folders, errors.Join(err, db.Close())
}

// KeepDeclaration keeps doc, of any size, under a name of at most 32 KB. The
// registry does not read it. Declarations are no events for Watch.
func (t *Tx) KeepDeclaration(name string, doc []byte) error {
	return t.tx.Bucket(bDeclarations).Put([]byte(name), doc)
}

// ForgetDeclaration forgets what is kept under a name, if anything.
func (t *Tx) ForgetDeclaration(name string) error {
	return t.tx.Bucket(bDeclarations).Delete([]byte(name))
}

// Declarations calls f for all that is kept under names that begin with prefix, by name. doc
// is valid until f returns.
func (t *Tx) Declarations(prefix string, f func(name string, doc []byte)) error {
	c := t.tx.Bucket(bDeclarations).Cursor()
	for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
		f(string(k), v)
	}
	return nil
}
