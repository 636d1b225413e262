package declare

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// Before the registry remembers a file, its content and its name are durable:
// after a power cut a file that is remembered and not there was deleted.
func TestKeptFilesAreSynced(t *testing.T) {
	data := t.TempDir()
	first := payload(sql(1), "s")
	write(t, data, map[string]string{"streams/s.json": `{"StreamName":"s","ShardCount":1}`, "rules/r.json": first})
	b := open(t, data)
	var synced []string
	b.dir.lastGood.sync = func(path string) error {
		name := strings.TrimPrefix(path, b.path+"/")
		kept := "nothing"
		err := b.registry.View(func(tx *registry.Tx) error {
			return tx.Declarations(goodName(name), func(_ string, doc []byte) { kept = string(doc) })
		})
		if filepath.Ext(name) == "" {
			kept = ""
		}
		synced = append(synced, strings.TrimSpace(name+" "+kept))
		return errors.Join(err, syncPath(path))
	}
	apply := func(want ...string) {
		t.Helper()
		synced = nil
		if _, err := b.dir.Apply(true); err != nil {
			t.Fatal(err)
		}
		n := len(synced)
		slices.Sort(synced[:n/2]) // files, then folders
		slices.Sort(synced[n/2:])
		if !slices.Equal(synced, want) {
			t.Errorf("%q, want %q", synced, want)
		}
	}
	apply("rules/r.json nothing", "streams/s.json nothing", "rules", "streams")
	apply()
	write(t, data, map[string]string{"rules/r.json": payload(sql(2), "s")})
	apply("rules/r.json "+first, "rules")
	if err := os.Remove(filepath.Join(b.path, "rules", "r.json")); err != nil {
		t.Fatal(err)
	}
	apply()
}
