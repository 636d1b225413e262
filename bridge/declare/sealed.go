package declare

import (
	"bytes"

	"github.com/tidemill/tidemill/bridge/seal"
)

// sealed are records whose declarations are sealed as they are kept.
type sealed struct {
	records
	g *lastGood
}

func sealName(name string) string { return "declaration " + name }

// Declarations implements records. What cannot be opened is empty, which is another
// content than any file's: it is kept anew. The log says so once.
func (s sealed) Declarations(prefix string, f func(name string, doc []byte)) error {
	return s.records.Declarations(prefix, func(name string, doc []byte) {
		text, err := s.g.seal.Open(doc, sealName(name))
		if err != nil && !s.g.unopened[name] {
			s.g.unopened[name] = true
			s.g.log.Error("the last good version of a file cannot be opened: the file counts as it is now",
				"file", name, "err", err)
		}
		f(name, text)
	})
}

// KeepDeclaration implements records.
func (s sealed) KeepDeclaration(name string, doc []byte) error {
	return s.records.KeepDeclaration(name, s.g.seal.Seal(doc, sealName(name)))
}

func (g *lastGood) view(f func(records) error) error {
	return inRegistry.View(g.registry, func(tx records) error { return f(sealed{tx, g}) })
}

func (g *lastGood) store(f func(records) error) error {
	return inRegistry.Store(g.registry, func(tx records) error { return f(sealed{tx, g}) })
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
