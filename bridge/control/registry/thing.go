package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Thing is a registered device.
type Thing struct {
	Name       string            `json:"-"`
	Type       string            `json:"type,omitempty"` // one that is there
	Attributes map[string]string `json:"attributes,omitempty"`
	Groups     []string          `json:"groups,omitempty"` // static ones, direct, in order; changed by AddToGroup alone

	BillingGroup string    `json:"billing_group,omitempty"` // changed by SetBillingGroup alone
	Version      uint64    `json:"version"`                 // 1 at first, and one more with each change
	Created      time.Time `json:"created"`
}

// ID is the thing's, a UUID: another thing of the same name has another.
func (th *Thing) ID() string { return identify(th.Name, th.Created) }

func (th *Thing) check() error {
	if !thingName.MatchString(th.Name) {
		return fmt.Errorf("thing name %q: %w: want 1 to 128 of a-z A-Z 0-9 : _ -", th.Name, ErrInvalid)
	}
	if th.Type != "" && !thingName.MatchString(th.Type) {
		return fmt.Errorf("thing %s: type %q: %w", th.Name, th.Type, ErrInvalid)
	}
	return checkAttributes("thing "+th.Name, th.Attributes)
}

// checkAttributes returns what is wrong with the attributes of a thing or group.
func checkAttributes(of string, all map[string]string) error {
	if len(all) > MaxAttributes {
		return fmt.Errorf("%s: %d attributes, want at most %d: %w", of, len(all), MaxAttributes, ErrInvalid)
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if v := all[k]; !attributeName.MatchString(k) || len(v) > MaxAttributeValue || !attributeText.MatchString(v) {
			return fmt.Errorf("%s: attribute %q: %w", of, k, ErrInvalid)
		}
	}
	return nil
}

// CreateThing makes a thing from Name, Type, Attributes and BillingGroup. One
// that is there with the same content is no error; with other content it is
// ErrExists. A type or billing group that is not there is ErrNotFound.
func (t *Tx) CreateThing(th Thing) error {
	if err := th.check(); err != nil {
		return err
	}
	if t.has(bThings, th.Name) {
		old, err := t.Thing(th.Name)
		if err != nil {
			return err
		}
		if old.Type != th.Type || old.BillingGroup != th.BillingGroup || !maps.Equal(old.Attributes, th.Attributes) {
			return fmt.Errorf("thing %s: %w", th.Name, ErrExists)
		}
		return nil
	}
	th.Version, th.Created, th.Groups = 1, t.reg.now().UTC(), nil
	if err := t.storeChange(&Change{Event: ThingEvent, Operation: Created, Name: th.Name, Thing: &th}); err != nil {
		return err
	}
	if err := t.giveType(&th, ""); err != nil {
		return err
	}
	if err := t.giveBilling(&th, ""); err != nil {
		return err
	}
	t.changed(ThingChanged, th.Name)
	return t.put(bThings, th.Name, &th)
}

// Thing returns a thing.
func (t *Tx) Thing(name string) (Thing, error) {
	th := Thing{Name: name}
	err := t.get(bThings, "thing", name, &th)
	return th, err
}

// UpdateThing gives a thing what f makes of it: Type and Attributes count.
// expected is the version it must have, 0 for any; else ErrConflict.
func (t *Tx) UpdateThing(name string, expected uint64, f func(*Thing) error) error {
	th, err := t.Thing(name)
	if err != nil {
		return err
	}
	if expected != 0 && th.Version != expected {
		return fmt.Errorf("thing %s: version %d, not %d: %w", name, th.Version, expected, ErrConflict)
	}
	keep := th
	keep.Groups = slices.Clone(th.Groups)
	if err := f(&th); err != nil {
		return err
	}
	th.Name, th.Groups, th.BillingGroup, th.Created, th.Version = keep.Name, keep.Groups, keep.BillingGroup,
		keep.Created, keep.Version+1
	if err := th.check(); err != nil {
		return err
	}
	if err := t.storeChange(&Change{Event: ThingEvent, Operation: Updated, Name: name, Thing: &th}); err != nil {
		return err
	}
	if err := t.giveType(&th, keep.Type); err != nil {
		return err
	}
	t.changed(ThingChanged, name)
	return t.put(bThings, name, &th)
}

// DeleteThing deletes a thing. With a certificate attached it is ErrInUse; its
// groups let it go. expected is as in UpdateThing.
func (t *Tx) DeleteThing(name string, expected uint64) error {
	th, err := t.Thing(name)
	if err != nil {
		return err
	}
	if expected != 0 && th.Version != expected {
		return fmt.Errorf("thing %s: version %d, not %d: %w", name, th.Version, expected, ErrConflict)
	}
	if t.anyLink(bThingCerts, name) {
		return inUse("thing "+name, each("certificate ", t.links(bThingCerts, name)))
	}
	for _, g := range th.Groups {
		if err := t.leave(&th, g); err != nil {
			return err
		}
	}
	was := th
	was.Type, was.BillingGroup = "", ""
	if err := errors.Join(t.giveType(&was, th.Type), t.giveBilling(&was, th.BillingGroup)); err != nil {
		return err
	}
	if err := t.storeChange(&Change{Event: ThingEvent, Operation: Deleted, Name: name, Thing: &th}); err != nil {
		return err
	}
	t.changed(ThingChanged, name)
	return t.tx.Table(bThings).Delete([]byte(name))
}

// Things lists things by name: up to n (at most MaxPage) of those behind after
// for which match, if given, is true. next is the after of the next page,
// empty at the end.
func (t *Tx) Things(after string, n int, match func(*Thing) bool) (page []Thing, next string, err error) {
	next, err = t.page(bThings, after, n, func(key string, raw []byte) (bool, error) {
		th := Thing{Name: key}
		if err := json.Unmarshal(raw, &th); err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if match != nil && !match(&th) {
			return false, nil
		}
		page = append(page, th)
		return true, nil
	})
	return page, next, err
}

// AttachThing says that a certificate belongs to a thing. Both must be there;
// again is no error.
func (t *Tx) AttachThing(thing, certificate string) error {
	if !t.has(bThings, thing) {
		return fmt.Errorf("thing %q: %w", thing, ErrNotFound)
	}
	if !t.has(bCertificates, certificate) {
		return fmt.Errorf("certificate %q: %w", certificate, ErrNotFound)
	}
	if t.linked(bThingCerts, thing, certificate) {
		return nil
	}
	t.changed(CertificateChanged, certificate)
	if err := t.addLink(bThingCerts, thing, certificate); err != nil {
		return err
	}
	return t.addLink(bCertThings, certificate, thing)
}

// DetachThing undoes AttachThing; what is not attached is ErrNotFound.
func (t *Tx) DetachThing(thing, certificate string) error {
	if !t.linked(bThingCerts, thing, certificate) {
		return fmt.Errorf("certificate %q at thing %q: %w", certificate, thing, ErrNotFound)
	}
	t.changed(CertificateChanged, certificate)
	if err := t.removeLink(bThingCerts, thing, certificate); err != nil {
		return err
	}
	return t.removeLink(bCertThings, certificate, thing)
}

// ThingCertificates returns the ids of the certificates attached to a thing.
func (t *Tx) ThingCertificates(thing string) []string { return t.links(bThingCerts, thing) }

// CertificateThings returns the names of the things a certificate is attached to.
func (t *Tx) CertificateThings(certificate string) []string {
	return t.links(bCertThings, certificate)
}
