package index

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltstore"
)

const fleetSize = 100_000

// A fleet of things like the field's: six attributes, two groups, and a shadow
// of eleven reported and three desired members, with their times.
func fleetThing(i int) (registry.Thing, *shadow.Document) {
	r := rand.New(rand.NewPCG(7, uint64(i)))
	name := fmt.Sprintf("press-%06d", i)
	th := registry.Thing{Name: name, Version: 1, Created: time.Unix(1_700_000_000+int64(i), 0).UTC(),
		Attributes: map[string]string{
			"serial": fmt.Sprintf("SN-%08x", r.Uint32()), "site": fmt.Sprint("site-", i%40),
			"line":  fmt.Sprint(i % 300),
			"model": []string{"A100", "A200", "B7"}[i%3],
			"fw":    fmt.Sprintf("%d.%d.%d", r.IntN(3), r.IntN(10), r.IntN(20)),
			"year":  fmt.Sprint(2015 + i%11),
		}}
	text := fmt.Sprintf(`{"state":{"reported":{"temp":%.1f,"battery":%d,"uptime":%d,"mode":%q,"fw":%q,`+
		`"net":{"ip":"10.%d.%d.%d","rssi":-%d,"up":%t},`+
		`"tags":["a","t%d"],"place":"Hall %d row %d"},"desired":{"mode":%q,"every":%d,"fw":%q}}}`,
		20+r.Float64()*60, r.IntN(101), r.IntN(10_000_000), []string{"run", "idle", "fault"}[r.IntN(3)],
		th.Attributes["fw"],
		r.IntN(4), r.IntN(256), r.IntN(256), 40+r.IntN(50), r.IntN(9) > 0, i%50, i%12, i%30,
		[]string{"run", "idle"}[r.IntN(2)], 1+r.IntN(60), "2.9.19")
	u, err := shadow.ParseUpdate([]byte(text), shadow.Limits{})
	if err != nil {
		panic(err)
	}
	d, err := (*shadow.Document)(nil).Update(u, time.Unix(1_750_000_000+int64(r.IntN(86400)), 0), shadow.Limits{})
	if err != nil {
		panic(err)
	}
	return th, d
}

// newLarge makes a registry and a shadow store of fleetSize things, and an index
// that is to be built.
func newLarge(b *testing.B) *fleet {
	f := &fleet{TB: b}
	dir := b.TempDir()
	var err error
	f.registry, err = registrytest.Open(filepath.Join(dir, "registry.db"))
	f.must(err)
	for from := 0; from < fleetSize; from += 10_000 {
		f.update(func(tx *registry.Tx) error {
			for i := from; i < from+10_000; i++ {
				th, _ := fleetThing(i)
				if err := tx.CreateThing(th); err != nil {
					return err
				}
			}
			return nil
		})
	}
	// The store would sync each document; this is its layout.
	db, err := bbolt.Open(filepath.Join(dir, "shadow.db"), 0o600, nil)
	f.must(err)
	for from := 0; from < fleetSize; from += 10_000 {
		f.must(db.Update(func(tx *bbolt.Tx) error {
			shadows, err := tx.CreateBucketIfNotExists([]byte("shadows"))
			if err != nil {
				return err
			}
			for i := from; i < from+10_000; i++ {
				th, d := fleetThing(i)
				if err := shadows.Put([]byte(th.Name+"/"), d.AppendRecord(nil)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	f.must(db.Close())
	f.shadows, err = boltstore.Open(filepath.Join(dir, "shadow.db"), boltstore.Options{})
	f.must(err)
	b.Cleanup(func() { _, _ = f.registry.Close(), f.shadows.Close() })
	f.indexing(registry.Indexing{Things: true, Shadows: true, Connectivity: true})
	return f
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkBuild100k builds the index of 100,000 things from registry and
// shadows.
func BenchmarkBuild100k(b *testing.B) {
	f := newLarge(b)
	before := heap()
	for b.Loop() {
		f.open()
		f.settle()
	}
	b.StopTimer()
	b.ReportMetric(float64(heap()-before)/fleetSize, "heap-B/thing")
	terms := 0
	for i := range f.index.things.docs {
		terms += len(f.index.things.docs[i].terms)
	}
	b.ReportMetric(float64(terms)/fleetSize, "terms/thing")
	b.ReportMetric(float64(len(f.index.things.byText)), "different-terms")
}

// BenchmarkSearch100k is one page of 100 of what queries find among 100,000
// things, and what 256 changed shadows cost.
func BenchmarkSearch100k(b *testing.B) {
	f := newLarge(b)
	f.open()
	f.settle()
	for _, s := range []string{
		"*",
		"thingName:press-000123",
		"thingName:press-0001*",
		"thingName:*77*",
		"attributes.site:site-7 AND attributes.model:A100",
		"attributes.serial:sn-0*",
		"shadow.reported.temp>70",
		"shadow.reported.uptime:[1000 TO 2000]",
		"shadow.reported.temp>60 shadow.reported.battery<20 NOT attributes.model:B7",
		"shadow.metadata.reported.temp.timestamp<1750000100",
		`shadow.reported.place:"hall 7"`,
		"fault",
		"*faul*",
		"(shadow.reported.mode:fault OR shadow.hasDelta:true) AND attributes.year:[2017 TO 2020] connectivity.connected:false",
	} {
		q := mustParse(b, s)
		b.Run(strings.ReplaceAll(s, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if names, _, err := f.index.Search(Things, q, "", 100); err != nil || len(names) == 0 {
					b.Fatal(len(names), err)
				}
			}
			b.ReportMetric(float64(f.index.things.search(q).len()), "found")
		})
	}
	b.Run("page-with-documents", func(b *testing.B) {
		q := mustParse(b, "shadow.reported.mode:fault")
		for b.Loop() {
			names, _, err := f.index.Search(Things, q, "press-05", 100)
			if found, e := f.index.Things(names); err != nil || e != nil || len(found) != 100 {
				b.Fatal(err, e)
			}
		}
	})
	b.Run("buckets", func(b *testing.B) {
		q := mustParse(b, "attributes.model:A100")
		for b.Loop() {
			if _, _, err := f.index.Buckets(Things, q, "shadow.reported.fw", 10); err != nil {
				b.Fatal(err)
			}
		}
	})
	update := func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			f.index.Changed(fmt.Sprintf("press-%06d", i%fleetSize))
			if i%batch == 0 {
				f.settle()
			}
		}
	}
	b.Run("update", update)
	for i := range MaxDynamicGroups {
		f.update(func(tx *registry.Tx) error {
			return tx.CreateGroup(registry.Group{Name: fmt.Sprint("g", i),
				Query: fmt.Sprintf("shadow.reported.temp>%d AND attributes.site:site-%d", i, i%40)})
		})
	}
	f.settle()
	b.Run("update_with_100_groups", update)
}
