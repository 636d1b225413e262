package iot

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// dynamicGroups know which things are in dynamic groups, which the registry
// does not. fleet.Index is one.
type dynamicGroups interface {
	// Members lists the things in a group as registry.Tx.GroupThings does; ok
	// is false while that is not known.
	Members(group, after string, n int) (page []string, next string, ok bool)
	// GroupsOf returns the groups that a thing is in, in order.
	GroupsOf(thing string) []string
}

func (c *controlPlane) groups() []operation {
	return []operation{
		{"AddThingToThingGroup", "PUT", "/thing-groups/addThingToThingGroup", c.linkGroup(groupRecords.AddToGroup)},
		{"RemoveThingFromThingGroup", "PUT", "/thing-groups/removeThingFromThingGroup",
			c.linkGroup(groupRecords.RemoveFromGroup)},
		{"UpdateThingGroupsForThing", "PUT", "/thing-groups/updateThingGroupsForThing", c.updateGroupsOfThing},
		{"CreateThingGroup", "POST", "/thing-groups/:thingGroupName", c.createGroup},
		{"DescribeThingGroup", "GET", "/thing-groups/:thingGroupName", c.describeGroup},
		{"UpdateThingGroup", "PATCH", "/thing-groups/:thingGroupName", c.updateGroup},
		{"DeleteThingGroup", "DELETE", "/thing-groups/:thingGroupName", c.deleteGroup(false)},
		{"ListThingGroups", "GET", "/thing-groups", c.listGroups},
		{"ListThingsInThingGroup", "GET", "/thing-groups/:thingGroupName/things", c.listThingsInGroup},
		{"ListThingGroupsForThing", "GET", "/things/:thingName/thing-groups", c.listGroupsOfThing},
	}
}

// A groupRequest is that of CreateThingGroup, UpdateThingGroup and those of
// dynamic groups.
type groupRequest struct {
	Parent     string          `json:"parentGroupName"`
	Properties groupProperties `json:"thingGroupProperties"`
	Tags       []tag           `json:"tags"`
	Expected   uint64          `json:"expectedVersion"`
	Query      string          `json:"queryString"`
}

type groupProperties struct {
	Description string           `json:"thingGroupDescription,omitempty"`
	Attributes  *groupAttributes `json:"attributePayload,omitempty"`
}

type groupAttributes struct {
	Attributes map[string]string `json:"attributes"`
	Merge      bool              `json:"merge,omitempty"`
}

// change makes of g what an update asks for.
func (p *groupProperties) change(g *registry.Group) {
	g.Description = cmp.Or(p.Description, g.Description)
	if p.Attributes == nil {
		return
	}
	all := map[string]string{}
	if p.Attributes.Merge {
		maps.Copy(all, g.Attributes)
	}
	maps.Copy(all, p.Attributes.Attributes)
	maps.DeleteFunc(all, func(_, v string) bool { return v == "" }) // an empty value removes
	g.Attributes = all
}

type groupAnswer struct {
	Name string `json:"thingGroupName"`
	ARN  string `json:"thingGroupArn"`
	ID   string `json:"thingGroupId"`
}

func (c *controlPlane) groupAnswer(r *wire.Request, g *registry.Group) groupAnswer {
	return groupAnswer{g.Name, c.arn(r, "thinggroup", g.Name), g.ID()}
}

// A groupName is how lists name one.
type groupName struct {
	Name string `json:"groupName"`
	ARN  string `json:"groupArn"`
}

func (c *controlPlane) groupName(r *wire.Request, name string) groupName {
	return groupName{name, c.arn(r, "thinggroup", name)}
}

func (c *controlPlane) createGroup(r *wire.Request) (any, error) {
	var in groupRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	g, err := c.makeGroup(r, &in, registry.Group{Parent: in.Parent})
	if err != nil {
		return nil, err
	}
	return c.groupAnswer(r, &g), nil
}

// makeGroup makes a group of the request's name.
func (c *controlPlane) makeGroup(r *wire.Request, in *groupRequest, g registry.Group) (registry.Group, error) {
	g.Name = r.Path("thingGroupName")
	in.Properties.change(&g)
	err := ofGroups.Update(r.Context(), c.registry, func(tx groupRecords) (err error) {
		if err := tx.CreateGroup(g); err != nil {
			return err
		}
		if err := tx.Tag("thinggroup/"+g.Name, tagMap(in.Tags)); err != nil {
			return err
		}
		g, err = tx.Group(g.Name)
		return err
	})
	return g, instead(err, registry.ErrLimit, "InvalidRequestException", 400)
}

