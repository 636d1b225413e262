package aws

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"

	"github.com/tidemill/tidemill/bridge/control/fleet"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// Fleet indexing's one dialect.
const queryVersion = "2017-09-30"

// Limits of AWS IoT (API reference: SearchIndex, GetPercentiles,
// GetBucketsAggregation), but for maxFound, which is 100 there.
const (
	maxFound    = 500
	maxPercents = 100
	maxBuckets  = 10_000
)

// fleetIndex are the operations of the fleet index, and of the dynamic groups
// that are queries of it.
func (c *controlPlane) fleetIndex() []operation {
	if c.index == nil {
		return nil
	}
	return []operation{
		{"UpdateIndexingConfiguration", "POST", "/indexing/config", c.updateIndexing},
		{"GetIndexingConfiguration", "GET", "/indexing/config", c.getIndexing},
		{"SearchIndex", "POST", "/indices/search", c.searchIndex},
		{"GetStatistics", "POST", "/indices/statistics", c.getStatistics},
		{"GetCardinality", "POST", "/indices/cardinality", c.getCardinality},
		{"GetPercentiles", "POST", "/indices/percentiles", c.getPercentiles},
		{"GetBucketsAggregation", "POST", "/indices/buckets", c.getBuckets},
		{"ListIndices", "GET", "/indices", c.listIndices},
		{"DescribeIndex", "GET", "/indices/:indexName", c.describeIndex},
		{"GetThingConnectivityData", "POST", "/things/:thingName/connectivity-data", c.thingConnectivity},
		{"CreateDynamicThingGroup", "POST", "/dynamic-thing-groups/:thingGroupName", c.createDynamicGroup},
		{"UpdateDynamicThingGroup", "PATCH", "/dynamic-thing-groups/:thingGroupName", c.updateDynamicGroup},
		{"DeleteDynamicThingGroup", "DELETE", "/dynamic-thing-groups/:thingGroupName", c.deleteGroup(true)},
	}
}

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

