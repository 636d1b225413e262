package declare

import (
	"bytes"

	"github.com/tidemill/tidemill/bridge/seal"
)

// sealed are records whose declarations are sealed as they are kept.
type sealed struct {
	records
	key *seal.Key
}

func sealName(name string) string { return "declaration " + name }

// Declarations implements records. What cannot be opened is empty, and so is another
// content than any file's: it is kept anew.
func (s sealed) Declarations(prefix string, f func(name string, doc []byte)) error {
	return s.records.Declarations(prefix, func(name string, doc []byte) {
		text, _ := s.key.Open(doc, sealName(name))
		f(name, text)
	})
}

// KeepDeclaration implements records.
func (s sealed) KeepDeclaration(name string, doc []byte) error {
	return s.records.KeepDeclaration(name, s.key.Seal(doc, sealName(name)))
}

func (g *lastGood) view(f func(records) error) error {
	return inRegistry.View(g.registry, func(tx records) error { return f(sealed{tx, g.seal}) })
}

func (g *lastGood) store(f func(records) error) error {
	return inRegistry.Store(g.registry, func(tx records) error { return f(sealed{tx, g.seal}) })
}

// sealAll seals what an earlier version kept as it was.
func (g *lastGood) sealAll() error {
	plain := map[string][]byte{}
	err := inRegistry.View(g.registry, func(tx records) error {
		return tx.Declarations("", func(name string, doc []byte) {
			if !seal.Sealed(doc) {
				plain[name] = bytes.Clone(doc)
			}
		})
	})
	if err != nil || len(plain) == 0 || g.seal == nil {
		return err
	}
	return g.store(func(tx records) error {
		for name, doc := range plain {
			if err := tx.KeepDeclaration(name, doc); err != nil {
				return err
			}
		}
		return nil
	})
}
