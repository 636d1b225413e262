package registry

import (
	"bytes"
	"path"
	"slices"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// DeclaredIn lists the folders of what a registry's engine keeps of declarations, by
// name. It changes nothing.
func DeclaredIn(e table.Engine) (folders []string, err error) {
	err = e.View(func(tx table.Tx) error {
		if !tx.Has(bDeclarations) {
			return nil
		}
		return table.Each(tx.Table(bDeclarations), func(name, _ []byte) error {
			if dir := path.Dir(string(name)); !slices.Contains(folders, dir) {
				folders = append(folders, dir)
			}
			return nil
		})
	})
	return folders, err
}

// KeepDeclaration keeps doc, of any size, under a name of at most 32 KB. The
// registry does not read it. Declarations are no events for Watch.
func (t *Tx) KeepDeclaration(name string, doc []byte) error {
	return t.tx.Table(bDeclarations).Put([]byte(name), doc)
}

// ForgetDeclaration forgets what is kept under a name, if anything.
func (t *Tx) ForgetDeclaration(name string) error {
	return t.tx.Table(bDeclarations).Delete([]byte(name))
}

// Declarations calls f for all that is kept under names that begin with prefix, by name. doc
// is valid until f returns.
func (t *Tx) Declarations(prefix string, f func(name string, doc []byte)) error {
	c := t.tx.Table(bDeclarations).Cursor()
	for k, v := c.Seek([]byte(prefix)); k != nil && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
		f(string(k), v)
	}
	return nil
}
