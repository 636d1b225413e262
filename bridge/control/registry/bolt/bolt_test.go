package bolt_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

func TestConformance(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) func() table.Engine {
		path := filepath.Join(t.TempDir(), "registry.db")
		return func() table.Engine {
			e, err := bolt.Open(path, bolt.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info.Mode(), err)
			}
			return e
		}
	})
}

// A file that is read only is not made, and not changed.
func TestOpenReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	if _, err := bolt.OpenReadOnly(path); err == nil {
		t.Error("a file is opened that is not there")
	}
	e, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = bolt.OpenReadOnly(path); err != nil {
		t.Fatal(err)
	}
	if err := e.Update(func(table.Tx) error { return nil }); err == nil {
		t.Error("it is updated")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
