package registry

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Group is a thing group. The policies of a static one are in effect for the
// things in it and in the groups below it. In a dynamic one are the things that
// its query finds in the fleet index (bridge/control/index), and the registry
// doesn't know which these are.
type Group struct {
	Name        string            `json:"-"`
	Parent      string            `json:"parent,omitempty"` // fixed when the group is made, so there are no circles
	Query       string            `json:"query,omitempty"`  // of a dynamic group
	Description string            `json:"description,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	Version     uint64            `json:"version"` // 1 at first, and one more with each change
	Created     time.Time         `json:"created"`
}

// ID is the group's, a UUID: another group of the same name has another.
func (g *Group) ID() string { return identify(g.Name, g.Created) }

func (g *Group) check() error {
	if !thingName.MatchString(g.Name) {
		return fmt.Errorf("thing group name %q: %w", g.Name, ErrInvalid)
	}
	if g.Query != "" && g.Parent != "" {
		return fmt.Errorf("thing group %s: %w: a dynamic group is below none", g.Name, ErrInvalid)
	}
	if len(g.Description) > maxDescription {
		return fmt.Errorf("thing group %s: description of %d bytes, want at most %d: %w", g.Name, len(g.Description),
			maxDescription, ErrInvalid)
	}
	return checkAttributes("thing group "+g.Name, g.Attributes)
}

// CreateGroup makes a thing group of Name, Parent, Query, Description and
// Attributes. One that is there with the same content is no error, else
// ErrExists; deeper than MaxGroupDepth is ErrLimit. Who makes a dynamic group
// has checked its query.
func (t *Tx) CreateGroup(g Group) error {
	if err := g.check(); err != nil {
		return err
	}
	if t.has(bGroups, g.Name) {
		old, err := t.Group(g.Name)
		if err == nil && (old.Parent != g.Parent || old.Query != g.Query || old.Description != g.Description ||
			!maps.Equal(old.Attributes, g.Attributes)) {
			err = fmt.Errorf("thing group %s: %w", g.Name, ErrExists)
		}
		return err
	}
	g.Version, g.Created = 1, t.reg.now().UTC()
	if err := t.storeGroupChange(&g, Created); err != nil {
		return err
	}
	if g.Parent != "" {
		line, err := t.ancestry(g.Parent)
		if err != nil {
			return err
		}
		if len(line) >= MaxGroupDepth {
			return fmt.Errorf("thing group %s: depth %d: %w", g.Name, len(line)+1, ErrLimit)
		}
		up, err := t.staticGroup(g.Parent)
		if err != nil {
			return err
		}
		if err := t.addLink(bGroupChildren, g.Parent, g.Name); err != nil {
			return err
		}
		if err := t.storeHierarchyChange(&up, &g, Added); err != nil {
			return err
		}
	}
	t.changed(GroupChanged, g.Name)
	return t.put(bGroups, g.Name, &g)
}

// storeGroupChange stores a change of a group, with those above it.
func (t *Tx) storeGroupChange(g *Group, op Operation) error {
	c := &Change{Event: GroupEvent, Operation: op, Name: g.Name, Group: g}
	line, err := t.ancestry(g.Parent)
	if err != nil {
		return err
	}
	for _, name := range slices.Backward(line) {
		up, err := t.Group(name)
		if err != nil {
			return err
		}
		c.Above = append(c.Above, GroupID{name, up.ID()})
	}
	return t.storeChange(c)
}

func (t *Tx) storeHierarchyChange(g, below *Group, op Operation) error {
	return t.storeChange(&Change{Event: HierarchyEvent, Operation: op, Name: g.Name, Group: g, Other: below.Name,
		OtherID: below.ID()})
}

// Group returns a thing group.
func (t *Tx) Group(name string) (Group, error) {
	g := Group{Name: name}
	err := t.get(bGroups, "thing group", name, &g)
	g.Version = max(g.Version, 1) // of a file that did not have it
	return g, err
}

// staticGroup is Group for what a dynamic one cannot have.
func (t *Tx) staticGroup(name string) (Group, error) {
	g, err := t.Group(name)
	if err == nil && g.Query != "" {
		err = fmt.Errorf("thing group %s: %w: it is dynamic", name, ErrInvalid)
	}
	return g, err
}

// UpdateGroup gives a group what f makes of it: Query (of a dynamic one),
// Description and Attributes count. expected is as in UpdateThing.
func (t *Tx) UpdateGroup(name string, expected uint64, f func(*Group) error) (version uint64, err error) {
	g, err := t.Group(name)
	if err != nil {
		return 0, err
	}
	if expected != 0 && g.Version != expected {
		return 0, fmt.Errorf("thing group %s: version %d, not %d: %w", name, g.Version, expected, ErrConflict)
	}
	keep := g
	if err := f(&g); err != nil {
		return 0, err
	}
	g.Name, g.Parent, g.Created, g.Version = keep.Name, keep.Parent, keep.Created, keep.Version+1
	if (g.Query == "") != (keep.Query == "") {
		return 0, fmt.Errorf("thing group %s: %w: a static group cannot become dynamic, nor the other way round", name,
			ErrInvalid)
	}
	if err := g.check(); err != nil {
		return 0, err
	}
	if err := t.storeGroupChange(&g, Updated); err != nil {
		return 0, err
	}
	t.changed(GroupChanged, name)
	return g.Version, t.put(bGroups, name, &g)
}

// ancestry returns a group and all above it.
func (t *Tx) ancestry(name string) ([]string, error) {
	var line []string
	for name != "" {
		if len(line) >= MaxGroupDepth {
			return nil, fmt.Errorf("thing group %q: deeper than %d: %w", name, MaxGroupDepth, ErrCorrupt)
		}
		g, err := t.Group(name)
		if err != nil {
			return nil, err
		}
		line, name = append(line, name), g.Parent
	}
	return line, nil
}

// DeleteGroup deletes a group without groups below it (else ErrInUse). Its
// things leave it and its policies are detached. expected is as in UpdateThing.
func (t *Tx) DeleteGroup(name string, expected uint64) error {
	g, err := t.Group(name)
	if err != nil {
		return err
	}
	if expected != 0 && g.Version != expected {
		return fmt.Errorf("thing group %s: version %d, not %d: %w", name, g.Version, expected, ErrConflict)
	}
	if t.anyLink(bGroupChildren, name) {
		return fmt.Errorf("thing group %s has groups below it: %w", name, ErrInUse)
	}
	for _, th := range t.links(bGroupThings, name) {
		if err := t.RemoveFromGroup(th, name); err != nil {
			return err
		}
	}
	for _, p := range t.links(bGroupPolicies, name) {
		if err := t.DetachGroupPolicy(p, name); err != nil {
			return err
		}
	}
	if g.Parent != "" {
		if err := t.removeLink(bGroupChildren, g.Parent, name); err != nil {
			return err
		}
		up, err := t.Group(g.Parent)
		if err != nil {
			return err
		}
		if err := t.storeHierarchyChange(&up, &g, Removed); err != nil {
			return err
		}
	}
	if err := t.storeGroupChange(&g, Deleted); err != nil {
		return err
	}
	if err := t.deleteTags("thinggroup/" + name); err != nil {
		return err
	}
	t.changed(GroupChanged, name)
	return t.tx.Table(bGroups).Delete([]byte(name))
}

// AddToGroup puts a thing into a static group; again is no error.
func (t *Tx) AddToGroup(thing, group string) error {
	g, err := t.staticGroup(group)
	if err != nil {
		return err
	}
	th, err := t.Thing(thing)
	if err != nil || slices.Contains(th.Groups, group) {
		return err
	}
	if len(th.Groups) >= MaxThingGroups {
		return fmt.Errorf("thing %s is in %d groups: %w", thing, len(th.Groups), ErrLimit)
	}
	th.Groups = append(th.Groups, group)
	slices.Sort(th.Groups)
	t.changed(ThingChanged, thing)
	if err := t.addLink(bGroupThings, group, thing); err != nil {
		return err
	}
	if err := t.StoreMembership(&g, &th, Added); err != nil {
		return err
	}
	return t.put(bThings, thing, &th)
}

// StoreMembership stores that a thing came into a group, or left it, if such messages
// are wanted. Membership of dynamic groups is told by who knows it.
func (t *Tx) StoreMembership(g *Group, th *Thing, op Operation) error {
	return t.storeChange(&Change{Event: MembershipEvent, Operation: op, Name: g.Name, Group: g, Other: th.Name,
		OtherID: th.ID()})
}

// RemoveFromGroup takes a thing out of a static group; one that is not in it is
// ErrNotFound.
func (t *Tx) RemoveFromGroup(thing, group string) error {
	th, err := t.Thing(thing)
	if err != nil {
		return err
	}
	i := slices.Index(th.Groups, group)
	if i < 0 {
		if _, err := t.staticGroup(group); err != nil {
			return err
		}
		return fmt.Errorf("thing %q in group %q: %w", thing, group, ErrNotFound)
	}
	th.Groups = slices.Delete(th.Groups, i, i+1)
	t.changed(ThingChanged, thing)
	if err := t.leave(&th, group); err != nil {
		return err
	}
	return t.put(bThings, thing, &th)
}

// leave removes the link from a group to a thing.
func (t *Tx) leave(th *Thing, group string) error {
	g, err := t.Group(group)
	if err != nil {
		return err
	}
	if err := t.StoreMembership(&g, th, Removed); err != nil {
		return err
	}
	return t.removeLink(bGroupThings, group, th.Name)
}

// GroupsBelow lists the groups directly below one.
func (t *Tx) GroupsBelow(name string) []string { return t.links(bGroupChildren, name) }

// GroupThings lists the things directly in a group; see Things for paging.
func (t *Tx) GroupThings(group, after string, n int) (page []string, next string) {
	return t.pageLinks(bGroupThings, group, after, n)
}

// Groups lists thing groups by name; see Things.
func (t *Tx) Groups(after string, n int) (page []Group, next string, err error) {
	next, err = t.page(bGroups, after, n, func(key string, raw []byte) (bool, error) {
		g := Group{Name: key}
		if err := json.Unmarshal(raw, &g); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		g.Version = max(g.Version, 1)
		page = append(page, g)
		return true, nil
	})
	return page, next, err
}
