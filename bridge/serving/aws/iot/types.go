package iot

import (
	"errors"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

func (c *controlPlane) types() []operation {
	return []operation{
		{"CreateThingType", "POST", "/thing-types/:thingTypeName", c.createType},
		{"DescribeThingType", "GET", "/thing-types/:thingTypeName", c.describeType},
		{"UpdateThingType", "PATCH", "/thing-types/:thingTypeName", c.updateType},
		{"DeprecateThingType", "POST", "/thing-types/:thingTypeName/deprecate", c.deprecateType},
		{"DeleteThingType", "DELETE", "/thing-types/:thingTypeName", c.deleteType},
		{"ListThingTypes", "GET", "/thing-types", c.listTypes},
	}
}

type typeProperties struct {
	Description string   `json:"thingTypeDescription,omitempty"`
	Searchable  []string `json:"searchableAttributes"`
}

type typeRequest struct {
	Properties typeProperties `json:"thingTypeProperties"`
	Tags       []tag          `json:"tags"`
}

type typeID struct {
	Name string `json:"thingTypeName"`
	ARN  string `json:"thingTypeArn"`
	ID   string `json:"thingTypeId,omitempty"` // not in lists
}

type typeAnswer struct {
	typeID
	Properties typeProperties `json:"thingTypeProperties"`
	Metadata   struct {
		Deprecated   bool    `json:"deprecated"`
		DeprecatedAt float64 `json:"deprecationDate,omitempty"`
		Created      float64 `json:"creationDate"`
	} `json:"thingTypeMetadata"`
}

func (c *controlPlane) typeAnswer(r *wire.Request, ty *registry.ThingType) typeAnswer {
	out := typeAnswer{typeID: typeID{Name: ty.Name, ARN: c.arn(r, "thingtype", ty.Name)},
		Properties: typeProperties{ty.Description, ty.Searchable}}
	if out.Properties.Searchable == nil {
		out.Properties.Searchable = []string{}
	}
	out.Metadata.Created = seconds(ty.Created)
	if out.Metadata.Deprecated = !ty.Deprecated.IsZero(); out.Metadata.Deprecated {
		out.Metadata.DeprecatedAt = seconds(ty.Deprecated)
	}
	return out
}

func (c *controlPlane) createType(r *wire.Request) (any, error) {
	var in typeRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	var ty registry.ThingType
	err := ofTypes.Update(r.Context(), c.registry, func(tx typeRecords) (err error) {
		name := r.Path("thingTypeName")
		ty = registry.ThingType{Name: name, Description: in.Properties.Description,
			Searchable: in.Properties.Searchable}
		if err := tx.CreateThingType(ty); err != nil {
			return err
		}
		if err := tx.Tag("thingtype/"+name, tagMap(in.Tags)); err != nil {
			return err
		}
		ty, err = tx.ThingType(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return typeID{ty.Name, c.arn(r, "thingtype", ty.Name), ty.ID()}, nil
}

func (c *controlPlane) describeType(r *wire.Request) (any, error) {
	var ty registry.ThingType
	err := ofTypes.View(c.registry, func(tx typeRecords) (err error) {
		ty, err = tx.ThingType(r.Path("thingTypeName"))
		return err
	})
	if err != nil {
		return nil, err
	}
	out := c.typeAnswer(r, &ty)
	out.ID = ty.ID()
	return out, nil
}

func (c *controlPlane) updateType(r *wire.Request) (any, error) {
	var in typeRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return nil, ofTypes.Update(r.Context(), c.registry, func(tx typeRecords) error {
		return tx.UpdateThingType(r.Path("thingTypeName"), in.Properties.Description, in.Properties.Searchable)
	})
}

func (c *controlPlane) deprecateType(r *wire.Request) (any, error) {
	var in struct {
		Undo bool `json:"undoDeprecate"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return nil, ofTypes.Update(r.Context(), c.registry, func(tx typeRecords) error {
		return tx.DeprecateThingType(r.Path("thingTypeName"), in.Undo)
	})
}

func (c *controlPlane) deleteType(r *wire.Request) (any, error) {
	err := ofTypes.Update(r.Context(), c.registry, func(tx typeRecords) error {
		return tx.DeleteThingType(r.Path("thingTypeName"))
	})
	return nil, instead(err, registry.ErrConflict, "InvalidRequestException", 400)
}

func (c *controlPlane) listTypes(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := struct {
		Types []typeAnswer `json:"thingTypes"`
		Next  string       `json:"nextToken,omitempty"`
	}{Types: []typeAnswer{}}
	err = ofTypes.View(c.registry, func(tx typeRecords) error {
		if name := r.Query.Get("thingTypeName"); name != "" {
			ty, err := tx.ThingType(name)
			if err == nil {
				out.Types = append(out.Types, c.typeAnswer(r, &ty))
			}
			if errors.Is(err, registry.ErrNotFound) {
				err = nil
			}
			return err
		}
		all, next, err := tx.ThingTypes(after, n)
		for i := range all {
			out.Types = append(out.Types, c.typeAnswer(r, &all[i]))
		}
		out.Next = token(next)
		return err
	})
	return out, err
}

func (c *controlPlane) billingGroups() []operation {
	return []operation{
		{"AddThingToBillingGroup", "PUT", "/billing-groups/addThingToBillingGroup", c.linkBilling(true)},
		{"RemoveThingFromBillingGroup", "PUT", "/billing-groups/removeThingFromBillingGroup", c.linkBilling(false)},
		{"CreateBillingGroup", "POST", "/billing-groups/:billingGroupName", c.createBilling},
		{"DescribeBillingGroup", "GET", "/billing-groups/:billingGroupName", c.describeBilling},
		{"UpdateBillingGroup", "PATCH", "/billing-groups/:billingGroupName", c.updateBilling},
		{"DeleteBillingGroup", "DELETE", "/billing-groups/:billingGroupName", c.deleteBilling},
		{"ListBillingGroups", "GET", "/billing-groups", c.listBilling},
		{"ListThingsInBillingGroup", "GET", "/billing-groups/:billingGroupName/things", c.listThingsInBilling},
	}
}

type billingProperties struct {
	Description string `json:"billingGroupDescription,omitempty"`
}

type billingRequest struct {
	Properties billingProperties `json:"billingGroupProperties"`
	Tags       []tag             `json:"tags"`
	Expected   uint64            `json:"expectedVersion"`
}

type billingID struct {
	Name string `json:"billingGroupName"`
	ARN  string `json:"billingGroupArn"`
	ID   string `json:"billingGroupId"`
}

func (c *controlPlane) billingID(r *wire.Request, g *registry.BillingGroup) billingID {
	return billingID{g.Name, c.arn(r, "billinggroup", g.Name), g.ID()}
}

func (c *controlPlane) createBilling(r *wire.Request) (any, error) {
	var in billingRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	var g registry.BillingGroup
	err := ofTypes.Update(r.Context(), c.registry, func(tx typeRecords) (err error) {
		name := r.Path("billingGroupName")
		if err := tx.CreateBillingGroup(name, in.Properties.Description); err != nil {
			return err
		}
		if err := tx.Tag("billinggroup/"+name, tagMap(in.Tags)); err != nil {
			return err
		}
		g, err = tx.BillingGroup(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c.billingID(r, &g), nil
}

func (c *controlPlane) describeBilling(r *wire.Request) (any, error) {
	var g registry.BillingGroup
	err := ofTypes.View(c.registry, func(tx typeRecords) (err error) {
		g, err = tx.BillingGroup(r.Path("billingGroupName"))
		return err
	})
	if err != nil {
		return nil, err
	}
	return struct {
		billingID
		Version    uint64             `json:"version"`
		Properties billingProperties  `json:"billingGroupProperties"`
		Metadata   map[string]float64 `json:"billingGroupMetadata"`
	}{c.billingID(r, &g), g.Version, billingProperties{g.Description},
		map[string]float64{"creationDate": seconds(g.Created)}}, nil
}

func (c *controlPlane) updateBilling(r *wire.Request) (any, error) {
	var in billingRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	out := map[string]uint64{}
	err := ofTypes.Update(r.Context(), c.registry, func(tx typeRecords) (err error) {
		out["version"], err = tx.UpdateBillingGroup(r.Path("billingGroupName"), in.Expected, in.Properties.Description)
		return err
	})
	return out, instead(err, registry.ErrConflict, "VersionConflictException", 409)
}

func (c *controlPlane) deleteBilling(r *wire.Request) (any, error) {
	expected, err := version(r, "expectedVersion")
	if err != nil {
		return nil, err
	}
	err = ofTypes.Update(r.Context(), c.registry, func(tx typeRecords) error {
		err := tx.DeleteBillingGroup(r.Path("billingGroupName"), expected)
		if errors.Is(err, registry.ErrNotFound) {
			return nil // as AWS: there is none
		}
		return err
	})
	err = instead(err, registry.ErrInUse, "InvalidRequestException", 400)
	return nil, instead(err, registry.ErrConflict, "VersionConflictException", 409)
}

func (c *controlPlane) listBilling(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := struct {
		Groups []groupName `json:"billingGroups"`
		Next   string      `json:"nextToken,omitempty"`
	}{Groups: []groupName{}}
	prefix := r.Query.Get("namePrefixFilter")
	err = ofTypes.View(c.registry, func(tx typeRecords) error {
		all, next, err := tx.BillingGroups(after, n)
		for _, g := range all {
			if strings.HasPrefix(g.Name, prefix) {
				out.Groups = append(out.Groups, groupName{g.Name, c.arn(r, "billinggroup", g.Name)})
			}
		}
		out.Next = token(next)
		return err
	})
	return out, err
}

// linkBilling puts a thing into a billing group, or takes it out.
func (c *controlPlane) linkBilling(in bool) run {
	return func(r *wire.Request) (any, error) {
		var body struct {
			memberRequest
			Group    string `json:"billingGroupName"`
			GroupARN string `json:"billingGroupArn"`
		}
		if err := decode(r, &body); err != nil {
			return nil, err
		}
		thing, err := eitherName(body.Thing, body.ThingARN, "thing")
		if err != nil {
			return nil, err
		}
		group, err := eitherName(body.Group, body.GroupARN, "billinggroup")
		if err != nil {
			return nil, err
		}
		return nil, ofTypes.Update(r.Context(), c.registry, func(tx typeRecords) error {
			if in {
				return tx.SetBillingGroup(thing, group)
			}
			th, err := tx.Thing(thing)
			if err != nil || th.BillingGroup != group {
				return err
			}
			return tx.SetBillingGroup(thing, "")
		})
	}
}

func (c *controlPlane) listThingsInBilling(r *wire.Request) (any, error) {
	return members(c.registry, r, ofTypes, func(tx typeRecords, after string, n int) ([]string, string, error) {
		if _, err := tx.BillingGroup(r.Path("billingGroupName")); err != nil {
			return nil, "", err
		}
		all, next := tx.BillingThings(r.Path("billingGroupName"), after, n)
		return all, next, nil
	})
}

// members answers with a page of names of things.
func members[T any](s registry.Store, r *wire.Request, as audit.Records[T],
	list func(tx T, after string, n int) ([]string, string, error)) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := struct {
		Things []string `json:"things"`
		Next   string   `json:"nextToken,omitempty"`
	}{Things: []string{}}
	err = as.View(s, func(tx T) error {
		all, next, err := list(tx, after, n)
		out.Things, out.Next = append(out.Things, all...), token(next)
		return err
	})
	return out, err
}
