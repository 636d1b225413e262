package index

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltstore"
)

// A fleet is an index over a registry and shadows of its own.
type fleet struct {
	testing.TB
	registry *registry.Registry
	shadows  *boltstore.Store
	index    *Index
	stop     func()
	changes  []string
}

func newFleet(t testing.TB) *fleet {
	f := &fleet{TB: t}
	dir := t.TempDir()
	var err error
	f.registry, err = registrytest.Open(filepath.Join(dir, "registry.db"))
	f.must(err)
	f.shadows, err = boltstore.Open(filepath.Join(dir, "shadow.db"), boltstore.Options{})
	f.must(err)
	f.open()
	t.Cleanup(func() {
		f.must(errors.Join(f.registry.Close(), f.shadows.Close()))
	})
	return f
}

// open makes the index anew, as a start does.
func (f *fleet) open() {
	if f.stop != nil {
		f.stop()
	}
	var err error
	f.index, f.stop, err = New(f.registry, f.shadows, Options{Connectivity: true, Members: func(all []Membership) {
		for _, m := range all {
			f.changes = append(f.changes, fmt.Sprint(m.Group, map[bool]string{true: "+", false: "-"}[m.Added], m.Thing))
		}
	}})
	f.must(err)
}

func (f *fleet) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) update(do func(*registry.Tx) error) {
	f.Helper()
	f.must(f.registry.Update(do))
}

func (f *fleet) thing(name string, attributes ...string) {
	f.Helper()
	th := registry.Thing{Name: name, Attributes: map[string]string{}}
	for i := 0; i < len(attributes); i += 2 {
		th.Attributes[attributes[i]] = attributes[i+1]
	}
	f.update(func(tx *registry.Tx) error { return tx.CreateThing(th) })
}

// shadow updates one, as the service does.
func (f *fleet) shadow(thing, name, update string) {
	f.Helper()
	u, err := shadow.ParseUpdate([]byte(update), shadow.Limits{})
	f.must(err)
	d, err := f.shadows.Get(thing, name)
	f.must(err)
	d, err = d.Update(u, time.Unix(1_700_000_000, 0), shadow.Limits{})
	f.must(err)
	f.must(f.shadows.Put(thing, name, d))
	f.index.Changed(thing)
}

func (f *fleet) indexing(x registry.Indexing) {
	f.Helper()
	f.update(func(tx *registry.Tx) error { return tx.SetIndexing(x) })
}

// settle does all that Run would.
func (f *fleet) settle() {
	f.Helper()
	for more := true; more; {
		var err error
		more, err = f.index.step()
		f.must(err)
	}
}

func (f *fleet) finds(query string, want ...string) {
	f.Helper()
	got, _, err := f.index.Search(Things, mustParse(f, query), "", 1000)
	if err != nil || !slices.Equal(got, want) {
		f.Errorf("%s: %v, %v; want %v", query, got, err, want)
	}
}

