package registry

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// steps runs updates in order, each with the error it must end with.
func steps(t *testing.T, r *Registry, all []step) {
	t.Helper()
	for _, s := range all {
		if err := r.Update(s.do); !errors.Is(err, s.want) || s.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", s.name, err, s.want)
		}
	}
}

type step struct {
	name string
	do   func(*Tx) error
	want error
}

func TestThingTypes(t *testing.T) {
	r := open(t)
	now := time.Now()
	r.now = func() time.Time { return now }
	pump := ThingType{Name: "pump", Description: "moves water", Searchable: []string{"site"}}
	with := func(name string) func(*Tx) error {
		return func(tx *Tx) error { return tx.CreateThing(Thing{Name: name, Type: "pump"}) }
	}
	steps(t, r, []step{
		{"no type yet", with("a"), ErrNotFound},
		{"make", func(tx *Tx) error { return tx.CreateThingType(pump) }, nil},
		{"again", func(tx *Tx) error { return tx.CreateThingType(pump) }, nil},
		{"other", func(tx *Tx) error { return tx.CreateThingType(ThingType{Name: "pump"}) }, ErrExists},
		{"bad name", func(tx *Tx) error { return tx.CreateThingType(ThingType{Name: "a b"}) }, ErrInvalid},
		{"four attributes", func(tx *Tx) error {
			return tx.CreateThingType(ThingType{Name: "x", Searchable: []string{"a", "b", "c", "d"}})
		}, ErrInvalid},
		{"long description", func(tx *Tx) error {
			return tx.CreateThingType(ThingType{Name: "x", Description: strings.Repeat("x", maxDescription+1)})
		}, ErrInvalid},
		{"thing", with("a"), nil},
		{"delete at once", func(tx *Tx) error { return tx.DeleteThingType("pump") }, ErrConflict},
		{"deprecate", func(tx *Tx) error { return tx.DeprecateThingType("pump", false) }, nil},
		{"deprecated", with("b"), ErrInvalid},
		{"keeps it", func(tx *Tx) error {
			return tx.UpdateThing("a", 0, func(th *Thing) error {
				th.Attributes = map[string]string{"x": "1"}
				return nil
			})
		}, nil},
		{"too soon", func(tx *Tx) error { return tx.DeleteThingType("pump") }, ErrConflict},
	})
	now = now.Add(deprecatedFor)
	steps(t, r, []step{
		{"in use", func(tx *Tx) error { return tx.DeleteThingType("pump") }, ErrInUse},
		{"undo", func(tx *Tx) error { return tx.DeprecateThingType("pump", true) }, nil},
		{"another thing", with("b"), nil},
		{"deprecate again", func(tx *Tx) error { return tx.DeprecateThingType("pump", false) }, nil},
		{"take it off", func(tx *Tx) error {
			return tx.UpdateThing("a", 0, func(th *Thing) error { th.Type = ""; return nil })
		}, nil},
		{"delete the other", func(tx *Tx) error { return tx.DeleteThing("b", 0) }, nil},
	})
	now = now.Add(deprecatedFor)
	steps(t, r, []step{
		{"delete", func(tx *Tx) error { return tx.DeleteThingType("pump") }, nil},
		{"gone", func(tx *Tx) error { return tx.DeleteThingType("pump") }, ErrNotFound},
	})
}