func (c *controlPlane) describeGroup(r *wire.Request) (any, error) {
	type metadata struct {
		Parent  string      `json:"parentGroupName,omitempty"`
		Root    []groupName `json:"rootToParentThingGroups"`
		Created float64     `json:"creationDate"`
	}
	out := struct {
		groupAnswer
		Version    uint64          `json:"version"`
		Properties groupProperties `json:"thingGroupProperties"`
		Metadata   *metadata       `json:"thingGroupMetadata"`
		// Of dynamic groups.
		Index   string `json:"indexName,omitempty"`
		Query   string `json:"queryString,omitempty"`
		Dialect string `json:"queryVersion,omitempty"`
		Status  string `json:"status,omitempty"`
	}{}
	err := ofGroups.View(c.registry, func(tx groupRecords) error {
		g, err := tx.Group(r.Path("thingGroupName"))
		if err != nil {
			return err
		}
		out.groupAnswer, out.Version = c.groupAnswer(r, &g), g.Version
		out.Properties.Description = g.Description
		if len(g.Attributes) > 0 {
			out.Properties.Attributes = &groupAttributes{Attributes: g.Attributes}
		}
		if g.Query != "" {
			out.Index, out.Query, out.Dialect, out.Status = "AWS_Things", g.Query, "2017-09-30", "BUILDING"
			if c.fleet != nil {
				if _, _, ok := c.fleet.Members(g.Name, "", 1); ok {
					out.Status = "ACTIVE"
				}
			}
		}
		out.Metadata = &metadata{Parent: g.Parent, Root: []groupName{}, Created: seconds(g.Created)}
		for up := g.Parent; up != ""; up = g.Parent {
			out.Metadata.Root = append([]groupName{c.groupName(r, up)}, out.Metadata.Root...)
			if g, err = tx.Group(up); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func (c *controlPlane) updateGroup(r *wire.Request) (any, error) {
	var in groupRequest
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return c.changeGroup(r, &in, func(g *registry.Group) error {
		if g.Query != "" {
			return isDynamic(g.Name)
		}
		return nil
	})
}

// changeGroup gives a group the properties of a request, and what more does.
func (c *controlPlane) changeGroup(r *wire.Request, in *groupRequest, more func(*registry.Group) error) (any, error) {
	out := map[string]uint64{}
	err := ofGroups.Update(r.Context(), c.registry, func(tx groupRecords) (err error) {
		out["version"], err = tx.UpdateGroup(r.Path("thingGroupName"), in.Expected, func(g *registry.Group) error {
			if err := more(g); err != nil {
				return err
			}
			in.Properties.change(g)
			return nil
		})
		return err
	})
	return out, instead(err, registry.ErrConflict, "VersionConflictException", 409)
}

// isDynamic refuses an operation of static groups, notDynamic one of dynamic
// groups.
func isDynamic(name string) error {
	return wire.Errorf(400, "InvalidRequestException", "thing group %s is dynamic", name)
}

func notDynamic(name string) error {
	return wire.Errorf(400, "InvalidRequestException", "thing group %s is not dynamic", name)
}

// deleteGroup deletes a static group, or a dynamic one.
func (c *controlPlane) deleteGroup(dynamic bool) run {
	return func(r *wire.Request) (any, error) {
		expected, err := version(r, "expectedVersion")
		if err != nil {
			return nil, err
		}
		name := r.Path("thingGroupName")
		err = ofGroups.Update(r.Context(), c.registry, func(tx groupRecords) error {
			g, err := tx.Group(name)
			switch {
			case errors.Is(err, registry.ErrNotFound):
				return nil // as AWS: there is none
			case err != nil:
				return err
			case dynamic && g.Query == "":
				return notDynamic(name)
			case !dynamic && g.Query != "":
				return isDynamic(name)
			}
			return tx.DeleteGroup(name, expected)
		})
		err = instead(err, registry.ErrInUse, "InvalidRequestException", 400)
		return nil, instead(err, registry.ErrConflict, "VersionConflictException", 409)
	}
}

func (c *controlPlane) listGroups(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := struct {
		Groups []groupName `json:"thingGroups"`
		Next   string      `json:"nextToken,omitempty"`
	}{Groups: []groupName{}}
	parent, prefix := r.Query.Get("parentGroup"), r.Query.Get("namePrefixFilter")
	recursive := r.Query.Get("recursive") != "false"
	err = ofGroups.View(c.registry, func(tx groupRecords) error {
		var names []string
		if parent != "" {
			if _, err := tx.Group(parent); err != nil {
				return err
			}
			var next string
			names, next = pageOf(below(tx, parent, recursive), after, n)
			out.Next = token(next)
		} else {
			all, next, err := tx.Groups(after, n)
			if err != nil {
				return err
			}
			for _, g := range all {
				if recursive || g.Parent == "" {
					names = append(names, g.Name)
				}
			}
			out.Next = token(next)
		}
		for _, name := range names {
			if strings.HasPrefix(name, prefix) {
				out.Groups = append(out.Groups, c.groupName(r, name))
			}
		}
		return nil
	})
	return out, err
}

// below are the groups below one, in order: the next ones, or all.
func below(tx groupRecords, group string, all bool) []string {
	names := tx.GroupsBelow(group)
	if all {
		for _, g := range slices.Clone(names) {
			names = append(names, below(tx, g, true)...)
		}
		slices.Sort(names)
	}
	return names
}

// pageOf cuts up to n names behind after out of all, which are in order. next
// is the after of the next page, "" at the end.
func pageOf(all []string, after string, n int) (page []string, next string) {
	i, found := slices.BinarySearch(all, after)
	if found {
		i++
	}
	if all = all[i:]; len(all) > n {
		return all[:n], all[n-1]
	}
	return all, ""
}

// A memberRequest names a thing by name or ARN.
type memberRequest struct {
	Thing    string `json:"thingName"`
	ThingARN string `json:"thingArn"`
}

// eitherName is a name that was given, or that of an ARN.
func eitherName(name, arn, kind string) (string, error) {
	switch {
	case name != "":
		return name, nil
	case arn == "":
		return "", fmt.Errorf("%w: want the name or ARN of a %s", registry.ErrInvalid, kind)
	}
	_, name, err := nameOf(arn, kind)
	return name, err
}

// linkGroup puts a thing into a group, or takes it out.
func (c *controlPlane) linkGroup(f func(tx groupRecords, thing, group string) error) run {
	return func(r *wire.Request) (any, error) {
		var in struct {
			memberRequest
			Group    string `json:"thingGroupName"`
			GroupARN string `json:"thingGroupArn"`
		}
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		thing, err := eitherName(in.Thing, in.ThingARN, "thing")
		if err != nil {
			return nil, err
		}
		group, err := eitherName(in.Group, in.GroupARN, "thinggroup")
		if err != nil {
			return nil, err
		}
		err = ofGroups.Update(r.Context(), c.registry, func(tx groupRecords) error { return f(tx, thing, group) })
		return nil, instead(err, registry.ErrLimit, "InvalidRequestException", 400)
	}
}

func (c *controlPlane) updateGroupsOfThing(r *wire.Request) (any, error) {
	var in struct {
		Thing  string   `json:"thingName"`
		Add    []string `json:"thingGroupsToAdd"`
		Remove []string `json:"thingGroupsToRemove"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	err := ofGroups.Update(r.Context(), c.registry, func(tx groupRecords) error {
		for _, g := range in.Remove {
			if err := tx.RemoveFromGroup(in.Thing, g); err != nil {
				return err
			}
		}
		for _, g := range in.Add {
			if err := tx.AddToGroup(in.Thing, g); err != nil {
				return err
			}
		}
		return nil
	})
	return nil, instead(err, registry.ErrLimit, "InvalidRequestException", 400)
}

func (c *controlPlane) listThingsInGroup(r *wire.Request) (any, error) {
	group := r.Path("thingGroupName")
	return members(c.registry, r, ofGroups, func(tx groupRecords, after string, n int) ([]string, string, error) {
		g, err := tx.Group(group)
		if err != nil {
			return nil, "", err
		}
		if g.Query != "" {
			if c.fleet != nil {
				if all, next, ok := c.fleet.Members(group, after, n); ok {
					return all, next, nil
				}
			}
			return nil, "", wire.Errorf(400, "IndexNotReadyException",
				"the fleet index that the group's query asks is being built")
		}
		lower := below(tx, group, true)
		if r.Query.Get("recursive") != "true" || len(lower) == 0 {
			all, next := tx.GroupThings(group, after, n)
			return all, next, nil
		}
		all := map[string]bool{}
		for _, g := range append(lower, group) {
			for at := ""; ; {
				var names []string
				names, at = tx.GroupThings(g, at, registry.MaxPage)
				for _, name := range names {
					all[name] = true
				}
				if at == "" {
					break
				}
			}
		}
		page, next := pageOf(slices.Sorted(maps.Keys(all)), after, n)
		return page, next, nil
	})
}

func (c *controlPlane) listGroupsOfThing(r *wire.Request) (any, error) {
	after, n, err := page(r)
	if err != nil {
		return nil, err
	}
	out := struct {
		Groups []groupName `json:"thingGroups"`
		Next   string      `json:"nextToken,omitempty"`
	}{Groups: []groupName{}}
	err = ofGroups.View(c.registry, func(tx groupRecords) error {
		th, err := tx.Thing(r.Path("thingName"))
		if err != nil {
			return err
		}
		names := th.Groups
		if c.fleet != nil {
			names = append(names, c.fleet.GroupsOf(th.Name)...)
			slices.Sort(names)
		}
		names, next := pageOf(names, after, n)
		for _, g := range names {
			out.Groups = append(out.Groups, c.groupName(r, g))
		}
		out.Next = token(next)
		return nil
	})
	return out, err
}