func (c *controlPlane) updateIndexing(r *request) (any, error) {
	var in indexing
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	err := c.registry.Update(func(tx *registry.Tx) error {
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
	err = c.registry.View(func(tx *registry.Tx) (err error) {
		x, err = tx.Indexing()
		return err
	})
	return x, err
}

func (c *controlPlane) getIndexing(*request) (any, error) {
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
	out := indexing{&thingIndexing{Mode: choose(x.Things, "REGISTRY"), Connectivity: choose(x.Connectivity, "STATUS"), Named: choose(x.Named, "ON"),
		Defender: "OFF", Managed: fields(fleet.ManagedFields(fleet.Things, &x)), Custom: fields(x.Fields)},
		&groupIndexing{choose(x.Groups, "ON"), fields(fleet.ManagedFields(fleet.Groups, &x)), fields(x.GroupFields)}}
	if x.Shadows {
		out.Things.Mode = "REGISTRY_AND_SHADOW"
	}
	if len(x.NamedShadows) > 0 {
		out.Things.Filter = &indexingFilter{Shadows: x.NamedShadows}
	}
	return out, nil
}

func (c *controlPlane) listIndices(*request) (any, error) {
	names := []string{}
	for _, name := range []string{fleet.Groups, fleet.Things} {
		if c.index.Status(name) != fleet.Off {
			names = append(names, name)
		}
	}
	return map[string]any{"indexNames": names}, nil
}

func (c *controlPlane) describeIndex(r *request) (any, error) {
	name := r.path["indexName"]
	status := c.index.Status(name)
	if status == fleet.Off {
		return nil, fmt.Errorf("%w: %.100q", fleet.ErrNoIndex, name)
	}
	x, err := c.indexing()
	if err != nil {
		return nil, err
	}
	schema := "REGISTRY"
	switch {
	case name == fleet.Groups:
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

// A queryRequest is that of SearchIndex and of the aggregations.
type queryRequest struct {
	Index     string    `json:"indexName"`
	Query     string    `json:"queryString"`
	Version   string    `json:"queryVersion"`
	Next      string    `json:"nextToken"`
	Max       *int      `json:"maxResults"`
	Field     string    `json:"aggregationField"`
	Percents  []float64 `json:"percents"`
	Aggregate struct {
		Terms *struct {
			Max *int `json:"maxBuckets"`
		} `json:"termsAggregation"`
	} `json:"bucketsAggregationType"`
}

// queryOf reads the request of one, with AWS's defaults.
func queryOf(r *request) (in queryRequest, q *fleet.Query, err error) {
	in.Index = fleet.Things
	if err := decode(r, &in); err != nil {
		return in, nil, err
	}
	q, err = parseQuery(in.Query, in.Version)
	return in, q, err
}

func parseQuery(text, version string) (*fleet.Query, error) {
	if version != "" && version != queryVersion {
		return nil, fmt.Errorf("%w: queryVersion %.20q, want %s", registry.ErrInvalid, version, queryVersion)
	}
	return fleet.ParseQuery(text)
}

// bounded is a number of a request, or its default.
func bounded(name string, n *int, standard, most int) (int, error) {
	switch {
	case n == nil:
		return standard, nil
	case *n < 1 || *n > most:
		return 0, fmt.Errorf("%w: %s: %d, want 1 to %d", registry.ErrInvalid, name, *n, most)
	}
	return *n, nil
}

type connectivity struct {
	Connected bool   `json:"connected"`
	Timestamp int64  `json:"timestamp,omitempty"` // ms since 1970
	Reason    string `json:"disconnectReason,omitempty"`
}

func (c *controlPlane) searchIndex(r *request) (any, error) {
	in, q, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	n, err := bounded("maxResults", in.Max, min(100, maxFound), maxFound)
	if err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(in.Next)
	if err != nil {
		return nil, fmt.Errorf("%w: nextToken: not one that a search ended with", registry.ErrInvalid)
	}
	names, next, err := c.index.Search(in.Index, q, string(after), n)
	if err != nil {
		return nil, err
	}
	if in.Index == fleet.Groups {
		return c.foundGroups(names, next)
	}
	found, err := c.index.Things(names)
	if err != nil {
		return nil, err
	}
	type thing struct {
		Name         string            `json:"thingName"`
		ID           string            `json:"thingId"`
		Type         string            `json:"thingTypeName,omitempty"`
		Groups       []string          `json:"thingGroupNames,omitempty"`
		Attributes   map[string]string `json:"attributes,omitempty"`
		Shadow       string            `json:"shadow,omitempty"`
		Connectivity *connectivity     `json:"connectivity,omitempty"`
	}
	out := struct {
		Things []thing `json:"things"`
		Next   string  `json:"nextToken,omitempty"`
	}{[]thing{}, token(next)}
	for i := range found {
		f := &found[i]
		t := thing{Name: f.Name, ID: f.ID(), Type: f.Type, Groups: f.Groups, Attributes: f.Attributes, Shadow: string(f.Shadow)}
		if f.BillingGroup != "" {
			t.Groups = append(t.Groups, f.BillingGroup)
		}
		if p := f.Presence; p != nil {
			t.Connectivity = &connectivity{Connected: p.Connected, Reason: p.Reason}
			if !p.Time.IsZero() {
				t.Connectivity.Timestamp = p.Time.UnixMilli()
			}
		}
		out.Things = append(out.Things, t)
	}
	return out, nil
}

func (c *controlPlane) foundGroups(names []string, next string) (any, error) {
	type group struct {
		Name        string            `json:"thingGroupName"`
		ID          string            `json:"thingGroupId"`
		Description string            `json:"thingGroupDescription,omitempty"`
		Attributes  map[string]string `json:"attributes,omitempty"`
		Parents     []string          `json:"parentGroupNames,omitempty"`
	}
	out := struct {
		Groups []group `json:"thingGroups"`
		Next   string  `json:"nextToken,omitempty"`
	}{[]group{}, token(next)}
	err := c.registry.View(func(tx *registry.Tx) error {
		for _, name := range names {
			g, err := tx.Group(name)
			if err != nil {
				continue // it is gone meanwhile
			}
			found := group{name, g.ID(), g.Description, g.Attributes, nil}
			for up := g.Parent; up != ""; up = g.Parent {
				found.Parents = append(found.Parents, up)
				if g, err = tx.Group(up); err != nil {
					return err
				}
			}
			out.Groups = append(out.Groups, found)
		}
		return nil
	})
	return out, err
}

func (c *controlPlane) getStatistics(r *request) (any, error) {
	in, q, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	s, err := c.index.Statistics(in.Index, q, in.Field)
	if err != nil {
		return nil, err
	}
	return map[string]any{"statistics": struct {
		Count        int      `json:"count"`
		Average      *float64 `json:"average,omitempty"`
		Sum          *float64 `json:"sum,omitempty"`
		Minimum      *float64 `json:"minimum,omitempty"`
		Maximum      *float64 `json:"maximum,omitempty"`
		SumOfSquares *float64 `json:"sumOfSquares,omitempty"`
		Variance     *float64 `json:"variance,omitempty"`
		StdDeviation *float64 `json:"stdDeviation,omitempty"`
	}(s)}, nil
}

func (c *controlPlane) getCardinality(r *request) (any, error) {
	in, q, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	n, err := c.index.Cardinality(in.Index, q, in.Field)
	return map[string]int{"cardinality": n}, err
}

func (c *controlPlane) getPercentiles(r *request) (any, error) {
	in, q, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	if len(in.Percents) == 0 {
		in.Percents = []float64{1, 5, 25, 50, 75, 95, 99}
	}
	if len(in.Percents) > maxPercents {
		return nil, fmt.Errorf("%w: %d percents, want at most %d", registry.ErrInvalid, len(in.Percents), maxPercents)
	}
	slices.Sort(in.Percents)
	for _, p := range in.Percents {
		if p < 0 || p > 100 {
			return nil, fmt.Errorf("%w: percent %g, want 0 to 100", registry.ErrInvalid, p)
		}
	}
	values, err := c.index.Percentiles(in.Index, q, in.Field, in.Percents)
	if err != nil {
		return nil, err
	}
	type percentile struct {
		Percent float64 `json:"percent"`
		Value   float64 `json:"value"`
	}
	out := []percentile{}
	for i, v := range values {
		out = append(out, percentile{in.Percents[i], v})
	}
	return map[string]any{"percentiles": out}, nil
}

func (c *controlPlane) getBuckets(r *request) (any, error) {
	in, q, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	if in.Field == "" || in.Aggregate.Terms == nil {
		return nil, fmt.Errorf("%w: want aggregationField and bucketsAggregationType.termsAggregation", registry.ErrInvalid)
	}
	n, err := bounded("maxBuckets", in.Aggregate.Terms.Max, 10, maxBuckets)
	if err != nil {
		return nil, err
	}
	all, total, err := c.index.Buckets(in.Index, q, in.Field, n)
	if err != nil {
		return nil, err
	}
	type bucket struct {
		Key   string `json:"keyValue"`
		Count int    `json:"count"`
	}
	out := []bucket{}
	for _, b := range all {
		out = append(out, bucket{b.Value, b.Count})
	}
	return map[string]any{"totalCount": total, "buckets": out}, nil
}

func (c *controlPlane) thingConnectivity(r *request) (any, error) {
	name := r.path["thingName"]
	x, err := c.indexing()
	if err != nil {
		return nil, err
	}
	if !x.Connectivity {
		return nil, fmt.Errorf("%w: connectivity is not indexed", fleet.ErrNoIndex)
	}
	found, err := c.index.Things([]string{name})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 || found[0].Presence == nil {
		return nil, fmt.Errorf("%w: thing %.128q", registry.ErrNotFound, name)
	}
	p := found[0].Presence
	out := struct {
		Name      string   `json:"thingName"`
		Connected bool     `json:"connected"`
		Timestamp *float64 `json:"timestamp,omitempty"` // s since 1970
		Reason    string   `json:"disconnectReason,omitempty"`
	}{Name: name, Connected: p.Connected, Reason: p.Reason}
	if !p.Time.IsZero() {
		at := seconds(p.Time)
		out.Timestamp = &at
	}
	return out, nil
}

// dynamicRequest reads the request of a dynamic group. text is its query, ""
// where there is none.
func (c *controlPlane) dynamicRequest(r *request) (in groupRequest, text string, err error) {
	q := queryRequest{Index: fleet.Things}
	if err := decode(r, &in); err != nil {
		return in, "", err
	}
	if err := decode(r, &q); err != nil {
		return in, "", err
	}
	if q.Index != fleet.Things {
		return in, "", fmt.Errorf("%w: indexName %.100q, want %s", registry.ErrInvalid, q.Index, fleet.Things)
	}
	if q.Query != "" {
		_, err = parseQuery(q.Query, q.Version)
	}
	return in, q.Query, err
}

func (c *controlPlane) createDynamicGroup(r *request) (any, error) {
	in, text, err := c.dynamicRequest(r)
	if err != nil {
		return nil, err
	}
	if text == "" {
		return nil, fmt.Errorf("%w: no queryString", registry.ErrInvalid)
	}
	if c.index.Status(fleet.Things) == fleet.Off {
		return nil, fmt.Errorf("%w: things are not indexed; see UpdateIndexingConfiguration", registry.ErrInvalid)
	}
	if c.index.Stats().DynamicGroups >= fleet.MaxDynamicGroups {
		return nil, &Error{Code: "LimitExceededException", Status: http.StatusGone, // as AWS has it
			Message: fmt.Sprintf("there are %d dynamic thing groups already", fleet.MaxDynamicGroups)}
	}
	g, err := c.makeGroup(r, &in, registry.Group{Query: text})
	if err != nil {
		return nil, err
	}
	return struct {
		groupAnswer
		Index   string `json:"indexName"`
		Query   string `json:"queryString"`
		Version string `json:"queryVersion"`
	}{c.groupAnswer(r, &g), fleet.Things, g.Query, queryVersion}, nil
}

func (c *controlPlane) updateDynamicGroup(r *request) (any, error) {
	in, text, err := c.dynamicRequest(r)
	if err != nil {
		return nil, err
	}
	return c.changeGroup(r, &in, func(g *registry.Group) error {
		if g.Query == "" {
			return &Error{Code: "InvalidRequestException", Status: 400, Message: "thing group " + g.Name + " is not dynamic"}
		}
		if text != "" {
			g.Query = text
		}
		return nil
	})
}
