package iot

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// A tag of a resource.
type tag struct {
	Key   string `json:"Key"`
	Value string `json:"Value"`
}

func tagMap(tags []tag) map[string]string {
	all := map[string]string{}
	for _, t := range tags {
		all[t.Key] = t.Value
	}
	return all
}

func (c *controlPlane) tags() []operation {
	return []operation{
		{"TagResource", "POST", "/tags", c.tagResource},
		{"UntagResource", "POST", "/untag", c.untagResource},
		{"ListTagsForResource", "GET", "/tags", c.listTags},
	}
}

// taggedKinds are the resources that may have tags, as ARNs name them.
var taggedKinds = []string{"thinggroup", "thingtype", "billinggroup", "policy", "rule", "cacert",
	"provisioningtemplate", "authorizer", "rolealias"}

// resourceOf is the last part of the ARN of what may have tags.
func resourceOf(text string) (string, error) {
	if !arn.Is(text) {
		return "", fmt.Errorf("%w: resourceArn: %.200q is no ARN", registry.ErrInvalid, text)
	}
	kind, name, err := nameOf(text, taggedKinds...)
	return kind + "/" + name, err
}

func (c *controlPlane) tagResource(r *wire.Request) (any, error) {
	var in struct {
		ARN  string `json:"resourceArn"`
		Tags []tag  `json:"tags"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	resource, err := resourceOf(in.ARN)
	if err != nil {
		return nil, err
	}
	err = ofTags.Update(r.Context(), c.registry, func(tx tagRecords) error { return tx.Tag(resource, tagMap(in.Tags)) })
	return nil, instead(err, registry.ErrLimit, "LimitExceededException", 410)
}

func (c *controlPlane) untagResource(r *wire.Request) (any, error) {
	var in struct {
		ARN  string   `json:"resourceArn"`
		Keys []string `json:"tagKeys"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	resource, err := resourceOf(in.ARN)
	if err != nil {
		return nil, err
	}
	return nil, ofTags.Update(r.Context(), c.registry, func(tx tagRecords) error { return tx.Untag(resource, in.Keys) })
}

func (c *controlPlane) listTags(r *wire.Request) (any, error) {
	resource, err := resourceOf(r.Query.Get("resourceArn"))
	if err != nil {
		return nil, err
	}
	out := map[string][]tag{"tags": {}}
	err = ofTags.View(c.registry, func(tx tagRecords) error {
		all, err := tx.Tags(resource)
		for _, k := range slices.Sorted(maps.Keys(all)) {
			out["tags"] = append(out["tags"], tag{k, all[k]})
		}
		return err
	})
	return out, err
}

func (c *controlPlane) events() []operation {
	return []operation{
		{"DescribeEventConfigurations", "GET", "/event-configurations", c.describeEvents},
		{"UpdateEventConfigurations", "PATCH", "/event-configurations", c.updateEvents},
	}
}

type eventSwitch struct {
	Enabled bool `json:"Enabled"`
}

func (c *controlPlane) describeEvents(*wire.Request) (any, error) {
	out := struct {
		Configurations map[registry.EventType]eventSwitch `json:"eventConfigurations"`
		Created        float64                            `json:"creationDate,omitempty"`
		Modified       float64                            `json:"lastModifiedDate,omitempty"`
	}{Configurations: map[registry.EventType]eventSwitch{}}
	err := ofTags.View(c.registry, func(tx tagRecords) error {
		config, err := tx.EventConfig()
		for e, on := range config.Enabled {
			out.Configurations[e] = eventSwitch{on}
		}
		if !config.Created.IsZero() {
			out.Created, out.Modified = seconds(config.Created), seconds(config.Modified)
		}
		return err
	})
	return out, err
}

func (c *controlPlane) updateEvents(r *wire.Request) (any, error) {
	var in struct {
		Configurations map[registry.EventType]eventSwitch `json:"eventConfigurations"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	set := map[registry.EventType]bool{}
	for e, s := range in.Configurations {
		set[e] = s.Enabled
	}
	return nil, ofTags.Update(r.Context(), c.registry, func(tx tagRecords) error { return tx.SetEventConfig(set) })
}
