package server

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
)

// finds waits until a query finds just these things.
func (b *bridge) finds(query string, want ...string) {
	b.t.Helper()
	q, err := index.ParseQuery(query)
	if err != nil {
		b.t.Fatal(err)
	}
	b.eventually(fmt.Sprintf("%s finds %v", query, want), func() bool {
		got, _, err := b.Server.fleet.Search(index.Things, q, "", 100)
		return err == nil && slices.Equal(got, want)
	})
}

// The fleet index hears of shadows and connections, and not of what a client
// that was taken over leaves behind.
func TestFleetIndex(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("pump", all("", ""))
	b.update(func(tx *registry.Tx) error {
		return errors.Join(tx.SetIndexing(registry.Indexing{Things: true, Shadows: true, Connectivity: true}),
			tx.SetEventConfig(map[registry.EventType]bool{registry.MembershipEvent: true}),
			tx.CreateGroup(registry.Group{Name: "online", Query: "connectivity.connected:true"}))
	})
	b.finds("connectivity.connected:false", "pump")
	watcher := b.connect(id, "watcher")
	watcher.subscribe("$aws/events/thingGroupMembership/#")

	first := b.connect(id, "pump")
	b.finds("connectivity.connected:true", "pump")
	const topic = "$aws/events/thingGroupMembership/thingGroup/online/thing/pump/"
	next := func(want string) {
		t.Helper()
		if got := watcher.next(); len(got) < len(want) || got[:len(want)] != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	next(topic + "added ")
	if groups := b.Server.fleet.GroupsOf("pump"); !slices.Equal(groups, []string{"online"}) {
		t.Error(groups)
	}
	first.publish("$aws/things/pump/shadow/update", `{"state":{"reported":{"t":7}}}`)
	b.finds("shadow.reported.t>6", "pump")
	if _, text := b.do("GET", "/metrics", ""); !strings.Contains(text, "tidemill_fleet_things 1\n") ||
		!strings.Contains(text, "tidemill_fleet_active 1\n") {
		t.Error("no metrics of the index")
	}

	second := b.connect(id, "pump")
	first.ends()
	second.publish("$aws/things/pump/shadow/update", `{"state":{"reported":{"t":8}}}`)
	b.finds("shadow.reported.t:8 AND connectivity.connected:true", "pump")
	second.Disconnect(1000)
	b.finds("connectivity.disconnectReason:CLIENT_INITIATED_DISCONNECT", "pump")
	next(topic + "removed ")
	b.connect(id, "pump")
	next(topic + "added ")
}

// BenchmarkStart100k is the start of a bridge with 100,000 things that have
// shadows, from New until it is ready, and until its fleet index is.
func BenchmarkStart100k(b *testing.B) {
	const things = 100_000
	cfg := configure(b)
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		b.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	reg, err := registrytest.Open(filepath.Join(cfg.DataDir, "registry.db"))
	must(err)
	must(reg.Update(func(tx *registry.Tx) error {
		return tx.SetIndexing(registry.Indexing{Things: true, Shadows: true, Connectivity: true})
	}))
	db, err := bbolt.Open(filepath.Join(cfg.DataDir, "shadow.db"), 0o600, nil)
	must(err)
	for from := 0; from < things; from += 10_000 {
		must(reg.Update(func(tx *registry.Tx) error {
			for i := from; i < from+10_000; i++ {
				if err := tx.CreateThing(registry.Thing{Name: fmt.Sprintf("press-%06d", i),
					Attributes: map[string]string{
						"serial": fmt.Sprintf("SN-%08x", i*2654435761), "site": fmt.Sprint("site-", i%40),
						"model": fmt.Sprint("A", i%3), "fw": fmt.Sprint("1.", i%100)}}); err != nil {
					return err
				}
			}
			return nil
		}))
		must(db.Update(func(tx *bbolt.Tx) error { // as boltstore's FORMAT.md has it
			shadows, err := tx.CreateBucketIfNotExists([]byte("shadows"))
			for i := from; i < from+10_000 && err == nil; i++ {
				err = shadows.Put(fmt.Appendf(nil, "press-%06d/", i), fmt.Appendf(nil,
					`{"desired":{"every":5},"desired_times":{"every":%d},"reported":{"battery":%d,"mode":"run","temp":%d.5,"uptime":%d},`+
						`"reported_times":{"battery":%[1]d,"mode":%[1]d,"temp":%[1]d,"uptime":%[1]d},"version":3}`,
					1_750_000_000+i, i%101, i%80, i*31))
			}
			return err
		}))
	}
	must(errors.Join(reg.Close(), db.Close()))
	var indexed time.Duration
	n := 0
	for b.Loop() {
		began := time.Now()
		s := start(b, cfg)
		b.StopTimer()
		s.eventually("index is active", func() bool { return s.Server.fleet.Status(index.Things) == index.Active })
		indexed += time.Since(began)
		n++
		must(s.stop())
		must(s.Close())
		b.StartTimer()
	}
	b.ReportMetric(indexed.Seconds()/float64(n), "s/indexed")
}
