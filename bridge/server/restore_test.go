package server

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	agekey "filippo.io/age"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/hold"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
)

// A bridge that is restored from a backup while the old one went on: what was revoked since
// is refused, numbers go on behind the old one's, and what waited in an outbox goes out
// when it is released, not before. A device that was known connects without a change.
func TestRestoredBridge(t *testing.T) {
	var away atomic.Bool
	posted := make(chan string, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if away.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		posted <- string(body)
	}))
	defer srv.Close()
	away.Store(true)
	cfg := configure(t)
	cfg.Egress.Allow = []string{srv.Listener.Addr().String()}
	key := backsUp(t, cfg)
	declareFiles(t, cfg, map[string]string{
		"rules/out.json": `{"sql":"SELECT n FROM 'dt/#'","awsIotSqlVersion":"2016-03-23","actions":[{"http":{"url":"` +
			srv.URL + `/in","confirmationUrl":"` + srv.URL + `"}}]}`,
	})
	b := start(t, cfg)
	kept, lost := b.thing("kept", all("", "")), b.thing("lost", all("", ""))
	b.connect(kept, "kept").publish("dt/x", `{"n":1}`)
	b.eventually("the delivery waits", func() bool {
		size, err := b.store.Size("$outbox/out/0")
		return err == nil && size.Records == 1
	})
	taken := b.backup()

	b.update(func(tx *registry.Tx) error {
		return tx.SetCertificateStatus(pki.Fingerprint(lost.tls(t).Certificates[0].Certificate[0]), registry.Revoked)
	})
	b.connect(kept, "kept").publish("dt/x", `{"n":2}`)
	target, err := vault.Open(t.Context(), cfg.Backup.Target, vault.TargetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var revoked *backup.Sealed
	b.eventually("the revocation is beside the backups", func() bool {
		revoked, err = backup.NewestRevocations(t.Context(), target)
		return err == nil && len(revoked.List()) == 1
	})
	away.Store(false)
	for range 2 { // the old bridge delivers what waits
		select {
		case <-posted:
		case <-time.After(90 * time.Second):
			t.Fatal("the old bridge does not deliver")
		}
	}
	was := map[int]uint64{}
	for i := range cfg.Ingest.Shards {
		if _, was[i], err = b.store.Bounds(ingest.Stream, i); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(b.stop(), b.Close()); err != nil {
		t.Fatal(err)
	}

	dir := filepath.Join(filepath.Dir(cfg.DataDir), "restored")
	r, err := backup.Restore(t.Context(), backup.RestoreOptions{Target: target, ID: taken.ID,
		Identities: []agekey.Identity{key}, Dir: dir, Account: cfg.Account, Revocations: revoked})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Revoked) != 1 || !strings.Contains(r.Revoked[0], "REVOKED") {
		t.Errorf("revoked since: %q", r.Revoked)
	}
	other := *cfg
	other.DataDir, other.Objects.Dir, other.BridgeD.Dir = dir, filepath.Join(dir, "objects"), cfg.BridgeD.Dir
	other.Secrets.Dir = filepath.Join(dir, "secrets")
	other.Admin.Socket = filepath.Join(filepath.Dir(cfg.DataDir), "sock")
	n := start(t, &other)

	if code, _, err := n.knock(lost.tls(t), "lost"); err == nil && code == 0 {
		t.Error("a certificate that was revoked after the backup connects")
	}
	n.connect(kept, "kept").publish("dt/x", `{"n":3}`)
	beyond := 0
	for i, old := range was {
		recs, err := n.store.Read(ingest.Stream, i, old, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		beyond += len(recs)
		for _, rec := range recs {
			if rec.Offset < old {
				t.Errorf("shard %d gives %d again, the old bridge had come to %d", i, rec.Offset, old)
			}
		}
	}
	if beyond == 0 {
		t.Error("the new message is not behind those of the old bridge")
	}
	n.eventually("the new message waits behind the held one", func() bool {
		size, err := n.store.Size("$outbox/out/0")
		return err == nil && size.Records == 2
	})
	var held []hold.Held
	n.must("GET", "/v1/held", "", &held)
	found := false
	for _, h := range held {
		found = found || h.Name == "outbox/out/0" && h.Waiting == 2 && h.Backup == taken.ID
	}
	if !found || !strings.Contains(n.metrics(), `tidemill_restore_held_waiting{name="outbox/out/0"} 2`) {
		t.Errorf("held: %+v", held)
	}
	select {
	case got := <-posted:
		t.Errorf("%s went out before it was released", got)
	default: // it would have, as soon as it was in the outbox
	}
	n.must("POST", "/v1/held/release?name=outbox/out/0", "", nil)
	for _, want := range []string{`{"n":1}`, `{"n":3}`} {
		select {
		case got := <-posted:
			if got != want {
				t.Errorf("posted %s, want %s", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s was not posted", want)
		}
	}
	if code, _ := n.do("POST", "/v1/held/release?name=outbox/out/0", ""); code != http.StatusNotFound {
		t.Errorf("released twice: %d", code)
	}
}
