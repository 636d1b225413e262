package index

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/shadow"
)

var sampleNames = []string{"Pump-1", "pump-2", "press:3", "x", "y"}

// sampleCells makes the cells of a small thing of a few values.
func sampleCells(seed uint64) (c cells) {
	r := rand.New(rand.NewPCG(seed, 1))
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	c.text(fieldName, sampleNames[r.IntN(len(sampleNames))])
	for _, f := range []string{"attributes.a", "attributes.b", "x"} {
		if r.IntN(3) > 0 {
			c.text(f, pick("1", "5", "75", "7.5e1", "1.10", "red", "Red", "RED", "New York", "new  york city", "york",
				"true", "a*b", "-5", "İx"))
		}
	}
	for _, f := range []string{"shadow.reported.n", "shadow.reported.list"} {
		c.scalar(f, json.Number(pick("1", "5", "75", "7.5e1", "-5", "1e400", "9007199254740993")))
		c.scalar(f, r.IntN(2) == 0)
	}
	c.count(fieldVersion, uint64(r.IntN(3)))
	for range r.IntN(3) {
		c.scalar("shadow.metadata.reported.n.timestamp", shadow.Stamp(r.IntN(80)))
	}
	return c
}

// Random documents come, change and go; a plain map of them is the model, and
// each query is asked of both ways to answer it.
func TestCorpusModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	var queries []*Query
	for _, s := range []string{
		"*", "red", "york", `"new york"`, "75", "attributes.a:75", "attributes.a:[2 TO 80]", "x:{n TO z}",
		"NOT attributes.b:*", "attributes.a:r*d OR x:true",
		"shadow.reported.n:75 -x:york", "shadow.reported.n<0", "registry.version:1", "1.1", "attributes.a:1.10",
		"attributes.a:a\\*b", "shadow.reported.list:true",
		"shadow.metadata.reported.n.timestamp:[5 TO 40]", "shadow.metadata.reported.n.timestamp:7?",
		"NOT shadow.metadata.reported.n.timestamp:75",
	} {
		q, err := ParseQuery(s)
		if err != nil {
			t.Fatal(err)
		}
		queries = append(queries, q)
	}
	c, model := newCorpus(), map[string]cells{}
	for range 20_000 {
		name := fmt.Sprint("t", r.IntN(400))
		if r.IntN(4) == 0 {
			_, there := model[name]
			if _, ok := c.remove(name); ok != there {
				t.Fatalf("remove %s: %v", name, ok)
			}
			delete(model, name)
		} else {
			model[name] = sampleCells(r.Uint64N(3000))
			c.put(name, model[name])
		}
	}
	fresh := newCorpus() // in the order of names
	for _, name := range slices.Sorted(mapKeys(model)) {
		fresh.put(name, model[name])
	}
	for _, q := range queries {
		agree(t, c, q)
		got, _ := c.page(c.search(q), "", len(model)+1)
		want, _ := fresh.page(fresh.search(q), "", len(model)+1)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d found, want %d", q, len(got), len(want))
		}
		var paged []string
		for after := ""; ; {
			page, next := c.page(c.search(q), after, 7)
			if paged = append(paged, page...); next == "" {
				break
			}
			after = next
		}
		if !slices.Equal(got, paged) {
			t.Errorf("%s: in pages %d, at once %d", q, len(paged), len(got))
		}
	}
	for name := range model {
		c.remove(name)
	}
	// 0 is no term.
	if len(c.byText)+len(c.folded)+len(c.byName)+len(c.order) != 0 || !c.live.empty() ||
		len(c.freeTerms) != len(c.pages)*pageTerms-1 || len(c.freeFields) != len(c.fields) ||
		len(c.free) != len(c.docs) {
		t.Errorf("left over: %d terms, %d folded, %d fields", len(c.byText), len(c.folded), len(c.byName))
	}
}

