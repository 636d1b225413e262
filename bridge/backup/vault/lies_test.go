package vault

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A liar says that it takes what it is given, and forgets what begins with a name.
type liar struct {
	Target
	forgets string
}

func (x liar) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	if strings.HasPrefix(name, x.forgets) {
		return nil
	}
	return x.Target.Put(ctx, name, r, size)
}

// A backup of which the target did not keep all is none, and the packs of those that are
// there stay.
func TestLiar(t *testing.T) {
	for _, forgets := range []string{packFolder, manifestFolder, backupFolder, lockFolder} {
		b := newBench(t)
		first, err := b.backup(t.Context(), content{"a": []byte("one")})
		must(t, err)
		honest := b.target
		b.target = liar{honest, forgets}
		if _, err := b.backup(t.Context(), content{"a": []byte("two")}); err == nil {
			t.Errorf("it forgets %s, and the backup is said to be complete", forgets)
		}
		b.target = honest
		if c, err := b.restore(t.Context(), Latest); err != nil || string(c["a"]) != "one" {
			t.Errorf("it forgot %s: %q, %v, want that of %s", forgets, c, err, first.ID)
		}
	}
}

// A repository is of one owner.
func TestOwner(t *testing.T) {
	b := newBench(t)
	for i, owner := range []string{"one", "two", "one", ""} {
		err := Claim(t.Context(), b.target, "000000000000", owner)
		if foreign := errors.Is(err, ErrForeign); foreign != (i == 1) || !foreign && err != nil {
			t.Errorf("%d, of %q: %v", i, owner, err)
		}
	}
}

// A clock that is years ahead makes no backup old, nor does a time without backups.
func TestPruneByAge(t *testing.T) {
	b := newBench(t)
	began := time.Now().Add(-3 * 365 * 24 * time.Hour).UTC()
	for i := range 4 {
		info, err := b.backup(t.Context(), content{"a": {byte(i)}})
		must(t, err)
		info.Time = began.Add(time.Duration(i) * 24 * time.Hour)
		data, err := json.Marshal(info)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(b.url, infoName(info.ID)), data, 0o600))
	}
	p, err := Prune(t.Context(), b.target, Keep{Within: 36 * time.Hour}, b.folder)
	if err != nil || len(p.Backups) != 2 {
		t.Errorf("%d are removed, want 2: %v", len(p.Backups), err)
	}
}

// No backup comes after one whose name is the last that there can be.
func TestNothingSortsBehind(t *testing.T) {
	for _, id := range []string{"99991231T235959Z-ffffffff", "99999999T999999Z-ffffffff"} {
		b := newBench(t)
		_, err := b.backup(t.Context(), content{"a": []byte("one")})
		must(t, err)
		must(t, put(t, b.target, infoName(id), []byte("{}")))
		if _, err := b.backup(t.Context(), content{"a": []byte("two")}); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", id, err)
		}
	}
}

// An answer that begins and does not go on is given up.
func TestStalledAnswer(t *testing.T) {
	over := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("half"))
		_ = http.NewResponseController(w).Flush()
		<-over
	}))
	defer srv.Close()
	defer close(over)
	c := pacedClient{http.DefaultClient, newPace(0), 50 * time.Millisecond}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	must(t, err)
	resp, err := c.Do(r)
	must(t, err)
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err == nil || string(text) != "half" {
		t.Errorf("%q, %v", text, err)
	}
}
