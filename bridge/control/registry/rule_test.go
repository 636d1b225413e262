package registry

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// A rule is there after the file was closed, byte for byte, and keeps its
// time through every change. A file of before there were rules takes them.
func TestRuleStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	r, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	err = r.engine.Update(func(tx table.Tx) error { return errors.Join(tx.Drop(bRules), tx.Drop(bRuleDocuments)) })
	if err != nil {
		t.Fatal(err)
	}
	doc := []byte("{ \"sql\": \"SELECT * FROM '<a>'\" }\n")
	var made Rule
	for _, change := range []func(*Tx) error{
		func(tx *Tx) (err error) {
			made, err = tx.CreateRule(Rule{Name: "hot", Document: []byte("{}")})
			return err
		},
		func(tx *Tx) error { _, err := tx.ReplaceRule(Rule{Name: "hot", Document: doc}); return err },
		func(tx *Tx) error { _, err := tx.SetRuleDisabled("hot", true); return err },
		func(tx *Tx) error {
			got, err := tx.Rule("hot")
			if err == nil && (!bytes.Equal(got.Document, doc) || !got.Disabled || !got.Created.Equal(made.Created)) {
				t.Errorf("got %+v, made %+v", got, made)
			}
			return err
		},
	} {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if r, err = openFile(path); err != nil {
			t.Fatal(err)
		}
		update(t, r, change)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestRuleLimits(t *testing.T) {
	r := open(t)
	update(t, r, func(tx *Tx) error {
		for i := range maxRules {
			if _, err := tx.CreateRule(Rule{Name: fmt.Sprint("r", i), Document: []byte("{}")}); err != nil {
				return err
			}
		}
		return nil
	})
	create := func(name string, size int) error {
		return r.Update(func(tx *Tx) error {
			_, err := tx.CreateRule(Rule{Name: name, Document: make([]byte, size)})
			return err
		})
	}
	if err := create("more", 2); !errors.Is(err, ErrLimit) {
		t.Errorf("one more: %v", err)
	}
	update(t, r, func(tx *Tx) error { return tx.DeleteRule("r7") })
	if err := create("more", maxRuleDocument+1); !errors.Is(err, ErrInvalid) {
		t.Errorf("large: %v", err)
	}
	if err := create(strings.Repeat("r", 129), 2); !errors.Is(err, ErrInvalid) {
		t.Errorf("long name: %v", err)
	}
	if err := create(strings.Repeat("r", 128), maxRuleDocument); err != nil {
		t.Errorf("in the place of one that is gone: %v", err)
	}
}
