package events

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// Of a Registry.
const (
	tellAtOnce = 100 // changes published in one go
	tellAgain  = time.Second
)

// A Registry publishes AWS IoT's registry events, which are off until
// UpdateEventConfigurations asks for them. The registry keeps each change until
// its message is durable, so that none is lost; after a crash one may come
// twice, with the same eventId.
type Registry struct {
	registry        registry.Store
	account, region string
	publish         func(topic string, payload []byte, done func(error))
	log             *slog.Logger
	woken           chan struct{} // of one
}

// NewRegistry returns a Registry that publishes what r keeps by publish, which
// calls done once the message is durable.
func NewRegistry(r registry.Store, account, region string,
	publish func(topic string, payload []byte, done func(error)), log *slog.Logger) *Registry {
	return &Registry{registry: r, account: account, region: region, publish: publish, log: log,
		woken: make(chan struct{}, 1)}
}

// Wake says that there may be something to tell. It does not wait.
func (t *Registry) Wake() {
	select {
	case t.woken <- struct{}{}:
	default:
	}
}

// Run tells what there is, and then what comes, until ctx ends.
func (t *Registry) Run(ctx context.Context) error {
	for {
		n, err := t.tell(ctx)
		var again <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			t.log.Warn("registry events cannot be published", "again_in", tellAgain, "err", err)
			again = time.After(tellAgain)
		case n > 0:
			continue
		}
		select {
		case <-t.woken:
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// tell publishes the oldest changes and, once their messages are durable,
// forgets them.
func (t *Registry) tell(ctx context.Context) (n int, err error) {
	var all []registry.Change
	err = t.registry.View(func(tx *registry.Tx) (err error) {
		all, err = tx.Untold(tellAtOnce)
		return err
	})
	if err != nil || len(all) == 0 {
		return 0, err
	}
	done := make(chan error, len(all))
	for i := range all {
		topic, text, err := t.message(&all[i])
		if err != nil {
			return 0, err
		}
		t.publish(topic, text, func(err error) { done <- err })
	}
	for range all {
		select {
		case e := <-done:
			if e != nil {
				err = e
			}
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	if err != nil {
		return 0, err
	}
	return len(all), t.registry.Update(func(tx *registry.Tx) error { return tx.Told(all[len(all)-1].Sequence) })
}

// message is the topic and text of a change (developer guide, "Registry
// events").
func (t *Registry) message(c *registry.Change) (topic string, text []byte, err error) {
	if c.Event == registry.RegisteredEvent {
		return t.registered(c.Certificate)
	}
	m := map[string]any{
		"eventType": string(c.Event) + "_EVENT", "eventId": c.ID, "timestamp": c.Time.UnixMilli(),
		"operation": c.Operation, "accountId": t.account,
	}
	op := "/" + strings.ToLower(string(c.Operation))
	arn := func(kind, name string) string {
		return authz.ARN(t.region, t.account, kind+"/"+name)
	}
	switch c.Event {
	case registry.ThingEvent:
		topic = "thing/" + c.Name + op
		m["thingId"], m["thingName"], m["versionNumber"] = c.Thing.ID(), c.Name, c.Thing.Version
		m["thingTypeName"], m["billingGroupName"] = orNull(c.Thing.Type), orNull(c.Thing.BillingGroup)
		m["attributes"] = notNil(c.Thing.Attributes)
	case registry.TypeEvent:
		topic = "thingType/" + c.Name + op
		m["thingTypeId"], m["thingTypeName"], m["description"] = c.Type.ID(), c.Name, c.Type.Description
		m["searchableAttributes"] = append([]string{}, c.Type.Searchable...)
		m["isDeprecated"], m["deprecationDate"] = !c.Type.Deprecated.IsZero(), nil
		if !c.Type.Deprecated.IsZero() {
			m["deprecationDate"] = c.Type.Deprecated.UnixMilli()
		}
	case registry.TypeAssociationEvent:
		topic = "thingTypeAssociation/thing/" + c.Thing.Name + "/" + c.Name
		m["thingId"], m["thingName"], m["thingTypeName"] = c.Thing.ID(), c.Thing.Name, c.Name
	case registry.GroupEvent:
		topic = "thingGroup/" + c.Name + op
		m["thingGroupId"], m["thingGroupName"], m["versionNumber"] = c.Group.ID(), c.Name, c.Group.Version
		m["description"], m["attributes"] = orNull(c.Group.Description), notNil(c.Group.Attributes)
		m["parentGroupName"], m["parentGroupId"], m["dynamicGroupMappingId"] = nil, nil, nil
		above := []map[string]string{}
		for _, g := range c.Above {
			above = append(above, map[string]string{"groupArn": arn("thinggroup", g.Name), "groupId": g.ID})
			m["parentGroupName"], m["parentGroupId"] = g.Name, g.ID
		}
		m["rootToParentThingGroups"] = above
	case registry.MembershipEvent:
		topic = "thingGroupMembership/thingGroup/" + c.Name + "/thing/" + c.Other + op
		m["groupArn"], m["groupId"] = arn("thinggroup", c.Name), c.Group.ID()
		m["thingArn"], m["thingId"] = arn("thing", c.Other), c.OtherID
		m["membershipId"] = c.Group.ID() + "_" + c.OtherID
	case registry.HierarchyEvent:
		topic = "thingGroupHierarchy/thingGroup/" + c.Name + "/childThingGroup/" + c.Other + op
		m["thingGroupId"], m["thingGroupName"] = c.Group.ID(), c.Name
		m["childGroupId"], m["childGroupName"] = c.OtherID, c.Other
	}
	text, err = json.Marshal(m)
	return prefix + topic, text, err
}

// registered tells that a certificate was registered by its first connection
// (developer guide, "Just-in-time registration").
func (t *Registry) registered(c *registry.Certificate) (topic string, text []byte, err error) {
	at := c.Created.UnixMilli()
	text, err = json.Marshal(struct {
		Certificate string `json:"certificateId"`
		CA          string `json:"caCertificateId"`
		Timestamp   int64  `json:"timestamp"` // ms since 1970
		Status      string `json:"certificateStatus"`
		Account     string `json:"awsAccountId"`
		Registered  string `json:"certificateRegistrationTimestamp"` // ms since 1970
	}{c.ID, c.CA, at, string(c.Status), t.account, strconv.FormatInt(at, 10)})
	return prefix + "certificates/registered/" + c.CA, text, err
}

// orNull is text, or null for none.
func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}
