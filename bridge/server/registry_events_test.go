package server

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A subscriber hears each change of the registry, in order, with the members
// that the developer guide shows.
func TestRegistryEvents(t *testing.T) {
	b := start(t, configure(t))
	d := b.connect(b.thing("watcher", all("", "")), "watcher")
	if d.subscribe("$aws/events/#") != 1 {
		t.Fatal("not subscribed")
	}
	b.update(func(tx *registry.Tx) error {
		return errors.Join(tx.CreateThing(registry.Thing{Name: "unheard"}),
			tx.SetEventConfig(map[registry.EventType]bool{
				registry.ThingEvent: true, registry.TypeEvent: true, registry.GroupEvent: true,
				registry.MembershipEvent: true,
				registry.HierarchyEvent:  true, registry.TypeAssociationEvent: true}))
	})
	b.update(func(tx *registry.Tx) error {
		return errors.Join(
			tx.CreateThingType(registry.ThingType{Name: "pump", Searchable: []string{"site"}}),
			tx.CreateGroup(registry.Group{Name: "plant"}),
			tx.CreateGroup(registry.Group{Name: "hall", Parent: "plant", Description: "the first"}),
			tx.CreateThing(registry.Thing{Name: "p1", Type: "pump", Attributes: map[string]string{"site": "north"}}),
			tx.AddToGroup("p1", "hall"),
			tx.DeleteThing("p1", 0),
		)
	})
	uuids := regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)
	times := regexp.MustCompile(`"timestamp":\d{13}`)
	for _, want := range []string{
		`thingType/pump/created {"accountId":"000000000000","deprecationDate":null,"description":"",` +
			`"eventId":"ID","eventType":"THING_TYPE_EVENT","isDeprecated":false,"operation":"CREATED",` +
			`"searchableAttributes":["site"],"thingTypeId":"ID","thingTypeName":"pump",T}`,
		`thingGroup/plant/created {"accountId":"000000000000","attributes":{},"description":null,` +
			`"dynamicGroupMappingId":null,"eventId":"ID","eventType":"THING_GROUP_EVENT","operation":"CREATED",` +
			`"parentGroupId":null,"parentGroupName":null,"rootToParentThingGroups":[],"thingGroupId":"ID",` +
			`"thingGroupName":"plant",T,"versionNumber":1}`,
		`thingGroup/hall/created {"accountId":"000000000000","attributes":{},"description":"the first",` +
			`"dynamicGroupMappingId":null,"eventId":"ID","eventType":"THING_GROUP_EVENT","operation":"CREATED",` +
			`"parentGroupId":"ID","parentGroupName":"plant",` +
			`"rootToParentThingGroups":[{"groupArn":"arn:aws:iot:eu-local-1:000000000000:thinggroup/plant","groupId":"ID"}],"thingGroupId":"ID","thingGroupName":"hall",T,"versionNumber":1}`,
		`thingGroupHierarchy/thingGroup/plant/childThingGroup/hall/added {"accountId":"000000000000",` +
			`"childGroupId":"ID","childGroupName":"hall","eventId":"ID","eventType":"THING_GROUP_HIERARCHY_EVENT",` +
			`"operation":"ADDED","thingGroupId":"ID","thingGroupName":"plant",T}`,
		`thing/p1/created {"accountId":"000000000000","attributes":{"site":"north"},"billingGroupName":null,` +
			`"eventId":"ID","eventType":"THING_EVENT","operation":"CREATED","thingId":"ID","thingName":"p1",` +
			`"thingTypeName":"pump",T,"versionNumber":1}`,
		`thingTypeAssociation/thing/p1/pump {"accountId":"000000000000","eventId":"ID",` +
			`"eventType":"THING_TYPE_ASSOCIATION_EVENT","operation":"ADDED","thingId":"ID","thingName":"p1","thingTypeName":"pump",T}`,
		`thingGroupMembership/thingGroup/hall/thing/p1/added {"accountId":"000000000000","eventId":"ID",` +
			`"eventType":"THING_GROUP_MEMBERSHIP_EVENT",` +
			`"groupArn":"arn:aws:iot:eu-local-1:000000000000:thinggroup/hall","groupId":"ID",` +
			`"membershipId":"ID_ID","operation":"ADDED",` +
			`"thingArn":"arn:aws:iot:eu-local-1:000000000000:thing/p1","thingId":"ID",T}`,
		`thingGroupMembership/thingGroup/hall/thing/p1/removed `,
		`thingTypeAssociation/thing/p1/pump `,
		`thing/p1/deleted `,
	} {
		got := times.ReplaceAllString(uuids.ReplaceAllString(d.next(), "ID"), "T")
		if want = "$aws/events/" + want; !strings.HasPrefix(got, want) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}
