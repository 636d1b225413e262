package server

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/seal"
)

// A key of another directory in seal.json is not taken for this one's: the start is
// refused and changes nothing, check says so, and who accepts it keeps that key from
// then on.
func TestOtherSealKey(t *testing.T) {
	cfg := used(t, false)
	file := filepath.Join(cfg.DataDir, "seal.json")
	mine, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opens := func(want bool) {
		t.Helper()
		b, err := reopen(t, cfg)
		if err == nil {
			if err := b.Close(); err != nil || !want {
				t.Errorf("it starts, want %t; closed: %v", want, err)
			}
		} else if want || !strings.Contains(err.Error(), file+" is another key than the one that was there") {
			t.Error(err)
		}
	}
	other := seal.New()
	put := func(doc []byte) {
		t.Helper()
		if err := os.WriteFile(file, doc, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(other)
	opens(false)
	if said := checked(t, cfg); !strings.Contains(said, "is another key than the one that was there") {
		t.Errorf("check says %q", said)
	}
	put(mine)
	opens(true)
	if said := checked(t, cfg); said != "" {
		t.Errorf("check says %q", said)
	}
	put(other)
	cfg.AcceptLoss = true
	opens(true)
	cfg.AcceptLoss = false
	opens(true)
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, other) {
		t.Errorf("the key that was accepted is gone: %v", err)
	}
	put(mine)
	opens(false)
}
