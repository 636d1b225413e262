package backup

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tidemill/tidemill/bridge/backup/vault"
)

// One of those who ask goes on from a move's last backup.
func TestClaimMove(t *testing.T) {
	target, err := vault.Open(t.Context(), t.TempDir(), vault.TargetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got atomic.Int32
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			err := ClaimMove(t.Context(), target, "20261130T000000Z-00000000", MovedTo("host", string(rune('a'+i))))
			switch {
			case err == nil:
				got.Add(1)
			case !errors.Is(err, ErrClaimed) || !strings.Contains(err.Error(), "the bridge on host in "):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d go on", got.Load())
	}
	if err := UndoMove(t.Context(), target, "20261130T000000Z-00000000"); !errors.Is(err, ErrClaimed) {
		t.Errorf("undone: %v", err)
	}
	for range 2 {
		if err := UndoMove(t.Context(), target, "20261130T000000Z-00000001"); err != nil {
			t.Error(err)
		}
	}
}
