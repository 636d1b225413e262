package events

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// Of a Registry.
const (
	pageSize   = 100 // changes published in one go
	retryAfter = time.Second
	// lastWait is how long what was published is waited for when the bridge stops.
	lastWait = 5 * time.Second
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

// Wake says that there may be changes to publish. It does not wait.
func (e *Registry) Wake() {
	select {
	case e.woken <- struct{}{}:
	default:
	}
}

// Run publishes what there is, and then what comes, until ctx ends.
func (e *Registry) Run(ctx context.Context) error {
	for {
		n, err := e.publishOldest(ctx)
		var again <-chan time.Time
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			e.log.Warn("registry events cannot be published", "again_in", retryAfter, "err", err)
			again = time.After(retryAfter)
		case n > 0:
			continue
		}
		select {
		case <-e.woken:
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// publishOldest publishes the oldest changes and, once their messages are durable,
// forgets them. What was published is waited for though ctx ends, so that the next
// start does not publish it again.
func (e *Registry) publishOldest(ctx context.Context) (n int, err error) {
	var all []registry.Change
	err = inRegistry.View(e.registry, func(tx records) (err error) {
		all, err = tx.StoredChanges(pageSize)
		return err
	})
	if err != nil || len(all) == 0 {
		return 0, err
	}
	done := make(chan error, len(all))
	for i := range all {
		topic, text, err := e.message(&all[i])
		if err != nil {
			return 0, err
		}
		e.publish(topic, text, func(err error) { done <- err })
	}
	over := make(chan struct{})
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWait, func() { close(over) }) })()
	for range all {
		select {
		case failed := <-done:
			if failed != nil {
				err = failed
			}
		case <-over:
			return 0, ctx.Err()
		}
	}
	if err != nil {
		return 0, err
	}
	return len(all), inRegistry.Store(e.registry, func(tx records) error {
		return tx.ForgetChanges(all[len(all)-1].Sequence)
	})
}

// message is the topic and text of a change (developer guide, "Registry
// events").
func (e *Registry) message(c *registry.Change) (topic string, text []byte, err error) {
	if c.Event == registry.RegisteredEvent {
		return e.registered(c.Certificate)
	}
	m := map[string]any{
		"eventType": string(c.Event) + "_EVENT", "eventId": c.ID, "timestamp": c.Time.UnixMilli(),
		"operation": c.Operation, "accountId": e.account,
	}
	op := "/" + strings.ToLower(string(c.Operation))
	of := func(kind, name string) string {
		return arn.IoT(e.region, e.account, kind+"/"+name)
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
			above = append(above, map[string]string{"groupArn": of("thinggroup", g.Name), "groupId": g.ID})
			m["parentGroupName"], m["parentGroupId"] = g.Name, g.ID
		}
		m["rootToParentThingGroups"] = above
	case registry.MembershipEvent:
		topic = "thingGroupMembership/thingGroup/" + c.Name + "/thing/" + c.Other + op
		m["groupArn"], m["groupId"] = of("thinggroup", c.Name), c.Group.ID()
		m["thingArn"], m["thingId"] = of("thing", c.Other), c.OtherID
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
func (e *Registry) registered(c *registry.Certificate) (topic string, text []byte, err error) {
	at := c.Created.UnixMilli()
	text, err = json.Marshal(struct {
		Certificate string `json:"certificateId"`
		CA          string `json:"caCertificateId"`
		Timestamp   int64  `json:"timestamp"` // ms since 1970
		Status      string `json:"certificateStatus"`
		Account     string `json:"awsAccountId"`
		Registered  string `json:"certificateRegistrationTimestamp"` // ms since 1970
	}{c.ID, c.CA, at, string(c.Status), e.account, strconv.FormatInt(at, 10)})
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
