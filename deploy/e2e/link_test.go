package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/deploy/rig"
)

// TestLinkErrors: `tidemill-agent status` says what is wrong with a link, in
// a word for machines and a sentence for people.
func TestLinkErrors(t *testing.T) {
	f := newFleet(t, 0, "", nil)
	_, port, _ := strings.Cut(f.bridge.MQTT, ":")
	nobody, err := rig.FreePort()
	f.must(err)
	cases := []struct {
		thing, endpoint, config string
		prepare                 func(a *rig.Agent)
		kind, sentence          string
	}{
		{thing: "wrong-ca", kind: "server_ca", sentence: "is not from the CA in uplink.ca",
			prepare: func(a *rig.Agent) {
				other := t.TempDir()
				f.must(selfSigned(other, "other"))
				f.must(os.Remove(filepath.Join(a.Dir, "ca.pem")))
				f.must(copyFile(filepath.Join(other, "cert.pem"), filepath.Join(a.Dir, "ca.pem")))
			}},
		{thing: "wrong-name", config: "tls_server_name = \"elsewhere.example\"\n", kind: "server_name",
			sentence: `is not for the name "elsewhere.example"`},
		{thing: "no-name", endpoint: "no-such-host.invalid:" + port, kind: "dns", sentence: `"no-such-host.invalid:` +
			port + `" does not resolve`},
		{thing: "no-bridge", endpoint: nobody, kind: "tcp_refused", sentence: "nothing listens at " + nobody},
		{thing: "wrong-id", config: "client_id = \"somebody\"\n", kind: "not_authorized",
			sentence: `client id "somebody"`},
		{thing: "stranger", kind: "bad_credentials", sentence: "not registered there, not active, or revoked",
			prepare: func(a *rig.Agent) {
				for _, name := range []string{"key.pem", "cert.pem"} {
					f.must(os.Remove(filepath.Join(a.Dir, name)))
				}
				f.must(selfSigned(a.Dir, a.Thing))
			}},
		{thing: "revoked", kind: "bad_credentials", sentence: "not registered there, not active, or revoked",
			prepare: func(a *rig.Agent) {
				_, err := f.bridge.Command(f.ctx, "cert", "status", f.certificate(identity{id: a.Thing}), "REVOKED")
				f.must(err)
			}},
	}
	for _, c := range cases {
		endpoint := c.endpoint
		if endpoint == "" {
			endpoint = f.bridge.MQTT
		}
		a, err := rig.NewAgent(f.ctx, f.bridge, c.thing, f.dir, endpoint, c.config+countSensor)
		f.must(err)
		f.agents = append(f.agents, a)
		if c.prepare != nil {
			c.prepare(a)
		}
		f.must(a.Start())
	}
	ctx, cancel := context.WithTimeout(f.ctx, 5*patience)
	defer cancel()
	for i, c := range cases {
		f.must(rig.Until(ctx, "the state of "+c.thing, func() (bool, error) {
			text, err := f.agents[i].Command(ctx, "status")
			if err != nil {
				return false, err
			}
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "last error") && strings.Contains(line, ", "+c.kind+": ") &&
					strings.Contains(line, c.sentence) {
					return true, nil
				}
			}
			return false, fmt.Errorf("want %s, %q:\n%s", c.kind, c.sentence, text)
		}))
		// Meanwhile nothing is lost, and nothing is sent.
		var st device.Status
		f.must(f.agents[i].Status(ctx, &st))
		if st.Link.Acked != 0 || st.Link.Connects != 0 || st.Spool.Dropped != 0 {
			t.Errorf("%s: %+v", c.thing, st)
		}
	}
	// One of them is put right, and sends all it has.
	fixed := f.agents[4]
	f.must(fixed.Configure(countPause))
	f.must(fixed.Stop(patience))
	f.must(fixed.Start())
	f.agents = []*rig.Agent{fixed}
	f.drained()
	// A certificate that is revoked under way ends the connection.
	_, err = f.bridge.Command(ctx, "cert", "status", f.certificate(identity{id: fixed.Thing}), "REVOKED")
	f.must(err)
	f.must(rig.Until(ctx, "the end of the revoked", func() (bool, error) {
		var st device.Status
		err := fixed.Status(ctx, &st)
		return st.Link.State != "online" && st.Link.ErrorKind == "bad_credentials", err
	}))
}

// TestOutage: the bridge is away for a while, and the agent is stopped, killed
// and started meanwhile. Every reading arrives once, in order.
func TestOutage(t *testing.T) {
	f := newFleet(t, 1, countSensor, map[string]string{"rules/count.json": countRule,
		"streams/readings.json":         countStream,
		"delivery-streams/archive.json": countDelivery})
	a := f.agents[0]
	ctx, cancel := context.WithTimeout(f.ctx, 5*patience)
	defer cancel()
	until := func(what string, cond func(st *device.Status) bool) {
		t.Helper()
		f.must(rig.Until(ctx, what, func() (bool, error) {
			var st device.Status
			err := a.Status(ctx, &st)
			return err == nil && cond(&st), err
		}))
	}
	until("readings at the bridge", func(st *device.Status) bool { return st.Link.Acked > 0 })
	f.must(f.bridge.Stop(patience))
	var waiting uint64
	for range 3 {
		until("more in the spool", func(st *device.Status) bool {
			return st.Link.State != "online" && st.Spool.Readings >= waiting+50 && st.Link.ErrorKind != ""
		})
		f.must(a.Stop(patience))
		st, err := spool.Inspect(a.SpoolFile())
		f.must(err)
		waiting = st.Readings
		f.must(a.Start())
		until("readings of the new start", func(st *device.Status) bool { return st.Spool.Readings > waiting })
		a.Kill()
		f.must(a.Start())
	}
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(ctx))
	f.must(a.Configure(countPause))
	f.must(a.Stop(patience))
	f.must(a.Start())
	f.drained()
	f.must(a.Stop(patience))
	st, err := spool.Inspect(a.SpoolFile())
	f.must(err)
	f.must(rig.Until(ctx, "the rule", func() (bool, error) {
		n := uint64(len(f.streamReadings("readings")))
		return n >= st.Appended, fmt.Errorf("%d of %d", n, st.Appended)
	}))
	all := f.streamReadings("readings")
	missing, doubled := account(t, "stream", all, map[string]uint64{a.Thing: st.Appended}, true)
	lives := map[int64]bool{}
	for _, r := range all {
		lives[r.Life] = true
	}
	t.Logf("%d readings of %d lives, %d missing, %d doubled", len(all), len(lives), missing, doubled)
	if st.Dropped != 0 || len(lives) < 4 {
		t.Errorf("dropped %d, lives %d", st.Dropped, len(lives))
	}
}
