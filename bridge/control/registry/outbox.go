package registry

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
)

// An EventType is a kind of message about the registry that may be wanted
// (UpdateEventConfigurations).
type EventType string

// The types of events. Those in told are made here.
const (
	ThingEvent           EventType = "THING"
	GroupEvent           EventType = "THING_GROUP"
	TypeEvent            EventType = "THING_TYPE"
	MembershipEvent      EventType = "THING_GROUP_MEMBERSHIP"
	HierarchyEvent       EventType = "THING_GROUP_HIERARCHY"
	TypeAssociationEvent EventType = "THING_TYPE_ASSOCIATION"

	// RegisteredEvent tells of a certificate that its first connection has
	// registered. It is always wanted.
	RegisteredEvent EventType = "CERTIFICATE_REGISTERED"
)

// eventTypes are all that AWS IoT has; those of jobs, policies and
// certificates are kept for who makes them.
var eventTypes = []EventType{ThingEvent, GroupEvent, TypeEvent, MembershipEvent, HierarchyEvent, TypeAssociationEvent,
	"JOB", "JOB_EXECUTION", "POLICY", "CERTIFICATE", "CA_CERTIFICATE"}

// An Operation says what happened.
type Operation string

// The operations of changes.
const (
	Created Operation = "CREATED"
	Updated Operation = "UPDATED"
	Deleted Operation = "DELETED"
	Added   Operation = "ADDED"
	Removed Operation = "REMOVED"
)

// A Change is what a message about the registry tells. It is stored with what
// it is about in one transaction, and kept until ForgetChanges is called.
type Change struct {
	Sequence  uint64    `json:"-"`  // order among changes; to be passed to ForgetChanges
	ID        string    `json:"id"` // UUID, the same when the message is sent again
	Time      time.Time `json:"time"`
	Event     EventType `json:"event"`
	Operation Operation `json:"operation"`
	Name      string    `json:"name"`            // of the thing, type or group
	Other     string    `json:"other,omitempty"` // MembershipEvent: the thing; HierarchyEvent: the child
	OtherID   string    `json:"other_id,omitempty"`

	Thing *Thing     `json:"thing,omitempty"` // ThingEvent, TypeAssociationEvent
	Type  *ThingType `json:"type,omitempty"`  // TypeEvent
	Group *Group     `json:"group,omitempty"` // GroupEvent, MembershipEvent, HierarchyEvent

	Certificate *Certificate `json:"certificate,omitempty"` // RegisteredEvent, whose Name is the id
	// Above are the groups above Group, from the root.
	Above []GroupID `json:"above,omitempty"`
	// ThingName is Thing's.
	ThingName string `json:"thing_name,omitempty"`
}

// A GroupID names a thing group.
type GroupID struct{ Name, ID string }

// maxChanges is how many changes wait to be published. A registry that nobody reads
// them of refuses to change rather than to forget.
const maxChanges = 1_000_000

// An EventConfig says which messages are wanted.
type EventConfig struct {
	Enabled  map[EventType]bool `json:"enabled"`
	Created  time.Time          `json:"created,omitzero"`
	Modified time.Time          `json:"modified,omitzero"`
}

// EventConfig returns which messages are wanted, with an entry for each type:
// none at first.
func (t *Tx) EventConfig() (EventConfig, error) {
	c := EventConfig{}
	if raw := t.tx.Table(bMeta).Get(keyEvents); raw != nil {
		if err := json.Unmarshal(raw, &c); err != nil {
			return c, fmt.Errorf("event configuration: %w: %w", ErrCorrupt, err)
		}
	}
	enabled := map[EventType]bool{}
	for _, e := range eventTypes {
		enabled[e] = c.Enabled[e]
	}
	c.Enabled = enabled
	return c, nil
}

// SetEventConfig says of some types whether their messages are wanted.
func (t *Tx) SetEventConfig(set map[EventType]bool) error {
	c, err := t.EventConfig()
	if err != nil {
		return err
	}
	for e := range set {
		if !slices.Contains(eventTypes, e) {
			return fmt.Errorf("event type %.60q: %w: want one of %v", e, ErrInvalid, eventTypes)
		}
	}
	maps.Copy(c.Enabled, set)
	c.Modified = t.reg.now().UTC()
	if c.Created.IsZero() {
		c.Created = c.Modified
	}
	t.wanted = nil
	return t.put(bMeta, string(keyEvents), &c)
}

// storeChange stores a change if messages of its type are wanted.
func (t *Tx) storeChange(c *Change) error {
	if t.wanted == nil {
		config, err := t.EventConfig()
		if err != nil {
			return err
		}
		t.wanted = config.Enabled
	}
	if !t.wanted[c.Event] && c.Event != RegisteredEvent {
		return nil
	}
	b := t.tx.Table(bOutbox)
	n, err := b.NextSequence()
	if err != nil {
		return err
	}
	if first, _ := b.Cursor().First(); first != nil && n-binary.BigEndian.Uint64(first) >= maxChanges {
		return fmt.Errorf("%d messages about the registry wait to be published: %w", maxChanges, ErrLimit)
	}
	c.ID, c.Time = uuid.NewString(), t.reg.now().UTC()
	if c.Thing != nil {
		c.ThingName = c.Thing.Name
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	t.changed(ChangeStored, "")
	return b.Put(binary.BigEndian.AppendUint64(nil, n), raw)
}

// StoreRegistered stores that a certificate was registered by its first
// connection.
func (t *Tx) StoreRegistered(c *Certificate) error {
	return t.storeChange(&Change{Event: RegisteredEvent, Operation: Created, Name: c.ID, Certificate: c})
}

// StoredChanges returns the oldest n changes that are stored.
func (t *Tx) StoredChanges(n int) ([]Change, error) {
	var all []Change
	cur := t.tx.Table(bOutbox).Cursor()
	for k, raw := cur.First(); k != nil && len(all) < n; k, raw = cur.Next() {
		c := Change{Sequence: binary.BigEndian.Uint64(k)}
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, fmt.Errorf("change %d: %w: %w", c.Sequence, ErrCorrupt, err)
		}
		switch {
		case c.Thing != nil:
			c.Thing.Name = c.ThingName
		case c.Type != nil:
			c.Type.Name = c.Name
		case c.Group != nil:
			c.Group.Name = c.Name
		case c.Certificate != nil:
			c.Certificate.ID = c.Name
		}
		all = append(all, c)
	}
	return all, nil
}

// ForgetChanges forgets the changes up to and with the one of a sequence number.
func (t *Tx) ForgetChanges(sequence uint64) error {
	b := t.tx.Table(bOutbox)
	cur := b.Cursor()
	for k, _ := cur.First(); k != nil && binary.BigEndian.Uint64(k) <= sequence; k, _ = cur.First() {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}