func mapKeys[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// A posting is a list or a set, whichever is smaller, and always the same
// numbers.
func TestPosting(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var p posting
	model := set{}
	dense, lists := 0, 0
	const most = 5000
	for i := range 200_000 {
		n := uint32(r.IntN(most))
		if up := i/40_000%2 == 0; model.has(n) && (!up || r.IntN(10) == 0) {
			p.remove(n)
			model.remove(n)
		} else if !model.has(n) && (up || r.IntN(10) == 0) {
			p.add(n)
			model.add(n)
		}
		if p.dense {
			dense++
		} else {
			lists++
		}
		if i%1000 == 0 {
			got := make(set, most/32+1)
			p.into(got)
			if int(p.n) != model.len() || !slices.Equal(got[:len(model)], model) || p.within(got) != int(p.n) {
				t.Fatalf("after %d: %d numbers, want %d", i, p.n, model.len())
			}
		}
	}
	if dense == 0 || lists == 0 {
		t.Errorf("%d dense, %d lists", dense, lists)
	}
}

// What AWS's guide says of its examples (developer guide, "Example thing
// queries", "Restrictions and limitations").
func TestQueries(t *testing.T) {
	c := newCorpus()
	add := func(name string, th registry.Thing, p *Presence, shadows map[string]string) {
		var x cells
		th.Name = name
		x.thing(&th)
		for shadowName, doc := range shadows {
			u, err := shadow.ParseUpdate([]byte(doc), shadow.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			d, err := (*shadow.Document)(nil).Update(u, th.Created.AddDate(2000, 0, 0), shadow.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			prefix := "shadow"
			if shadowName != "" {
				prefix += ".name." + shadowName
			}
			x.shadow(prefix, d)
		}
		if p != nil {
			x.presence(p)
		}
		c.put(name, x)
	}
	add("myThing", registry.Thing{Type: "aa", Groups: []string{"a", "hall"}, BillingGroup: "cheap", Version: 3,
		Attributes: map[string]string{"myAttribute": "75", "serialNumber": "abcd", "attr1": "abc", "attr2": "4",
			"model": "Legacy"}},
		&Presence{Connected: true, Version: 1}, map[string]string{
			"":  `{"state":{"reported":{"location":"New York","myvalues":[1,2,3],"stats":{"battery":78},"fw":"v2","empty":null}}}`,
			"n": `{"state":{"desired":{"filament":"pla"}}}`})
	add("ab1", registry.Thing{Attributes: map[string]string{"myAttribute": "80", "serialNumber": "ABCF", "attr1": "abc",
		"attr2": "4", "attr3": "11", "text": "input"}},
		&Presence{Reason: "CONNECTION_LOST"},
		map[string]string{"": `{"state":{"desired":{"stats":{"battery":1},"colors":["RED","GREEN"],` +
			`"palette":[{"name":"RED"}],"a.b":true}}}`})
	add("abc", registry.Thing{Attributes: map[string]string{"myAttribute": "80.5", "version": "1.10"}}, nil, nil)
	for query, want := range map[string]string{
		"*":                                          "[ab1 abc myThing]",
		"abc":                                        "[ab1 abc myThing]",
		"thingName:mything":                          "[myThing]",
		"thingName:my*":                              "[myThing]",
		"thingName:*thing":                           "[myThing]",
		"thingName:ab?":                              "[ab1 abc]",
		"thingTypeName:aa":                           "[myThing]",
		"registry.thingTypeName:AA":                  "[myThing]",
		"thingGroupNames:a":                          "[myThing]",
		"thingGroupNames:(hall AND cheap)":           "[myThing]",
		"attributes.myAttribute:75":                  "[myThing]",
		"attributes.myAttribute:[75 TO 80]":          "[ab1 myThing]",
		"attributes.myAttribute:{75 TO 80]":          "[ab1]",
		"attributes.myAttribute:{75 TO 80}":          "[]",
		"attributes.myAttribute>80":                  "[abc]",
		`attributes.serialNumber:["abcd" TO "abcf"]`: "[ab1 myThing]",
		"attributes.serialNumber:[abcd TO abce]":     "[myThing]",
		"attributes.text:i*t":                        "[ab1]",
		"attributes.attr1:abc AND attributes.attr2<5 NOT attributes.attr3>10": "[myThing]",
		"shadow.hasDelta:true":         "[ab1]",
		"shadow.hasDelta:false":        "[myThing]",
		"shadow.delta.stats.battery:1": "[ab1]",
		"NOT attributes.model:legacy":  "[ab1 abc]",
		"shadow.reported.stats.battery:{70 TO 100} (v2 OR v3) NOT attributes.model:new": "[myThing]",
		"shadow.reported.myvalues:2":                                    "[myThing]",
		"shadow.reported.myvalues:7":                                    "[]",
		"shadow.reported.location:* NOT shadow.desired.stats.battery:*": "[myThing]",
		"shadow.reported.location:york":                                 "[myThing]",
		"shadow.reported.location:y*":                                   "[myThing]",
		`shadow.reported.location:"new york"`:                           "[myThing]",
		`shadow.reported.location:"york new"`:                           "[]",
		"shadow.reported.empty:*":                                       "[]",
		"shadow.name.n.desired.filament:PLA":                            "[myThing]",
		"shadow.name.n.hasDelta:true":                                   "[myThing]",
		"shadow.desired.filament:*":                                     "[]",
		"shadow.desired.colors:green":                                   "[ab1]",
		"shadow.desired.palette:* OR shadow.desired.palette.name:*":     "[]",
		"shadow.desired.a.b:true":                                       "[ab1]",
		"shadow.metadata.reported.stats.battery.timestamp>0":            "[myThing]",
		"shadow.metadata.desired.colors.timestamp:*":                    "[ab1]",
		"connectivity.connected:true":                                   "[myThing]",
		"connectivity.connected:false":                                  "[ab1]",
		"connectivity.connected:*":                                      "[ab1 myThing]",
		"connectivity.disconnectReason:connection_lost":                 "[ab1]",
		"attributes.version:1.1":                                        "[]",
		"attributes.version:1.10":                                       "[abc]",
		"attributes.version<=1.1":                                       "[abc]",
		"shadow.reported.stats.battery:78.0":                            "[myThing]",
		"3":                                                             "[myThing]", // of myvalues, not of the version
		"registry.version:3":                                            "[myThing]",
		"nothing.like:it":                                               "[]",
	} {
		q, err := ParseQuery(query)
		if err != nil {
			t.Error(err)
			continue
		}
		agree(t, c, q)
		got, _ := c.page(c.search(q), "", 100)
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
}
