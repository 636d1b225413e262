package registry

import (
	"testing"
)

// What is given after SkipVersions was not given before, and all else stays.
func TestSkipVersions(t *testing.T) {
	r := open(t)
	const doc = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`
	if err := r.Update(func(tx *Tx) error {
		if err := tx.CreateThing(Thing{Name: "pump", Attributes: map[string]string{"a": "b"}}); err != nil {
			return err
		}
		return tx.CreatePolicy("p", []byte(doc))
	}); err != nil {
		t.Fatal(err)
	}
	if err := r.SkipVersions(); err != nil {
		t.Fatal(err)
	}
	if err := r.Update(func(tx *Tx) error {
		th, err := tx.Thing("pump")
		if err != nil || th.Version < 1000 || th.Attributes["a"] != "b" {
			t.Errorf("thing %+v, %v", th, err)
		}
		if p, err := tx.Policy("p"); err != nil || p.Default != 1 {
			t.Errorf("policy %+v, %v", p, err)
		}
		if n, err := tx.CreatePolicyVersion("p", []byte(doc), true); err != nil || n < 1000 {
			t.Errorf("version %d, %v", n, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
