package registry

import (
	"encoding/json"
	"fmt"
	"time"
)

// A BillingGroup gathers things whose cost is counted together. A thing is in
// at most one.
type BillingGroup struct {
	Name        string    `json:"-"`
	Description string    `json:"description,omitempty"`
	Version     uint64    `json:"version"` // 1 at first, and one more with each change
	Created     time.Time `json:"created"`
}

// ID is the group's, a UUID: another of the same name has another.
func (g *BillingGroup) ID() string { return identify(g.Name, g.Created) }

func (g *BillingGroup) check() error {
	if !thingName.MatchString(g.Name) {
		return fmt.Errorf("billing group name %q: %w: want 1 to 128 of a-z A-Z 0-9 : _ -", g.Name, ErrInvalid)
	}
	if len(g.Description) > maxDescription {
		return fmt.Errorf("billing group %s: description of %d bytes, want at most %d: %w", g.Name, len(g.Description),
			maxDescription, ErrInvalid)
	}
	return nil
}

// CreateBillingGroup makes a billing group. One that is there with the same
// description is no error, else ErrExists.
func (t *Tx) CreateBillingGroup(name, description string) error {
	g := BillingGroup{Name: name, Description: description, Version: 1, Created: t.reg.now().UTC()}
	if err := g.check(); err != nil {
		return err
	}
	if t.has(bBillingGroups, name) {
		old, err := t.BillingGroup(name)
		if err == nil && old.Description != description {
			err = fmt.Errorf("billing group %s: %w", name, ErrExists)
		}
		return err
	}
	return t.put(bBillingGroups, name, &g)
}

// BillingGroup returns a billing group.
func (t *Tx) BillingGroup(name string) (BillingGroup, error) {
	g := BillingGroup{Name: name}
	err := t.get(bBillingGroups, "billing group", name, &g)
	return g, err
}

// UpdateBillingGroup gives a billing group another description. expected is as
// in UpdateThing.
func (t *Tx) UpdateBillingGroup(name string, expected uint64, description string) (version uint64, err error) {
	g, err := t.BillingGroup(name)
	if err != nil {
		return 0, err
	}
	if expected != 0 && g.Version != expected {
		return 0, fmt.Errorf("billing group %s: version %d, not %d: %w", name, g.Version, expected, ErrConflict)
	}
	g.Description, g.Version = description, g.Version+1
	if err := g.check(); err != nil {
		return 0, err
	}
	return g.Version, t.put(bBillingGroups, name, &g)
}

// DeleteBillingGroup deletes a billing group without things, else ErrInUse.
func (t *Tx) DeleteBillingGroup(name string, expected uint64) error {
	g, err := t.BillingGroup(name)
	if err != nil {
		return err
	}
	if expected != 0 && g.Version != expected {
		return fmt.Errorf("billing group %s: version %d, not %d: %w", name, g.Version, expected, ErrConflict)
	}
	if t.anyLink(bBillingThings, name) {
		return fmt.Errorf("billing group %s: things are in it: %w", name, ErrInUse)
	}
	if err := t.deleteTags("billinggroup/" + name); err != nil {
		return err
	}
	return t.tx.Table(bBillingGroups).Delete([]byte(name))
}

// BillingGroups lists billing groups by name; see Things.
func (t *Tx) BillingGroups(after string, n int) (page []BillingGroup, next string, err error) {
	next, err = t.page(bBillingGroups, after, n, func(key string, raw []byte) (bool, error) {
		g := BillingGroup{Name: key}
		if err := json.Unmarshal(raw, &g); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		page = append(page, g)
		return true, nil
	})
	return page, next, err
}

// BillingThings lists the things in a billing group; see Things for paging.
func (t *Tx) BillingThings(name, after string, n int) (page []string, next string) {
	return t.pageLinks(bBillingThings, name, after, n)
}

// SetBillingGroup puts a thing into a billing group and takes it out of the one
// it was in; "" only takes it out.
func (t *Tx) SetBillingGroup(thing, group string) error {
	th, err := t.Thing(thing)
	if err != nil || th.BillingGroup == group {
		return err
	}
	from := th.BillingGroup
	th.BillingGroup = group
	if err := t.giveBilling(&th, from); err != nil {
		return err
	}
	t.changed(ThingChanged, thing)
	return t.put(bThings, thing, &th)
}

// giveBilling moves a thing from one billing group to the one it names.
func (t *Tx) giveBilling(th *Thing, from string) error {
	if th.BillingGroup == from {
		return nil
	}
	if from != "" {
		if err := t.removeLink(bBillingThings, from, th.Name); err != nil {
			return err
		}
	}
	if th.BillingGroup == "" {
		return nil
	}
	if !t.has(bBillingGroups, th.BillingGroup) {
		return fmt.Errorf("billing group %q: %w", th.BillingGroup, ErrNotFound)
	}
	return t.addLink(bBillingThings, th.BillingGroup, th.Name)
}
