package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/fleet/devices"
	"github.com/tidemill/tidemill/deploy/qemu/session"
	"github.com/tidemill/tidemill/deploy/rig"
)

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		want string // in what it printed
	}{
		{"--help", 0, "tidemill-fleet -devices 1000"},
		{"", 2, "want -admin SOCKET"},
		{"x", 2, `unknown argument "x"`},
		{"-devices 0 -admin s", 2, "want 1 to 99999"},
		{"-devices 99999 -admin s", 2, "see ulimit -n"},
		{"-admin s -template pi", 2, "two ways"},
		{"-template pi -endpoint a:1 -ca ca -claim-cert c", 2, "-template needs -claim-key"},
		{"-parameter x -admin s", 2, "want name=value"},
		{"-chips warm -admin s", 2, "want one of ads1015"},
		{"-offline-every -1s -admin s", 2, "want 0, for never, or more"},
	} {
		var out bytes.Buffer
		args := append(strings.Fields(c.args), "-dir", t.TempDir())
		if code := start(t.Context(), args, &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %d, want %d and %q in:\n%s", c.args, code, c.code, c.want, &out)
		}
	}
}

// A fleet makes its identities at a bridge, by both ways, and uses them again; through
// faults each reading is acknowledged, waits, or was lost in memory at a power cut.
func TestFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs a bridge")
	}
	bin, err := rig.Build(t.Context(), "../..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	root, err := os.MkdirTemp("", "fleet") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	b, err := rig.NewBridge(bin, root, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	if err := b.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	claim := claimOf(t, b, root)
	for name, identity := range map[string][]string{
		"admin": {"-admin", filepath.Join(b.Dir, "admin.sock"), "-endpoint", b.MQTT},
		"claim": claim,
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"-dir", filepath.Join(root, name), "-prefix", name, "-devices", "5", "-json",
				"-every", "100ms", "-flush", "500ms", "-ramp", "1s", "-chips", "bme280,sht4x", "-offline-every", "5s",
				"-offline-for", "1s", "-reboot-every", "4s", "-power-cut-every", "4s",
				"-down-for", "200ms", "-clock-jump-every", "5s", "-clock-wrong-for", "1s"}, identity...)
			before := things(t, b)
			first := until(t, args, 200)
			if made := things(t, b) - before; made != 5 {
				t.Errorf("%d things were made", made)
			}
			second := until(t, args, 50)
			if made := things(t, b) - before; made != 5 {
				t.Errorf("%d things after the second start", made)
			}
			for _, x := range []struct {
				devices.Totals
				before uint64
			}{{first, 0}, {second, first.Spooled}} {
				if got, want := x.Acked+x.Spooled+x.Lost, x.before+x.Readings; got != want {
					t.Errorf("%d of %d readings are accounted for: %+v", got, want, x)
				}
			}
		})
	}
}

// until runs a fleet until so many readings are acknowledged.
func until(t *testing.T, args []string, acked uint64) (last devices.Totals) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Minute)
	defer stop()
	var errs bytes.Buffer
	out := &watcher{enough: func(x *devices.Totals) {
		if last = *x; x.Acked >= acked {
			stop()
		}
	}}
	if code := start(ctx, args, out, &errs); code != 0 {
		t.Fatalf("%d: %s", code, &errs)
	}
	if last.Acked < acked || last.Up != 0 || last.Dropped > 0 {
		t.Errorf("%+v\n%s", last, &errs)
	}
	return last
}

// A watcher reads what the program prints, an object a write.
type watcher struct{ enough func(*devices.Totals) }

func (w *watcher) Write(p []byte) (int, error) {
	var x devices.Totals
	if err := json.Unmarshal(p, &x); err != nil {
		return 0, err
	}
	w.enough(&x)
	return len(p), nil
}

func things(t *testing.T, b *rig.Bridge) int {
	t.Helper()
	var all []struct{}
	if err := b.Get(t.Context(), "/v1/things", nil, &all); err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// claimOf makes a template and a claim at a bridge, and returns the flags for them.
func claimOf(t *testing.T, b *rig.Bridge, dir string) []string {
	t.Helper()
	c, err := session.NewClaim(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := filepath.Join(dir, "claim.pem"), filepath.Join(dir, "claim.key")
	for path, text := range map[string]string{cert: c.Cert, key: c.Key} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"-endpoint", b.MQTT, "-ca", filepath.Join(b.Dir, "pki", "ca.pem"), "-template", session.Template,
		"-claim-cert", cert, "-claim-key", key, "-parameter", "SerialNumber={device}"}
}
