package registry

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A journal shows what a transaction has changed, and no more than there is room for.
func TestJournal(t *testing.T) {
	r := open(t)
	var before, after json.RawMessage
	var first string
	do := func(f func(*Tx) error) {
		t.Helper()
		if err := r.Update(func(tx *Tx) error {
			tx.Journal()
			if err := f(tx); err != nil {
				return err
			}
			before, after, first = tx.Changes()
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	do(func(tx *Tx) error { return tx.CreateThing(Thing{Name: "a"}) })
	if before != nil || !strings.HasPrefix(string(after), `{"things/a":{`) || first != "things/a" {
		t.Errorf("%s %s %s", before, after, first)
	}
	do(func(tx *Tx) error { return tx.CreateThing(Thing{Name: "a"}) }) // as it is
	if before != nil || after != nil || first != "" {
		t.Errorf("nothing has changed: %s %s %s", before, after, first)
	}
	do(func(tx *Tx) error {
		if err := tx.DeleteThing("a", 0); err != nil {
			return err
		}
		return tx.CreateThing(Thing{Name: "b"})
	})
	if !strings.HasPrefix(string(before), `{"things/a":{`) || !strings.HasPrefix(string(after), `{"things/b":{`) {
		t.Errorf("%s %s", before, after)
	}
	do(func(tx *Tx) error {
		if _, err := tx.RegistrationCode(); err != nil {
			return err
		}
		return tx.SetEventConfig(map[EventType]bool{ThingEvent: true})
	})
	if before != nil || !strings.HasPrefix(string(after), `{"meta/event-configurations":{`) ||
		strings.Contains(string(after), "registration-code") {
		t.Errorf("%s %s", before, after)
	}
	const n = 2000
	do(func(tx *Tx) error {
		for i := range n {
			if err := tx.CreateThing(Thing{Name: fmt.Sprint("many-", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	var all map[string]json.RawMessage
	var more int
	if err := json.Unmarshal(after, &all); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(all["more"], &more); err != nil || len(all)-1+more != n || len(after) > 64<<10 {
		t.Errorf("%d entries and %d more, %d bytes, %v", len(all)-1, more, len(after), err)
	}
}
