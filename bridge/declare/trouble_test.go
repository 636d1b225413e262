package declare

import (
	"testing"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A heldStore does its updates once it is let.
type heldStore struct {
	registry.Store
	begun, let chan struct{}
}

func (s heldStore) Update(f func(*registry.Tx) error) error {
	close(s.begun)
	<-s.let
	return s.Store.Update(f)
}

// What is wrong with rules, and which there are, is told while one is written.
func TestTroubleDoesNotWait(t *testing.T) {
	data := t.TempDir()
	good := payload("SELECT * FROM 'a'", "s")
	write(t, data, map[string]string{"rules/filed.json": good})
	b := open(t, data)
	if _, err := b.dir.Apply(true); err != nil {
		t.Fatal(err)
	}
	write(t, data, map[string]string{"rules/filed.json": "{"})
	if _, err := b.dir.Apply(true); err == nil {
		t.Fatal("a broken file is taken")
	}
	held := heldStore{b.rules.opts.Registry, make(chan struct{}), make(chan struct{})}
	b.rules.opts.Registry = held
	done := make(chan error, 1)
	go func() { done <- b.rules.Create(t.Context(), "made", []byte(good)) }()
	<-held.begun
	if b.rules.Trouble("filed") == nil || b.rules.Trouble("made") != nil || len(b.rules.Rules()) != 1 {
		t.Errorf("%v, %v, %d rules", b.rules.Trouble("filed"), b.rules.Trouble("made"), len(b.rules.Rules()))
	}
	close(held.let)
	if err := <-done; err != nil || len(b.rules.Rules()) != 2 {
		t.Errorf("%v, %d rules", err, len(b.rules.Rules()))
	}
}