func mustParse(t testing.TB, query string) *Query {
	t.Helper()
	q, err := ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

var everything = registry.Indexing{Things: true, Shadows: true, Connectivity: true, Named: true,
	NamedShadows: []string{"n", "$package"}, Groups: true}

// The index follows the registry, shadows and connections, and a start makes the
// same one.
func TestIndexFollows(t *testing.T) {
	f := newFleet(t)
	f.thing("early", "line", "b")
	f.shadow("early", "", `{"state":{"reported":{"t":1}}}`)
	if _, _, err := f.index.Search(Things, mustParse(t, "*"), "", 1); !errors.Is(err, ErrNoIndex) {
		t.Errorf("off: %v", err)
	}
	f.indexing(registry.Indexing{Things: true})
	if _, _, err := f.index.Search(Things, mustParse(t, "*"), "", 1); !errors.Is(err, ErrNotReady) ||
		f.index.Status(Things) != Building {
		t.Errorf("building: %v", err)
	}
	must(t, f.index.configure())
	if _, _, err := f.index.Search(Things, mustParse(t, "*"), "", 1); !errors.Is(err, ErrNotReady) ||
		f.index.Status(Things) != Building {
		t.Errorf("building: %v", err)
	}
	f.settle()
	f.finds("attributes.line:b", "early")
	f.finds("shadow.reported.t:1")
	f.indexing(everything)
	f.settle()
	if f.index.Status(Things) != Active || f.index.Status(Groups) != Active {
		t.Errorf("%s, %s", f.index.Status(Things), f.index.Status(Groups))
	}
	f.finds("shadow.reported.t:1", "early")

	f.thing("late", "line", "c")
	f.update(func(tx *registry.Tx) error {
		return errors.Join(tx.CreateGroup(registry.Group{Name: "plant", Attributes: map[string]string{"town": "a"}}),
			tx.CreateGroup(registry.Group{Name: "hall", Parent: "plant", Description: "The big hall"}),
			tx.AddToGroup("late", "hall"))
	})
	f.shadow("late", "n", `{"state":{"desired":{"x":true}}}`)
	f.shadow("nobody", "", `{"state":{"desired":{"x":true}}}`)
	at := time.UnixMilli(1_700_000_000_123)
	f.index.Connected("late", 1, at)
	f.index.Connected("late", 2, at.Add(time.Second)) // takes over
	f.index.Disconnected("late", 1, "DUPLICATE_CLIENTID", at.Add(2*time.Second))
	f.index.Connected("stranger", 3, at)
	f.index.Disconnected("stranger", 3, "CONNECTION_LOST", at)
	check := func() {
		t.Helper()
		f.settle()
		f.finds("*", "early", "late")
		f.finds("thingGroupNames:hall", "late")
		f.finds("shadow.name.n.desired.x:true", "late")
	}
	check()
	f.finds("connectivity.connected:true", "late")
	f.finds("connectivity.timestamp:1700000001123", "late")
	f.finds("connectivity.connected:false", "early")
	if f.index.presence("stranger") != (Presence{}) || len(f.index.presences) != 1 {
		t.Errorf("presences: %v", f.index.presences)
	}
	groups := func(query string, want ...string) {
		t.Helper()
		got, _, err := f.index.Search(Groups, mustParse(t, query), "", 10)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", query, got, err)
		}
	}
	groups("parentGroupNames:plant", "hall")
	groups(`description:"big hall"`, "hall")
	groups("attributes.town:a OR thingGroupName:h*", "hall", "plant")

	found, err := f.index.Things([]string{"early", "gone", "late"})
	must(t, err)
	const want = `[early {"hasDelta":false,"metadata":{"reported":{"t":{"timestamp":1700000000}}},` +
		`"reported":{"t":1},"version":1} false late ` +
		`{"name":{"n":{"delta":{"x":true},"desired":{"x":true},"hasDelta":true,` +
		`"metadata":{"desired":{"x":{"timestamp":1700000000}}},"version":1}}} true]`
	var got []any
	for _, x := range found {
		got = append(got, x.Name, string(x.Shadow), x.Presence.Connected)
	}
	if s := fmt.Sprint(got); s != want {
		t.Errorf("found %s\n want %s", s, want)
	}

	f.open()
	check()
	f.finds("connectivity.connected:true") // nobody has come back yet

	f.update(func(tx *registry.Tx) error { return tx.DeleteThing("early", 0) })
	f.must(f.shadows.Put("late", "n", (&shadow.Document{Version: 3}).Delete(at)))
	f.index.Changed("late")
	f.settle()
	f.finds("*", "late")
	f.finds("shadow.name.n.hasDelta:*")
	f.update(func(tx *registry.Tx) error { return tx.DeleteGroup("hall", 0) })
	f.settle()
	groups("*", "plant")
	f.finds("thingGroupNames:*")

	f.index.Connected("late", 4, at)
	f.index.Disconnected("late", 4, "CONNECTION_LOST", at)
	f.indexing(registry.Indexing{})
	f.settle()
	if _, _, err := f.index.Search(Things, mustParse(t, "*"), "", 1); !errors.Is(err, ErrNoIndex) {
		t.Errorf("off again: %v", err)
	}
	if len(f.index.presences) != 0 {
		t.Errorf("presences: %v", f.index.presences)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A document is in the index with what it has itself, not with that times the
// length of a path.
func TestLargeShadows(t *testing.T) {
	f := newFleet(t)
	f.indexing(everything)
	f.thing("wide")
	f.thing("deep")
	var members []string
	for i := range 800 {
		members = append(members, fmt.Sprintf(`"%04d":1`, i))
	}
	f.shadow("wide", "", `{"state":{"reported":{`+strings.Join(members, ",")+`}}}`)
	f.shadow("deep", "", `{"state":{"reported":{"short":7,"`+strings.Repeat("x", 250)+`":{`+strings.Join(members, ",")+
		`}}}}`)
	f.settle()
	f.finds("thingName:*", "deep", "wide")
	f.finds("shadow.reported.short:7", "deep")
	f.finds("shadow.reported.0799:1", "wide")
	f.finds("shadow.metadata.reported.0100.timestamp:*", "wide")
	f.finds("shadow.metadata.reported.0799.timestamp:*") // the 1,602nd
	if n := len(f.index.things.fields); n > 1100 {
		t.Errorf("%d fields", n)
	}
	f.shadow("wide", "", `{"state":{"reported":null}}`)
	f.shadow("deep", "", `{"state":{"reported":null}}`)
	f.settle()
	f.finds("shadow.reported.short:7")
	if n := len(f.index.things.byName); n > 10 {
		t.Errorf("%d fields are left", n)
	}
}

func TestDynamicGroups(t *testing.T) {
	f := newFleet(t)
	f.indexing(everything)
	for i := range 600 { // more than one batch
		f.thing(fmt.Sprintf("t%03d", i), "n", fmt.Sprint(i))
	}
	f.settle()
	group := func(name, query string) {
		t.Helper()
		f.update(func(tx *registry.Tx) error { return tx.CreateGroup(registry.Group{Name: name, Query: query}) })
		f.settle()
	}
	changed := func(want ...string) {
		t.Helper()
		f.settle()
		if slices.Sort(f.changes); !slices.Equal(f.changes, want) {
			t.Errorf("changes %v, want %v", f.changes, want)
		}
		f.changes = nil
	}
	if _, _, ok := f.index.Members("warm", "", 10); ok {
		t.Error("a group before it is made")
	}
	group("warm", "shadow.reported.temp>60")
	changed()
	f.shadow("t001", "", `{"state":{"reported":{"temp":61}}}`)
	f.shadow("t599", "", `{"state":{"reported":{"temp":70}}}`)
	f.shadow("t002", "", `{"state":{"reported":{"temp":60}}}`)
	changed("warm+t001", "warm+t599")
	f.shadow("t001", "", `{"state":{"reported":{"temp":62}}}`)
	changed()
	group("hot", "attributes.n<2 shadow.reported.temp:[61 TO 100]")
	changed("hot+t001")
	if got := f.index.GroupsOf("t001"); !slices.Equal(got, []string{"hot", "warm"}) {
		t.Error(got)
	}
	page, next, ok := f.index.Members("warm", "", 1)
	rest, last, _ := f.index.Members("warm", next, 1)
	if fmt.Sprintln(page, next, ok, rest, last) != "[t001] t001 true [t599] \n" {
		t.Error(page, next, ok, rest, last)
	}
	f.update(func(tx *registry.Tx) error {
		_, err := tx.UpdateGroup("warm", 0, func(g *registry.Group) error {
			g.Query = "shadow.reported.temp:60"
			return nil
		})
		return err
	})
	changed("warm+t002", "warm-t001", "warm-t599")
	f.update(func(tx *registry.Tx) error { return tx.DeleteThing("t001", 0) })
	changed("hot-t001")
	f.update(func(tx *registry.Tx) error {
		return errors.Join(tx.CreateThing(registry.Thing{Name: "t001"}), tx.DeleteGroup("hot", 0))
	})
	changed()
	if got := f.index.GroupsOf("t001"); got != nil {
		t.Error(got)
	}
	err := f.registry.Update(func(tx *registry.Tx) error { return tx.SetIndexing(registry.Indexing{}) })
	if !errors.Is(err, registry.ErrInUse) {
		t.Errorf("switched off with a dynamic group: %v", err)
	}

	f.open() // who was in it before is not known: nobody comes, nobody leaves
	if _, _, ok := f.index.Members("warm", "", 10); ok || f.index.GroupsOf("t002") != nil {
		t.Error("members before the index is built")
	}
	changed()
	if page, _, ok := f.index.Members("warm", "", 10); !ok || !slices.Equal(page, []string{"t002"}) {
		t.Error(page, ok)
	}
}

func TestAggregations(t *testing.T) {
	f := newFleet(t)
	// 13 values that give what AWS's example of GetPercentiles shows.
	n := 0
	for value, times := range map[string]int{"1": 4, "2": 5, "3": 4} {
		for range times {
			f.thing(fmt.Sprint("t", n), "num", value, "str", "v"+value, "bool", fmt.Sprint(value != "3"))
			n++
		}
	}
	f.thing("none", "num", "many")
	x := everything
	x.Fields = []registry.Field{{Name: "attributes.bool", Type: "Boolean"}, {Name: "attributes.asText", Type: "String"},
		{Name: "attributes.num", Type: "Number"}}
	f.indexing(x)
	f.settle()
	all := mustParse(t, "*")
	got, err := f.index.Percentiles(Things, all, "attributes.num",
		[]float64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99, 100})
	must(t, err)
	for i, want := range []float64{1, 1, 1, 1.4, 2, 2, 2, 2.6, 3, 3, 3, 3} {
		if math.Abs(got[i]-want) > 1e-9 {
			t.Errorf("percentiles %v", got)
		}
	}
	s, err := f.index.Statistics(Things, all, "attributes.num")
	must(t, err)
	if s.Count != 13 || *s.Average != 2 || *s.Sum != 26 || *s.Minimum != 1 || *s.Maximum != 3 ||
		*s.SumOfSquares != 60 || math.Abs(*s.Variance-8./13) > 1e-12 {
		t.Errorf("%+v", s)
	}
	s, err = f.index.Statistics(Things, all, "attributes.str")
	if err != nil || s.Count != 13 || s.Average != nil {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = f.index.Statistics(Things, mustParse(t, "NOT attributes.num:1"), "attributes.bool")
	if err != nil || s.Count != 9 || math.Abs(*s.Average-5./9) > 1e-12 || *s.Minimum != 0 || *s.Maximum != 1 ||
		*s.Sum != 5 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err = f.index.Statistics(Things, all, ""); err != nil || s.Count != 14 || *s.Maximum != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if n, err := f.index.Cardinality(Things, all, "attributes.str"); n != 3 || err != nil {
		t.Error(n, err)
	}
	if n, err := f.index.Cardinality(Things, mustParse(t, "thingName:nobody"), "attributes.str"); n != 0 || err != nil {
		t.Error(n, err)
	}
	buckets, total, err := f.index.Buckets(Things, all, "attributes.str", 2)
	if fmt.Sprint(buckets, total, err) != "[{v2 5} {v1 4}] 14 <nil>" {
		t.Error(buckets, total, err)
	}
	if _, err := f.index.Percentiles(Things, all, "thingName", []float64{1}); !errors.Is(err, ErrAggregation) {
		t.Error(err)
	}
	if got, err := f.index.Percentiles(Things, all, "attributes.nothing", []float64{1}); got != nil || err != nil {
		t.Error(got, err)
	}
	if buckets, _, err := f.index.Buckets(Things, all, "connectivity.connected", 9); fmt.Sprint(buckets,
		err) != "[{false 14}] <nil>" {
		t.Error(buckets, err)
	}
	f.thing("big", "num", "1e308")
	f.thing("bigger", "num", "1.5e308")
	f.settle()
	if s, err = f.index.Statistics(Things, all, "attributes.num"); err != nil || s.Count != 15 || s.Sum != nil {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestIndexingIsChecked(t *testing.T) {
	f := newFleet(t)
	for name, x := range map[string]registry.Indexing{
		"shadows without things":      {Shadows: true},
		"connectivity without things": {Connectivity: true},
		"name of a shadow":            {Things: true, Named: true, NamedShadows: []string{"a b"}},
		"many shadows":                {Things: true, NamedShadows: make([]string, registry.MaxNamedShadows+1)},
		"type":                        {Things: true, Fields: []registry.Field{{Name: "attributes.a", Type: "Text"}}},
		"field of shadows": {Things: true,
			Fields: []registry.Field{{Name: "shadow.reported.a", Type: "String"}}},
		"field of named shadows": {Things: true, Shadows: true,
			Fields: []registry.Field{{Name: "shadow.name.n.reported.a", Type: "String"}}},
		"managed field": {Things: true, Fields: []registry.Field{{Name: "thingName", Type: "String"}}},
		"field of groups": {Things: true,
			GroupFields: []registry.Field{{Name: "attributes.a", Type: "String"}}},
	} {
		if err := f.registry.Update(func(tx *registry.Tx) error {
			return tx.SetIndexing(x)
		}); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Searches go on while the index changes, and Run ends with its context.
func TestSearchWhileIndexing(t *testing.T) {
	f := newFleet(t)
	f.indexing(everything)
	for i := range 300 {
		f.thing(fmt.Sprint("t", i), "i", fmt.Sprint(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.index.Run(ctx) }()
	q := mustParse(t, "attributes.i>=0 shadow.reported.n:[0 TO 9]")
	deadline := time.Now().Add(30 * time.Second)
	for i := 0; ; i++ {
		if i < 300 {
			f.shadow(fmt.Sprint("t", i), "",
				fmt.Sprintf(`{"state":{"reported":{"n":%d,"text":"%s"}}}`, i%10, strings.Repeat("w ", i%5)))
			f.index.Connected(fmt.Sprint("t", i), i, time.Now())
		}
		names, _, err := f.index.Search(Things, q, "", 1000)
		if err != nil && !errors.Is(err, ErrNotReady) {
			t.Fatal(err)
		}
		if len(names) == 300 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d found", len(names))
		}
	}
	cancel()
	must(t, <-done)
}
