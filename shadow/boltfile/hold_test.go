package boltfile

import (
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// What was held is copied as it was, whatever is written meanwhile; writers wait for
// Release and not for the copy.
func TestHold(t *testing.T) {
	dir := t.TempDir()
	db, err := bbolt.Open(filepath.Join(dir, "db"), 0o600, &bbolt.Options{InitialMmapSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	put := func(key string) error {
		return db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			in, err := b.CreateBucketIfNotExists([]byte("in"))
			if err != nil {
				return err
			}
			return in.Put([]byte(key), []byte{})
		})
	}
	if err := put("one"); err != nil {
		t.Fatal(err)
	}
	h, err := Hold(db)
	if err != nil {
		t.Fatal(err)
	}
	defer h.End()
	wrote := make(chan error, 1)
	go func() { wrote <- put("two") }()
	select {
	case err := <-wrote:
		t.Fatalf("a writer did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "copy")
	if n, err := h.Copy(path); err != nil || n == 0 {
		t.Fatal(n, err)
	}
	if _, err := h.Copy(path); err == nil {
		t.Error("a copy replaced a file")
	}
	if err := h.End(); err != nil {
		t.Fatal(err)
	}
	if err := h.End(); err != nil {
		t.Error("ending again:", err)
	}
	counts, err := Count(path)
	if err != nil || len(counts) != 1 || counts["b"] != 1 {
		t.Errorf("the copy has %v, %v; want one key in b", counts, err)
	}
}
