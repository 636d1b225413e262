package iot

import (
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// An indexing is the configuration as AWS writes it.
type indexing struct {
	Things *thingIndexing `json:"thingIndexingConfiguration,omitempty"`
	Groups *groupIndexing `json:"thingGroupIndexingConfiguration,omitempty"`
}

type thingIndexing struct {
	Mode         string          `json:"thingIndexingMode"`
	Connectivity string          `json:"thingConnectivityIndexingMode,omitempty"`
	Defender     string          `json:"deviceDefenderIndexingMode,omitempty"`
	Named        string          `json:"namedShadowIndexingMode,omitempty"`
	Managed      []field         `json:"managedFields,omitempty"`
	Custom       []field         `json:"customFields,omitempty"`
	Filter       *indexingFilter `json:"filter,omitempty"`
}

type groupIndexing struct {
	Mode    string  `json:"thingGroupIndexingMode"`
	Managed []field `json:"managedFields,omitempty"`
	Custom  []field `json:"customFields,omitempty"`
}

type indexingFilter struct {
	Shadows []string         `json:"namedShadowNames,omitempty"`
	Places  []map[string]any `json:"geoLocations,omitempty"`
}

type field struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// mode reads one of the modes, of which the first is the default.
func mode(name, text string, modes ...string) (int, error) {
	if text == "" {
		return 0, nil
	}
	if i := slices.Index(modes, text); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("%w: %s: %.40q, want one of %v", registry.ErrInvalid, name, text, modes)
}

// change makes of x what an update asks for; what it doesn't name stays.
func (in *indexing) change(x *registry.Indexing) error {
	if t := in.Things; t != nil {
		things, err := mode("thingIndexingMode", t.Mode, "OFF", "REGISTRY", "REGISTRY_AND_SHADOW")
		if err != nil {
			return err
		}
		connectivity, err := mode("thingConnectivityIndexingMode", t.Connectivity, "OFF", "STATUS")
		if err != nil {
			return err
		}
		named, err := mode("namedShadowIndexingMode", t.Named, "OFF", "ON")
		if err != nil {
			return err
		}
		if _, err := mode("deviceDefenderIndexingMode", t.Defender, "OFF"); err != nil {
			return err
		}
		x.Things, x.Shadows, x.Connectivity, x.Named = things > 0, things > 1, connectivity > 0, named > 0
		if x.Fields, x.NamedShadows = nil, nil; t.Filter != nil {
			if x.NamedShadows = t.Filter.Shadows; len(t.Filter.Places) > 0 {
				return fmt.Errorf("%w: filter.geoLocations: queries by place are not known here", registry.ErrInvalid)
			}
		}
		for _, f := range t.Custom {
			x.Fields = append(x.Fields, registry.Field(f))
		}
	}
	if g := in.Groups; g != nil {
		groups, err := mode("thingGroupIndexingMode", g.Mode, "OFF", "ON")
		if err != nil {
			return err
		}
		x.Groups, x.GroupFields = groups > 0, nil
		for _, f := range g.Custom {
			x.GroupFields = append(x.GroupFields, registry.Field(f))
		}
	}
	return nil
}

func (c *controlPlane) updateIndexing(r *wire.Request) (any, error) {
	var in indexing
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	err := ofIndexing.Update(r.Context(), c.registry, func(tx indexingRecords) error {
		x, err := tx.Indexing()
		if err != nil {
			return err
		}
		if err := in.change(&x); err != nil {
			return err
		}
		return tx.SetIndexing(x)
	})
	return struct{}{}, instead(err, registry.ErrInUse, "InvalidRequestException", 400)
}

func (c *controlPlane) indexing() (x registry.Indexing, err error) {
	err = ofIndexing.View(c.registry, func(tx indexingRecords) (err error) {
		x, err = tx.Indexing()
		return err
	})
	return x, err
}

func (c *controlPlane) getIndexing(*wire.Request) (any, error) {
	x, err := c.indexing()
	if err != nil {
		return nil, err
	}
	choose := func(on bool, yes string) string {
		if on {
			return yes
		}
		return "OFF"
	}
	fields := func(all []registry.Field) (out []field) {
		for _, f := range all {
			out = append(out, field(f))
		}
		return out
	}
	out := indexing{&thingIndexing{Mode: choose(x.Things, "REGISTRY"),
		Connectivity: choose(x.Connectivity, "STATUS"), Named: choose(x.Named, "ON"),
		Defender: "OFF", Managed: fields(index.ManagedFields(index.Things, &x)), Custom: fields(x.Fields)},
		&groupIndexing{choose(x.Groups, "ON"), fields(index.ManagedFields(index.Groups, &x)), fields(x.GroupFields)}}
	if x.Shadows {
		out.Things.Mode = "REGISTRY_AND_SHADOW"
	}
	if len(x.NamedShadows) > 0 {
		out.Things.Filter = &indexingFilter{Shadows: x.NamedShadows}
	}
	return out, nil
}

func (c *controlPlane) listIndices(*wire.Request) (any, error) {
	names := []string{}
	for _, name := range []string{index.Groups, index.Things} {
		if c.index.Status(name) != index.Off {
			names = append(names, name)
		}
	}
	return map[string]any{"indexNames": names}, nil
}

func (c *controlPlane) describeIndex(r *wire.Request) (any, error) {
	name := r.Path("indexName")
	status := c.index.Status(name)
	if status == index.Off {
		return nil, fmt.Errorf("%w: %.100q", index.ErrNoIndex, name)
	}
	x, err := c.indexing()
	if err != nil {
		return nil, err
	}
	schema := "REGISTRY"
	switch {
	case name == index.Groups:
		schema = "THING_GROUPS"
	case x.Named:
		schema = "MULTI_INDEXING_MODE"
	default:
		if x.Shadows {
			schema += "_AND_SHADOW"
		}
		if x.Connectivity {
			schema += "_AND_CONNECTIVITY_STATUS"
		}
	}
	return map[string]any{"indexName": name, "indexStatus": status, "schema": schema}, nil
}
