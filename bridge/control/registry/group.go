package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// A Group is a thing group. Its policies are in effect for the things in it
// and in the groups below it.
type Group struct {
	Name    string    `json:"-"`
	Parent  string    `json:"parent,omitempty"` // fixed when the group is made, so there are no circles
	Created time.Time `json:"created"`
}

// CreateGroup makes a thing group, below parent if that is not empty. One that
// is there with the same parent is no error, else ErrExists; deeper than
// MaxGroupDepth is ErrLimit.
func (t *Tx) CreateGroup(name, parent string) error {
	if !thingName.MatchString(name) {
		return fmt.Errorf("thing group name %q: %w", name, ErrInvalid)
	}
	if t.has(bGroups, name) {
		old, err := t.Group(name)
		if err == nil && old.Parent != parent {
			err = fmt.Errorf("thing group %s: %w", name, ErrExists)
		}
		return err
	}
	if parent != "" {
		line, err := t.ancestry(parent)
		if err != nil {
			return err
		}
		if len(line) >= MaxGroupDepth {
			return fmt.Errorf("thing group %s: depth %d: %w", name, len(line)+1, ErrLimit)
		}
		if err := t.addLink(bGroupChildren, parent, name); err != nil {
			return err
		}
	}
	t.changed(GroupChanged, name)
	return t.put(bGroups, name, &Group{Parent: parent, Created: time.Now().UTC()})
}

// Group returns a thing group.
func (t *Tx) Group(name string) (Group, error) {
	g := Group{Name: name}
	err := t.get(bGroups, "thing group", name, &g)
	return g, err
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
// things leave it and its policies are detached.
func (t *Tx) DeleteGroup(name string) error {
	g, err := t.Group(name)
	if err != nil {
		return err
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
	}
	t.changed(GroupChanged, name)
	return t.tx.Bucket(bGroups).Delete([]byte(name))
}

// AddToGroup puts a thing into a group; again is no error.
func (t *Tx) AddToGroup(thing, group string) error {
	if !t.has(bGroups, group) {
		return fmt.Errorf("thing group %q: %w", group, ErrNotFound)
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
	return t.put(bThings, thing, &th)
}

// RemoveFromGroup takes a thing out of a group; one that is not in it is
// ErrNotFound.
func (t *Tx) RemoveFromGroup(thing, group string) error {
	th, err := t.Thing(thing)
	if err != nil {
		return err
	}
	i := slices.Index(th.Groups, group)
	if i < 0 {
		return fmt.Errorf("thing %q in group %q: %w", thing, group, ErrNotFound)
	}
	th.Groups = slices.Delete(th.Groups, i, i+1)
	t.changed(ThingChanged, thing)
	if err := t.removeLink(bGroupThings, group, thing); err != nil {
		return err
	}
	return t.put(bThings, thing, &th)
}

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
		page = append(page, g)
		return true, nil
	})
	return page, next, err
}
