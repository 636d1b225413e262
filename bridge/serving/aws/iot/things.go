package iot

import (
	"errors"
	"maps"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

func (c *controlPlane) things() []operation {
	return []operation{
		{"CreateThing", "POST", "/things/:thingName", c.createThing},
		{"DescribeThing", "GET", "/things/:thingName", c.describeThing},
		{"UpdateThing", "PATCH", "/things/:thingName", c.updateThing},
		{"DeleteThing", "DELETE", "/things/:thingName", c.deleteThing},
		{"ListThings", "GET", "/things", c.listThings},
		{"AttachThingPrincipal", "PUT", "/things/:thingName/principals", c.linkThing(thingRecords.AttachThing)},
		{"DetachThingPrincipal", "DELETE", "/things/:thingName/principals", c.linkThing(thingRecords.DetachThing)},
		{"ListThingPrincipals", "GET", "/things/:thingName/principals", c.listThingPrincipals},
		{"ListPrincipalThings", "GET", "/principals/things", c.listPrincipalThings},
	}
}

// A thingRequest is that of CreateThing and UpdateThing.
type thingRequest struct {
	Type       string `json:"thingTypeName"`
	RemoveType bool   `json:"removeThingType"`
	Attributes struct {
		Attributes map[string]string `json:"attributes"`
		Merge      bool              `json:"merge"`
	} `json:"attributePayload"`
	Expected uint64 `json:"expectedVersion"`
	Billing  string `json:"billingGroupName"` // of CreateThing
}

type thingAnswer struct {
	Name string `json:"thingName"`
	ARN  string `json:"thingArn"`
	ID   string `json:"thingId"`
}

func (c *controlPlane) createThing(r *wire.Request) (any, error) {
	var in thingRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	name := r.Path("thingName")
	var th registry.Thing
	err := ofThings.Update(r.Context(), c.registry, func(tx thingRecords) (err error) {
		th = registry.Thing{Name: name, Type: in.Type, Attributes: in.Attributes.Attributes, BillingGroup: in.Billing}
		if err := tx.CreateThing(th); err != nil {
			return err
		}
		th, err = tx.Thing(name)
		return err
	})
	if errors.Is(err, registry.ErrExists) {
		return nil, exists(err, name, c.arn(r, "thing", name))
	}
	if err != nil {
		return nil, err
	}
	return thingAnswer{name, c.arn(r, "thing", name), th.ID()}, nil
}

func (c *controlPlane) describeThing(r *wire.Request) (any, error) {
	var th registry.Thing
	err := ofThings.View(c.registry, func(tx thingRecords) (err error) {
		th, err = tx.Thing(r.Path("thingName"))
		return err
	})
	if err != nil {
		return nil, err
	}
	return struct {
		thingAnswer
		ClientID   string            `json:"defaultClientId"`
		Type       string            `json:"thingTypeName,omitempty"`
		Attributes map[string]string `json:"attributes"`
		Version    uint64            `json:"version"`
		Billing    string            `json:"billingGroupName,omitempty"`
	}{thingAnswer{th.Name, c.arn(r, "thing", th.Name), th.ID()}, th.Name, th.Type, notNil(th.Attributes), th.Version,
		th.BillingGroup}, nil
}

func notNil(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (c *controlPlane) updateThing(r *wire.Request) (any, error) {
	var in thingRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	err := ofThings.Update(r.Context(), c.registry, func(tx thingRecords) error {
		return tx.UpdateThing(r.Path("thingName"), in.Expected, func(th *registry.Thing) error {
			if in.Type != "" {
				th.Type = in.Type
			}
			if in.RemoveType {
				th.Type = ""
			}
			if in.Attributes.Attributes == nil {
				return nil
			}
			all := map[string]string{}
			if in.Attributes.Merge {
				maps.Copy(all, th.Attributes)
			}
			maps.Copy(all, in.Attributes.Attributes)
			maps.DeleteFunc(all, func(_, v string) bool { return v == "" }) // an empty value removes
			th.Attributes = all
			return nil
		})
	})
	return nil, instead(err, registry.ErrConflict, "VersionConflictException", 409)
}

func (c *controlPlane) deleteThing(r *wire.Request) (any, error) {
	expected, err := version(r, "expectedVersion")
	if err != nil {
		return nil, err
	}
	err = ofThings.Update(r.Context(), c.registry, func(tx thingRecords) error {
		err := tx.DeleteThing(r.Path("thingName"), expected)
		if errors.Is(err, registry.ErrNotFound) {
			return nil // as AWS: there is none
		}
		return err
	})
	err = instead(err, registry.ErrInUse, "InvalidRequestException", 400)
	return nil, instead(err, registry.ErrConflict, "VersionConflictException", 409)
}

func (c *controlPlane) listThings(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	type entry struct {
		Name       string            `json:"thingName"`
		ARN        string            `json:"thingArn"`
		Type       string            `json:"thingTypeName,omitempty"`
		Attributes map[string]string `json:"attributes"`
		Version    uint64            `json:"version"`
	}
	key, value, kind := r.Query.Get("attributeName"), r.Query.Get("attributeValue"), r.Query.Get("thingTypeName")
	begins := r.Query.Get("usePrefixAttributeValue") == "true"
	out := struct {
		Things []entry `json:"things"`
		Next   string  `json:"nextToken,omitempty"`
	}{Things: []entry{}}
	err = ofThings.View(c.registry, func(tx thingRecords) error {
		wanted := func(th *registry.Thing) bool {
			have, ok := th.Attributes[key]
			return key == "" || ok && (value == "" || have == value || begins && strings.HasPrefix(have, value))
		}
		var all []registry.Thing
		var next string
		var err error
		if kind != "" {
			all, next, err = tx.ThingsOfType(kind, after, n, wanted)
		} else {
			all, next, err = tx.Things(after, n, wanted)
		}
		for _, th := range all {
			out.Things = append(out.Things,
				entry{th.Name, c.arn(r, "thing", th.Name), th.Type, notNil(th.Attributes), th.Version})
		}
		out.Next = token(next)
		return err
	})
	return out, err
}

// linkThing attaches a certificate to a thing, or detaches it.
func (c *controlPlane) linkThing(f func(tx thingRecords, thing, certificate string) error) run {
	return func(r *wire.Request) (any, error) {
		id, err := certificateOf(r.Header.Get("x-amzn-principal"))
		if err != nil {
			return nil, err
		}
		return nil, ofThings.Update(r.Context(), c.registry, func(tx thingRecords) error {
			return f(tx, r.Path("thingName"), id)
		})
	}
}

func (c *controlPlane) listThingPrincipals(r *wire.Request) (any, error) {
	out := map[string][]string{"principals": {}}
	err := ofThings.View(c.registry, func(tx thingRecords) error {
		if _, err := tx.Thing(r.Path("thingName")); err != nil {
			return err
		}
		for _, id := range tx.ThingCertificates(r.Path("thingName")) {
			out["principals"] = append(out["principals"], c.arn(r, "cert", id))
		}
		return nil
	})
	return out, err
}

func (c *controlPlane) listPrincipalThings(r *wire.Request) (any, error) {
	id, err := certificateOf(r.Header.Get("x-amzn-principal"))
	if err != nil {
		return nil, err
	}
	out := map[string][]string{"things": {}}
	err = ofThings.View(c.registry, func(tx thingRecords) error {
		if _, err := tx.Certificate(id); err != nil {
			return err
		}
		out["things"] = append(out["things"], tx.CertificateThings(id)...)
		return nil
	})
	return out, err
}