// A file from before there were types gets those that its things have.
func TestTypesOfOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	r, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	update(t, r, func(tx *Tx) error {
		return errors.Join(tx.CreateThingType(ThingType{Name: "pump"}), tx.CreateThing(Thing{Name: "a", Type: "pump"}))
	})
	err = r.engine.Update(func(tx table.Tx) error { return errors.Join(tx.Drop(bTypes), tx.Drop(bTypeThings)) })
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	if r, err = openFile(path); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = r.View(func(tx *Tx) error {
		if all, next := tx.typeThings("pump", "", 0); !slices.Equal(all, []string{"a"}) || next != "" {
			t.Errorf("%v, %q", all, next)
		}
		_, err := tx.ThingType("pump")
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBillingGroups(t *testing.T) {
	r := open(t)
	set := func(thing, group string) func(*Tx) error {
		return func(tx *Tx) error { return tx.SetBillingGroup(thing, group) }
	}
	members := func(group string, want ...string) step {
		return step{"members of " + group, func(tx *Tx) error {
			if all, _ := tx.BillingThings(group, "", 0); !slices.Equal(all, want) {
				return fmt.Errorf("%v, want %v", all, want)
			}
			return nil
		}, nil}
	}
	steps(t, r, []step{
		{"make", func(tx *Tx) error { return tx.CreateBillingGroup("north", "") }, nil},
		{"make other", func(tx *Tx) error { return tx.CreateBillingGroup("south", "x") }, nil},
		{"differs", func(tx *Tx) error { return tx.CreateBillingGroup("south", "y") }, ErrExists},
		{"thing in none", func(tx *Tx) error {
			return tx.CreateThing(Thing{Name: "a", BillingGroup: "east"})
		}, ErrNotFound},
		{"thing", func(tx *Tx) error { return tx.CreateThing(Thing{Name: "a", BillingGroup: "north"}) }, nil},
		{"thing", func(tx *Tx) error { return tx.CreateThing(Thing{Name: "b"}) }, nil},
		{"move", set("a", "south"), nil},
		{"put", set("b", "south"), nil},
		{"no group", set("b", "east"), ErrNotFound},
		members("north"), members("south", "a", "b"),
		{"in use", func(tx *Tx) error { return tx.DeleteBillingGroup("south", 0) }, ErrInUse},
		{"take out", set("a", ""), nil},
		{"thing deleted", func(tx *Tx) error { return tx.DeleteThing("b", 0) }, nil},
		members("south"),
		{"version", func(tx *Tx) error { return tx.DeleteBillingGroup("south", 2) }, ErrConflict},
		{"update", func(tx *Tx) error { _, err := tx.UpdateBillingGroup("south", 1, "z"); return err }, nil},
		{"delete", func(tx *Tx) error { return tx.DeleteBillingGroup("south", 2) }, nil},
	})
}

func TestTags(t *testing.T) {
	r := open(t)
	many := map[string]string{}
	for i := range MaxTags {
		many[fmt.Sprint("k", i)] = "v"
	}
	have := func(want map[string]string) func(*Tx) error {
		return func(tx *Tx) error {
			if tags, err := tx.Tags("thinggroup/g"); err != nil || !maps.Equal(tags, want) {
				return fmt.Errorf("%v, %v", tags, err)
			}
			return nil
		}
	}
	steps(t, r, []step{
		{"nothing there", func(tx *Tx) error {
			return tx.Tag("thinggroup/g", map[string]string{"a": "1"})
		}, ErrNotFound},
		{"no such kind", func(tx *Tx) error { return tx.Tag("thing/g", map[string]string{"a": "1"}) }, ErrInvalid},
		{"group", func(tx *Tx) error { return tx.CreateGroup(Group{Name: "g"}) }, nil},
		{"none", have(map[string]string{}), nil},
		{"tag", func(tx *Tx) error { return tx.Tag("thinggroup/g", map[string]string{"a": "1", "b": "2"}) }, nil},
		{"over", func(tx *Tx) error { return tx.Tag("thinggroup/g", map[string]string{"a": "3"}) }, nil},
		{"untag", func(tx *Tx) error { return tx.Untag("thinggroup/g", []string{"b", "c"}) }, nil},
		{"have", have(map[string]string{"a": "3"}), nil},
		{"too many", func(tx *Tx) error { return tx.Tag("thinggroup/g", many) }, ErrLimit},
		{"characters, not bytes", func(tx *Tx) error {
			k := strings.Repeat("ü", MaxTagKey)
			return errors.Join(tx.Tag("thinggroup/g", map[string]string{k: strings.Repeat("水", MaxTagValue)}),
				tx.Untag("thinggroup/g", []string{k}))
		}, nil},
		{"too long a key", func(tx *Tx) error {
			return tx.Tag("thinggroup/g", map[string]string{strings.Repeat("ü", MaxTagKey+1): ""})
		}, ErrInvalid},
		{"too long a value", func(tx *Tx) error {
			return tx.Tag("thinggroup/g", map[string]string{"a": strings.Repeat("ü", MaxTagValue+1)})
		}, ErrInvalid},
		{"reserved", func(tx *Tx) error { return tx.Tag("thinggroup/g", map[string]string{"AWS:x": ""}) }, ErrInvalid},
		{"delete", func(tx *Tx) error { return tx.DeleteGroup("g", 0) }, nil},
		{"anew", func(tx *Tx) error { return tx.CreateGroup(Group{Name: "g"}) }, nil},
		{"without", have(map[string]string{}), nil},
	})
}

// Whatever is deleted takes its tags with it: another of its name has none.
func TestTagsAreDeleted(t *testing.T) {
	r := open(t)
	authority := newAuthority(t, "Fleet", nil)
	ca := fingerprint(authority.cert.Raw)
	for kind, c := range map[string]struct {
		name         string
		make, delete func(*Tx) error
	}{
		"thinggroup": {"x", func(tx *Tx) error {
			return tx.CreateGroup(Group{Name: "x"})
		}, func(tx *Tx) error { return tx.DeleteGroup("x", 0) }},
		"billinggroup": {"x", func(tx *Tx) error {
			return tx.CreateBillingGroup("x", "")
		}, func(tx *Tx) error { return tx.DeleteBillingGroup("x", 0) }},
		"thingtype": {"x", func(tx *Tx) error { return tx.CreateThingType(ThingType{Name: "x"}) }, func(tx *Tx) error {
			err := tx.DeprecateThingType("x", false)
			r.now = func() time.Time { return time.Now().Add(deprecatedFor) }
			return errors.Join(err, tx.DeleteThingType("x"))
		}},
		"policy": {"x", func(tx *Tx) error {
			return tx.CreatePolicy("x", allow("iot:Publish", "topic/a"))
		}, func(tx *Tx) error { return tx.DeletePolicy("x") }},
		"rule": {"x", func(tx *Tx) error {
			_, err := tx.CreateRule(Rule{Name: "x", Document: []byte("{}")})
			return err
		},
			func(tx *Tx) error { return tx.DeleteRule("x") }},
		"cacert": {ca, func(tx *Tx) error {
			_, err := tx.RegisterCA(NewCA{Certificate: authority.pem(), Mode: SNIOnly})
			return err
		}, func(tx *Tx) error { return tx.DeleteCA(ca) }},
		"rolealias": {"x", func(tx *Tx) error {
			return tx.CreateRoleAlias(RoleAlias{Name: "x", Role: "arn:aws:iam::000000000000:role/x", Life: time.Hour})
		}, func(tx *Tx) error { return tx.DeleteRoleAlias("x") }},
		"authorizer": {"x", func(tx *Tx) error {
			return tx.CreateAuthorizer(Authorizer{Name: "x", Function: "f", SigningDisabled: true})
		}, func(tx *Tx) error { return tx.DeleteAuthorizer("x") }},
	} {
		resource := kind + "/" + c.name
		try(t, r, "make "+kind, nil, func(tx *Tx) error {
			return errors.Join(c.make(tx), tx.Tag(resource, map[string]string{"a": "1"}))
		})
		try(t, r, "delete "+kind, nil, c.delete)
		r.now = time.Now
		try(t, r, "make it again", nil, func(tx *Tx) error {
			if err := c.make(tx); err != nil {
				return err
			}
			tags, err := tx.Tags(resource)
			if len(tags) > 0 {
				t.Errorf("another %s has the tags %v", kind, tags)
			}
			return err
		})
	}
}

func TestDynamicGroups(t *testing.T) {
	r := open(t)
	steps(t, r, []step{
		{"make", func(tx *Tx) error { return tx.CreateGroup(Group{Name: "hot", Query: "shadow.reported.t>50"}) }, nil},
		{"below", func(tx *Tx) error {
			return tx.CreateGroup(Group{Name: "x", Query: "a:b", Parent: "hot"})
		}, ErrInvalid},
		{"under a dynamic one", func(tx *Tx) error {
			return tx.CreateGroup(Group{Name: "x", Parent: "hot"})
		}, ErrInvalid},
		{"thing", func(tx *Tx) error { return tx.CreateThing(Thing{Name: "a"}) }, nil},
		{"put in", func(tx *Tx) error { return tx.AddToGroup("a", "hot") }, ErrInvalid},
		{"take out", func(tx *Tx) error { return tx.RemoveFromGroup("a", "hot") }, ErrInvalid},
		{"policy", func(tx *Tx) error { return tx.CreatePolicy("p", allow("iot:Publish", "topic/a")) }, nil},
		{"rights by it", func(tx *Tx) error { return tx.AttachGroupPolicy("p", "hot") }, ErrInvalid},
		{"becomes static", func(tx *Tx) error {
			_, err := tx.UpdateGroup("hot", 0, func(g *Group) error { g.Query = ""; return nil })
			return err
		}, ErrInvalid},
		{"other query", func(tx *Tx) error {
			v, err := tx.UpdateGroup("hot", 1, func(g *Group) error { g.Query = "thingName:*"; return nil })
			if v != 2 {
				t.Error("version", v)
			}
			return err
		}, nil},
		{"version", func(tx *Tx) error { return tx.DeleteGroup("hot", 1) }, ErrConflict},
		{"delete", func(tx *Tx) error { return tx.DeleteGroup("hot", 2) }, nil},
	})
}

// What is told is what was changed, in order, and only what is wanted; what is
// not told stays.
func TestChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	r, err := openFile(path)
	if err != nil {
		t.Fatal(err)
	}
	update(t, r, func(tx *Tx) error {
		if err := tx.CreateThing(Thing{Name: "before"}); err != nil {
			return err
		}
		on := map[EventType]bool{}
		for _, e := range eventTypes {
			on[e] = true
		}
		return tx.SetEventConfig(on)
	})
	update(t, r, func(tx *Tx) error {
		return errors.Join(tx.CreateThingType(ThingType{Name: "pump"}), tx.CreateGroup(Group{Name: "plant"}),
			tx.CreateGroup(Group{Name: "hall", Parent: "plant"}), tx.CreateThing(Thing{Name: "a", Type: "pump"}),
			tx.AddToGroup("a", "hall"))
	})
	if err := r.Update(func(tx *Tx) error {
		return errors.Join(tx.CreateThing(Thing{Name: "never"}), errors.New("no"))
	}); err == nil {
		t.Error("an update that failed went through")
	}
	update(t, r, func(tx *Tx) error {
		return errors.Join(tx.UpdateThing("a", 0, func(th *Thing) error {
			th.Type = ""
			return nil
		}), tx.DeleteThing("a", 0),
			tx.SetEventConfig(map[EventType]bool{GroupEvent: false}), tx.DeleteGroup("hall", 0))
	})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r, err = openFile(path); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	want := []string{
		"THING_TYPE CREATED pump", "THING_GROUP CREATED plant", "THING_GROUP CREATED hall",
		"THING_GROUP_HIERARCHY ADDED plant hall",
		"THING CREATED a", "THING_TYPE_ASSOCIATION ADDED pump", "THING_GROUP_MEMBERSHIP ADDED hall a",
		"THING UPDATED a", "THING_TYPE_ASSOCIATION REMOVED pump", "THING_GROUP_MEMBERSHIP REMOVED hall a",
		"THING DELETED a",
		"THING_GROUP_HIERARCHY REMOVED plant hall",
	}
	var got []string
	for {
		var some []Change
		err := r.Update(func(tx *Tx) (err error) {
			if some, err = tx.StoredChanges(5); err != nil || len(some) == 0 {
				return err
			}
			return tx.ForgetChanges(some[len(some)-1].Sequence)
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(some) == 0 {
			break
		}
		for _, c := range some {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", c.Event, c.Operation, c.Name, c.Other)))
			if c.ID == "" || c.Time.IsZero() || c.Thing != nil && c.Thing.Name != "a" || c.Group != nil &&
				c.Group.Name != c.Name {
				t.Errorf("%+v", c)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := r.Update(func(tx *Tx) error {
		return tx.SetEventConfig(map[EventType]bool{"WEATHER": true})
	}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}

// A registry that has too much to tell refuses to change what is told, and
// forgets nothing; it goes on when that was told, or is not wanted any more.
func TestTooMuchToTell(t *testing.T) {
	r := open(t)
	thing := func(name string) func(*Tx) error {
		return func(tx *Tx) error { return tx.CreateThing(Thing{Name: name}) }
	}
	steps(t, r, []step{
		{"want", func(tx *Tx) error { return tx.SetEventConfig(map[EventType]bool{ThingEvent: true}) }, nil},
		{"first", thing("a"), nil},
		{"as if many came", func(tx *Tx) error { return tx.tx.Table(bOutbox).SetSequence(maxChanges) }, nil},
		{"full", thing("b"), ErrLimit},
		{"what is not told", func(tx *Tx) error { return tx.CreateThingType(ThingType{Name: "x"}) }, nil},
		{"nothing is half done", func(tx *Tx) error { _, err := tx.Thing("b"); return err }, ErrNotFound},
		{"unwanted", func(tx *Tx) error { return tx.SetEventConfig(map[EventType]bool{ThingEvent: false}) }, nil},
		{"goes on", thing("b"), nil},
		{"wanted again", func(tx *Tx) error { return tx.SetEventConfig(map[EventType]bool{ThingEvent: true}) }, nil},
		{"still full", thing("c"), ErrLimit},
		{"told", func(tx *Tx) error {
			all, err := tx.StoredChanges(10)
			if err != nil || len(all) != 1 || all[0].Name != "a" {
				return fmt.Errorf("%+v, %v", all, err)
			}
			return tx.ForgetChanges(all[0].Sequence)
		}, nil},
		{"room", thing("c"), nil},
	})
}

// typeThings lists the things of a type; see Things for paging.
func (t *Tx) typeThings(name, after string, n int) (page []string, next string) {
	return t.pageLinks(bTypeThings, name, after, n)
}
