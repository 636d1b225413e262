package registry

import "bytes"

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
