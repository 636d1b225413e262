package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// Limits of thing types (service quotas and API reference).
const (
	maxSearchable  = 3    // attributes that a type names
	maxDescription = 2028 // characters
	// deprecatedFor is how long a type must have been deprecated before it is
	// deleted: until then a thing that is being made of it may not know yet.
	deprecatedFor = 5 * time.Minute
)

// A ThingType describes things of one kind. A thing has at most one.
type ThingType struct {
	Name        string    `json:"-"`
	Description string    `json:"description,omitempty"`
	Searchable  []string  `json:"searchable,omitempty"` // names of attributes
	Deprecated  time.Time `json:"deprecated,omitzero"`  // since when no thing may be given it
	Created     time.Time `json:"created"`
}

// ID is the type's, a UUID: another type of the same name has another.
func (ty *ThingType) ID() string { return identify(ty.Name, ty.Created) }

func (ty *ThingType) check() error {
	switch {
	case !thingName.MatchString(ty.Name):
		return fmt.Errorf("thing type name %q: %w: want 1 to 128 of a-z A-Z 0-9 : _ -", ty.Name, ErrInvalid)
	case len(ty.Description) > maxDescription:
		return fmt.Errorf("thing type %s: description of %d bytes, want at most %d: %w", ty.Name, len(ty.Description),
			maxDescription, ErrInvalid)
	case len(ty.Searchable) > maxSearchable:
		return fmt.Errorf("thing type %s: %d searchable attributes, want at most %d: %w", ty.Name, len(ty.Searchable),
			maxSearchable, ErrInvalid)
	}
	for _, a := range ty.Searchable {
		if !attributeName.MatchString(a) {
			return fmt.Errorf("thing type %s: attribute %q: %w", ty.Name, a, ErrInvalid)
		}
	}
	return nil
}

// CreateThingType makes a thing type of Name, Description and Searchable. One
// that is there with the same content is no error; with other content it is
// ErrExists.
func (t *Tx) CreateThingType(ty ThingType) error {
	if err := ty.check(); err != nil {
		return err
	}
	if t.has(bTypes, ty.Name) {
		old, err := t.ThingType(ty.Name)
		if err == nil && (old.Description != ty.Description || !slices.Equal(old.Searchable, ty.Searchable)) {
			err = fmt.Errorf("thing type %s: %w", ty.Name, ErrExists)
		}
		return err
	}
	ty.Created, ty.Deprecated = t.reg.now().UTC(), time.Time{}
	return t.putType(&ty, Created)
}

func (t *Tx) putType(ty *ThingType, op Operation) error {
	if err := t.storeChange(&Change{Event: TypeEvent, Operation: op, Name: ty.Name, Type: ty}); err != nil {
		return err
	}
	return t.put(bTypes, ty.Name, ty)
}

// ThingType returns a thing type.
func (t *Tx) ThingType(name string) (ThingType, error) {
	ty := ThingType{Name: name}
	err := t.get(bTypes, "thing type", name, &ty)
	return ty, err
}

// UpdateThingType gives a type another description and other searchable
// attributes.
func (t *Tx) UpdateThingType(name, description string, searchable []string) error {
	ty, err := t.ThingType(name)
	if err != nil {
		return err
	}
	ty.Description, ty.Searchable = description, searchable
	if err := ty.check(); err != nil {
		return err
	}
	return t.putType(&ty, Updated)
}

// DeprecateThingType says that no thing may be given the type any more, or
// with undo that it may. Things that have it keep it.
func (t *Tx) DeprecateThingType(name string, undo bool) error {
	ty, err := t.ThingType(name)
	if err != nil || ty.Deprecated.IsZero() == undo {
		return err
	}
	ty.Deprecated = time.Time{}
	if !undo {
		ty.Deprecated = t.reg.now().UTC()
	}
	return t.putType(&ty, Updated)
}

// DeleteThingType deletes a type that has been deprecated for five minutes,
// else ErrConflict, and that no thing has, else ErrInUse.
func (t *Tx) DeleteThingType(name string) error {
	ty, err := t.ThingType(name)
	if err != nil {
		return err
	}
	if at := ty.Deprecated; at.IsZero() || t.reg.now().Sub(at) < deprecatedFor {
		return fmt.Errorf("thing type %s: deprecate it, and wait %v: %w", name, deprecatedFor, ErrConflict)
	}
	if t.anyLink(bTypeThings, name) {
		return fmt.Errorf("thing type %s: things have it: %w", name, ErrInUse)
	}
	if err := t.storeChange(&Change{Event: TypeEvent, Operation: Deleted, Name: name, Type: &ty}); err != nil {
		return err
	}
	if err := t.deleteTags("thingtype/" + name); err != nil {
		return err
	}
	return t.tx.Table(bTypes).Delete([]byte(name))
}

// ThingTypes lists thing types by name; see Things.
func (t *Tx) ThingTypes(after string, n int) (page []ThingType, next string, err error) {
	next, err = t.page(bTypes, after, n, func(key string, raw []byte) (bool, error) {
		ty := ThingType{Name: key}
		if err := json.Unmarshal(raw, &ty); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		page = append(page, ty)
		return true, nil
	})
	return page, next, err
}

// makeTypes makes the types of the things of a file that was written before
// there were any.
func makeTypes(tx table.Tx) error {
	t := &Tx{tx: tx}
	return table.Each(tx.Table(bThings), func(name, raw []byte) error {
		th := Thing{Name: string(name)}
		if err := json.Unmarshal(raw, &th); err != nil {
			return fmt.Errorf("thing %q: %w: %w", name, ErrCorrupt, err)
		}
		if th.Type == "" {
			return nil
		}
		if !t.has(bTypes, th.Type) {
			if err := t.put(bTypes, th.Type, &ThingType{Created: th.Created}); err != nil {
				return err
			}
		}
		return t.addLink(bTypeThings, th.Type, th.Name)
	})
}

// ThingsOfType is Things of a type, and reads no others.
func (t *Tx) ThingsOfType(name, after string, n int, match func(*Thing) bool) (page []Thing, next string, err error) {
	for n = pageSize(n); ; after = next {
		var names []string
		names, next = t.pageLinks(bTypeThings, name, after, n-len(page))
		for _, thing := range names {
			th, err := t.Thing(thing)
			if err != nil {
				return nil, "", err
			}
			if match == nil || match(&th) {
				page = append(page, th)
			}
		}
		if next == "" || len(page) == n {
			return page, next, nil
		}
	}
}

// giveType checks that a thing may be given a type, and says that it is.
func (t *Tx) giveType(th *Thing, from string) error {
	if th.Type == from {
		return nil
	}
	if from != "" {
		if err := t.removeLink(bTypeThings, from, th.Name); err != nil {
			return err
		}
		if err := t.storeTypeChange(th, from, Removed); err != nil {
			return err
		}
	}
	if th.Type == "" {
		return nil
	}
	ty, err := t.ThingType(th.Type)
	if err != nil {
		return err
	}
	if !ty.Deprecated.IsZero() {
		return fmt.Errorf("thing %s: type %s is deprecated: %w", th.Name, th.Type, ErrInvalid)
	}
	if err := t.addLink(bTypeThings, th.Type, th.Name); err != nil {
		return err
	}
	return t.storeTypeChange(th, th.Type, Added)
}

func (t *Tx) storeTypeChange(th *Thing, name string, op Operation) error {
	return t.storeChange(&Change{Event: TypeAssociationEvent, Operation: op, Name: name, Thing: th})
}
