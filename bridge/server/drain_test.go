package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// A bridge that is drained takes nobody, has all that it acknowledged, says that it is
// draining, and its directory is refused until the move is taken back.
func TestDrain(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	d := b.connect(b.thing("pump-1", all("", "")), "pump-1")
	for i := range 50 {
		d.publish("dt/x", fmt.Sprint(i))
	}
	at := b.store.Position()
	if err := b.beginDrain(admin.Drain{To: "new.example.org:8883"}); err != nil {
		t.Fatal(err)
	}
	if err := b.beginDrain(admin.Drain{}); err != nil { // again
		t.Fatal(err)
	}
	if err := b.stopped(); err != nil {
		t.Fatal(err)
	}
	if err := b.Server.ready(); err == nil || !strings.Contains(err.Error(), "draining") {
		t.Errorf("ready: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := datadir.ReadMove(cfg.DataDir)
	if err != nil || m == nil || m.State != datadir.Drained || m.To != "new.example.org:8883" {
		t.Fatalf("%+v, %v", m, err)
	}
	other, err := reopen(t, cfg)
	if err == nil {
		other.Close()
	}
	if !errors.Is(err, datadir.ErrMoved) || !strings.Contains(err.Error(), "move undo") {
		t.Fatalf("opening it again: %v", err)
	}
	if err := errors.Join(datadir.EndMove(cfg.DataDir), datadir.EndMove(cfg.DataDir)); err != nil {
		t.Fatal(err)
	}
	again, err := reopen(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if now := again.store.Position(); now.Records < at.Records || again.store.Missing() > 0 {
		t.Errorf("the log has got to %+v, was at %+v", now, at)
	}
	if n, ok := again.dir.Note(); !ok || n.Log.Commits > again.store.Position().Commits {
		t.Errorf("note %+v, %v", n, ok)
	}
}

// A drain of what does not run, or to what is no address, is refused.
func TestDrainRefused(t *testing.T) {
	b := idle(t, configure(t))
	if err := b.beginDrain(admin.Drain{}); err == nil {
		t.Error("a bridge that does not run is drained")
	}
	b = start(t, configure(t))
	for _, to := range []string{"x", "x:0", ":8883", "x:99999", "a b:1", strings.Repeat("x", 300) + ":1"} {
		if status, text := b.do("POST", "/v1/drain", fmt.Sprintf(`{"to":%q}`, to)); status != http.StatusBadRequest {
			t.Errorf("to %q: %d %s", to, status, text)
		}
	}
}
