package index

import (
	"errors"
	"maps"
	"slices"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A dynamic is a dynamic group. Who is in it is known when the index has been
// built.
type dynamic struct {
	text    string // the query's
	query   *Query
	members set
}

// indexAllGroups takes up all groups there are.
func (x *Index) indexAllGroups() error {
	for after := ""; ; {
		var names []string
		err := inRegistry.View(x.registry, func(tx records) error {
			page, next, err := tx.Groups(after, registry.MaxPage)
			for _, g := range page {
				names = append(names, g.Name)
			}
			after = next
			return err
		})
		if err != nil {
			return err
		}
		if err := x.indexGroups(names); err != nil || after == "" {
			return err
		}
	}
}

// indexGroups reads groups and puts them into the index of groups, and dynamic
// ones among those that things are held to.
func (x *Index) indexGroups(names []string) error {
	groups := make([]*registry.Group, len(names)) // nil: gone
	docs := make([]cells, len(names))
	err := inRegistry.View(x.registry, func(tx records) error {
		for i, name := range names {
			g, err := tx.Group(name)
			if errors.Is(err, registry.ErrNotFound) {
				continue
			}
			var above []string
			for up := g.Parent; up != "" && err == nil && len(above) < registry.MaxGroupDepth; {
				var p registry.Group
				above = append(above, up)
				p, err = tx.Group(up)
				up = p.Parent
			}
			if err != nil {
				x.o.Log.Error("a thing group cannot be indexed", "group", name, "err", err)
				continue
			}
			groups[i] = &g
			docs[i].group(&g, above)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var changes []Membership
	x.mu.Lock()
	for i, name := range names {
		if x.groups != nil && groups[i] == nil {
			x.groups.remove(name)
		} else if x.groups != nil {
			x.groups.put(name, docs[i])
		}
		if groups[i] == nil || groups[i].Query == "" {
			delete(x.dynamic, name)
		} else if x.things != nil {
			changes = append(changes, x.hold(name, groups[i].Query)...)
		}
	}
	x.mu.Unlock()
	if len(changes) > 0 {
		x.o.Members(changes)
	}
	return nil
}

// hold asks a dynamic group's query, if it is another one, and returns who came
// into the group and left it by that. mu is held.
func (x *Index) hold(name, text string) (changes []Membership) {
	old := x.dynamic[name]
	if old != nil && old.text == text {
		return nil
	}
	q, err := ParseQuery(text)
	if err != nil {
		// It was parsed when the group was made; by other software, then.
		x.o.Log.Error("a dynamic thing group has no things", "group", name, "err", err)
		delete(x.dynamic, name)
		return nil
	}
	d := &dynamic{text: text, query: q}
	x.dynamic[name] = d
	if x.status == Building {
		return nil
	}
	d.members = x.things.search(q)
	for _, n := range x.things.order {
		was := old != nil && old.members.has(n)
		if is := d.members.has(n); is != was {
			changes = append(changes, Membership{name, x.things.docs[n].name, is})
		}
	}
	return changes
}

// MaxDynamicGroups is how many there may be, since each is asked of each change
// (AWS IoT Device Management quotas: 100).
const MaxDynamicGroups = 100

// Members lists the names of up to n things in a dynamic group behind after, in
// order. next is the after of the next page, "" at the end. ok is false while
// it is not known who is in it.
func (x *Index) Members(group, after string, n int) (page []string, next string, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	d := x.dynamic[group]
	if d == nil || x.status == Building {
		return nil, "", false
	}
	page, next = x.things.page(d.members, after, n)
	return page, next, true
}

// GroupsOf returns the dynamic groups that a thing is in, in order.
func (x *Index) GroupsOf(thing string) (names []string) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.things == nil {
		return nil
	}
	n, ok := x.things.find(thing)
	if !ok {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(x.dynamic)) {
		if x.dynamic[name].members.has(n) {
			names = append(names, name)
		}
	}
	return names
}
