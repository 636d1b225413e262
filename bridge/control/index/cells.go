package index

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/shadow"
)

func isSpace(r rune) bool { return unicode.IsSpace(r) }

// canonical is the one name of a field that has several.
func canonical(field string) string {
	switch field {
	case "registry.thingTypeName":
		return fieldType
	case "registry.thingGroupNames":
		return fieldGroups
	}
	return field
}

// Fields of things; beside them are attributes.<name>, shadow.<...> and
// shadow.name.<name>.<...> as the documents are.
const (
	fieldName         = "thingName"
	fieldID           = "thingId"
	fieldType         = "thingTypeName"
	fieldGroups       = "thingGroupNames"
	fieldVersion      = "registry.version"
	fieldConnected    = "connectivity.connected"
	fieldSince        = "connectivity.timestamp"
	fieldReason       = "connectivity.disconnectReason"
	fieldConnections  = "connectivity.version"
	fieldGroupName    = "thingGroupName"
	fieldGroupID      = "thingGroupId"
	fieldDescription  = "description"
	fieldParents      = "parentGroupNames"
	fieldGroupVersion = "version"
)

// hidden says whether a query that names no field passes a field over:
// versions, which AWS has for aggregations alone.
func hidden(field string) bool {
	return field == fieldGroupVersion || field == fieldConnections || field == fieldVersion ||
		strings.HasPrefix(field, "shadow.") && strings.HasSuffix(field, ".version") && shadowVersion(field)
}

// shadowVersion tells shadow.version and shadow.name.<name>.version from a
// member of that name.
func shadowVersion(field string) bool {
	return field == "shadow.version" || strings.HasPrefix(field, "shadow.name.") && strings.Count(field, ".") == 3
}

// cells collects those of one document.
type cells []cell

// text adds a string, and if it has several words these too.
func (c *cells) text(field, s string) {
	if s == "" {
		return
	}
	*c = append(*c, cell{field: field, kind: text, text: s})
	if !strings.ContainsFunc(s, isSpace) {
		return
	}
	for w := range strings.FieldsSeq(strings.ToLower(s)) {
		*c = append(*c, cell{field: field, kind: part, text: strings.Clone(w)})
	}
}

func (c *cells) count(field string, n uint64) {
	*c = append(*c, cell{field: field, kind: number, text: numberText(float64(n))})
}

func (c *cells) bool(field string, b bool) {
	*c = append(*c, cell{field: field, kind: boolean, text: strconv.FormatBool(b)})
}

// scalar adds a string, number or boolean; null is not indexed.
func (c *cells) scalar(field string, v any) {
	switch v := v.(type) {
	case string:
		c.text(field, v)
	case bool:
		c.bool(field, v)
	case json.Number:
		if n, ok := numberOf(string(v)); ok {
			*c = append(*c, cell{field: field, kind: number, text: numberText(n)})
		} else {
			c.text(field, string(v))
		}
	case shadow.Stamp:
		*c = append(*c, cell{field: field, kind: moment, seconds: int64(v)})
	}
}

// state adds what is in v, which is a shadow's section or a part of one, and
// the times of that. An array that holds objects or arrays is not indexed
// (developer guide, "Shadow fields with complex types").
func (c *cells) state(field string, v any, timesField string, times any) {
	switch v := v.(type) {
	case map[string]any:
		t, _ := times.(map[string]any)
		for name, e := range v {
			c.state(field+"."+name, e, timesField+"."+name, t[name])
		}
		return
	case []any:
		for _, e := range v {
			switch e.(type) {
			case []any, map[string]any:
				return
			}
		}
		t, _ := times.([]any)
		for i, e := range v {
			c.scalar(field, e)
			if i < len(t) {
				c.scalar(timesField+".timestamp", t[i])
			}
		}
		return
	case nil:
		return
	}
	c.scalar(field, v)
	if s, ok := times.(shadow.Stamp); ok {
		c.scalar(timesField+".timestamp", s)
	}
}

// shadow adds a shadow that is alive under a prefix.
func (c *cells) shadow(prefix string, d *shadow.Document) {
	if d.Reported != nil {
		c.state(prefix+".reported", d.Reported, prefix+".metadata.reported", d.ReportedTimes)
	}
	if d.Desired != nil {
		c.state(prefix+".desired", d.Desired, prefix+".metadata.desired", d.DesiredTimes)
	}
	delta, _ := d.Delta()
	if delta != nil {
		c.state(prefix+".delta", delta, "", nil)
	}
	c.bool(prefix+".hasDelta", delta != nil)
	c.count(prefix+".version", d.Version)
}

// Bounds of what is indexed of one thing's shadows.
const (
	maxCells     = 1000
	maxFieldName = 256 // bytes
)

// limit cuts what is behind the first own cells down to what is indexed, times
// first: the same, however often it is done.
func (c *cells) limit(own int) {
	*c = append((*c)[:own], slices.DeleteFunc((*c)[own:], func(x cell) bool { return len(x.field) > maxFieldName })...)
	if len(*c)-own <= maxCells {
		return
	}
	slices.SortFunc((*c)[own:], func(a, b cell) int {
		if (a.kind == moment) != (b.kind == moment) {
			return cmp.Compare(a.kind, b.kind) // the last kind
		}
		return cmp.Or(strings.Compare(a.field, b.field), cmp.Compare(a.kind, b.kind), strings.Compare(a.text, b.text),
			cmp.Compare(a.seconds, b.seconds))
	})
	*c = (*c)[:own+maxCells]
}

// thing adds what the registry has of a thing.
func (c *cells) thing(th *registry.Thing) {
	c.text(fieldName, th.Name)
	c.text(fieldID, th.ID())
	c.text(fieldType, th.Type)
	for _, g := range th.Groups {
		c.text(fieldGroups, g)
	}
	c.text(fieldGroups, th.BillingGroup)
	for name, v := range th.Attributes {
		c.text("attributes."+name, v)
	}
	c.count(fieldVersion, th.Version)
}

// presence adds whether a thing is connected.
func (c *cells) presence(p *Presence) {
	c.bool(fieldConnected, p.Connected)
	if !p.Time.IsZero() {
		c.count(fieldSince, uint64(max(p.Time.UnixMilli(), 0)))
		c.count(fieldConnections, p.Version)
	}
	c.text(fieldReason, p.Reason)
}

// group adds a thing group; above are all that it is below.
func (c *cells) group(g *registry.Group, above []string) {
	c.text(fieldGroupName, g.Name)
	c.text(fieldGroupID, g.ID())
	c.text(fieldDescription, g.Description)
	for _, up := range above {
		c.text(fieldParents, up)
	}
	for name, v := range g.Attributes {
		c.text("attributes."+name, v)
	}
	c.count(fieldGroupVersion, g.Version)
}

func jsonNumber(n uint64) json.Number { return json.Number(strconv.FormatUint(n, 10)) }
