package iot

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
)

// A desk is a handler of a registry of its own.
type desk struct {
	t        *testing.T
	registry *registry.Registry
	service  *wire.Service
	handler  http.Handler
}

func newDesk(t *testing.T) desk {
	t.Helper()
	r, err := registrytest.Open(filepath.Join(t.TempDir(), "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	s := Service(Options{Account: "000000000000", Registry: r})
	return desk{t, r, s, wire.New(wiretest.Options(s))}
}

func (p desk) update(f func(*registry.Tx) error) {
	p.t.Helper()
	if err := p.registry.Update(f); err != nil {
		p.t.Fatal(err)
	}
}

// ask asks for an operation at a path with a query.
func (p desk) ask(name, path, body string) wiretest.Answer {
	p.t.Helper()
	i := slices.IndexFunc(p.service.Operations, func(op wire.Operation) bool { return op.Name == name })
	if i < 0 {
		p.t.Fatal(name)
	}
	return wiretest.Ask(p.handler, "iot", p.service.Operations[i].Method, path, body)
}

// The errors of the registry's operations are those that AWS's model names for
// them.
func TestRegistryErrors(t *testing.T) {
	p := newDesk(t)
	p.update(func(tx *registry.Tx) error {
		err := errors.Join(tx.CreateBillingGroup("b", ""), tx.CreateThing(registry.Thing{Name: "t", BillingGroup: "b"}))
		parent := ""
		for i := range registry.MaxGroupDepth {
			name := fmt.Sprint("deep", i)
			err = errors.Join(err, tx.CreateGroup(registry.Group{Name: name, Parent: parent}))
			parent = name
		}
		for i := range registry.MaxThingGroups {
			name := fmt.Sprint("wide", i)
			err = errors.Join(err, tx.CreateGroup(registry.Group{Name: name}), tx.AddToGroup("t", name))
		}
		return err
	})
	many := make([]string, registry.MaxTags+1)
	for i := range many {
		many[i] = fmt.Sprintf(`{"Key":"k%d","Value":""}`, i)
	}
	for _, c := range []struct{ name, path, body, want string }{
		{"AddThingToBillingGroup", "/billing-groups/addThingToBillingGroup", `{"thingName":"t"}`,
			"400 InvalidRequestException"},
		{"AddThingToBillingGroup", "/billing-groups/addThingToBillingGroup", `{"billingGroupName":"b"}`,
			"400 InvalidRequestException"},
		{"AddThingToThingGroup", "/thing-groups/addThingToThingGroup", `{"thingName":"t"}`,
			"400 InvalidRequestException"},
		{"AddThingToThingGroup", "/thing-groups/addThingToThingGroup", `{"thingName":"t","thingGroupName":"deep0"}`,
			"400 InvalidRequestException"},
		{"UpdateThingGroupsForThing", "/thing-groups/updateThingGroupsForThing",
			`{"thingName":"t","thingGroupsToAdd":["deep0"]}`, "400 InvalidRequestException"},
		{"CreateThingGroup", "/thing-groups/deeper", `{"parentGroupName":"deep6"}`, "400 InvalidRequestException"},
		{"TagResource", "/tags", `{"resourceArn":"arn:aws:iot:eu-local-1:000000000000:thinggroup/deep0","tags":[` +
			strings.Join(many, ",") + `]}`, "410 LimitExceededException"},
		{"TagResource", "/tags", `{"resourceArn":"deep0","tags":[{"Key":"a","Value":"b"}]}`,
			"400 InvalidRequestException"},
	} {
		got := p.ask(c.name, c.path, c.body)
		if said := fmt.Sprint(got.Status, " ", got.Code); said != c.want {
			t.Errorf("%s %s: %s, want %s", c.name, c.body[:min(len(c.body), 100)], said, c.want)
		}
	}
	p.update(func(tx *registry.Tx) error {
		if th, err := tx.Thing("t"); err != nil || th.BillingGroup != "b" {
			t.Errorf("%+v %v", th, err)
		}
		return nil
	})
}

// A thing's groups come in pages.
func TestGroupsOfThingInPages(t *testing.T) {
	p := newDesk(t)
	var want, got []string
	p.update(func(tx *registry.Tx) error {
		err := tx.CreateThing(registry.Thing{Name: "t"})
		for i := range registry.MaxThingGroups {
			want = append(want, fmt.Sprint("g", i))
			err = errors.Join(err, tx.CreateGroup(registry.Group{Name: want[i]}), tx.AddToGroup("t", want[i]))
		}
		return err
	})
	for query := "?maxResults=4"; query != ""; {
		out := p.ask("ListThingGroupsForThing", "/things/t/thing-groups"+query, "")
		var page struct {
			ThingGroups []struct{ GroupName string }
			NextToken   string
		}
		if err := json.Unmarshal([]byte(out.Body), &page); err != nil || len(page.ThingGroups) > 4 {
			t.Fatalf("%s %v", out.Body, err)
		}
		for _, g := range page.ThingGroups {
			got = append(got, g.GroupName)
		}
		if query = ""; page.NextToken != "" {
			query = "?maxResults=4&nextToken=" + page.NextToken
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Things are listed by a value of an attribute, or by how it begins.
func TestThingsByAttribute(t *testing.T) {
	p := newDesk(t)
	p.update(func(tx *registry.Tx) error {
		err := tx.CreateThing(registry.Thing{Name: "none"})
		for _, v := range []string{"north", "north-2", "south"} {
			err = errors.Join(err, tx.CreateThing(registry.Thing{Name: "at-" + v,
				Attributes: map[string]string{"site": v}}))
		}
		return err
	})
	for query, want := range map[string]string{
		"attributeName=site":                                                    "at-north at-north-2 at-south",
		"attributeName=site&attributeValue=north":                               "at-north",
		"attributeName=site&attributeValue=north&usePrefixAttributeValue=false": "at-north",
		"attributeName=site&attributeValue=north&usePrefixAttributeValue=true":  "at-north at-north-2",
	} {
		out := p.ask("ListThings", "/things?"+query, "")
		var page struct{ Things []struct{ ThingName string } }
		if err := json.Unmarshal([]byte(out.Body), &page); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, th := range page.Things {
			got = append(got, th.ThingName)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
}
