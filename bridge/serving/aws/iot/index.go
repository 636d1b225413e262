package iot

import (
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
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
func queryOf(r *wire.Request) (in queryRequest, q *index.Query, err error) {
	in.Index = index.Things
	if err := decode(r, &in); err != nil {
		return in, nil, err
	}
	q, err = parseQuery(in.Query, in.Version)
	return in, q, err
}

func parseQuery(text, version string) (*index.Query, error) {
	if version != "" && version != queryVersion {
		return nil, fmt.Errorf("%w: queryVersion %.20q, want %s", registry.ErrInvalid, version, queryVersion)
	}
	return index.ParseQuery(text)
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

func (c *controlPlane) searchIndex(r *wire.Request) (any, error) {
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
	if in.Index == index.Groups {
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
		t := thing{Name: f.Name, ID: f.ID(), Type: f.Type, Groups: f.Groups, Attributes: f.Attributes,
			Shadow: string(f.Shadow)}
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
	err := ofSearches.View(c.registry, func(tx searchRecords) error {
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

func (c *controlPlane) getStatistics(r *wire.Request) (any, error) {
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

func (c *controlPlane) getCardinality(r *wire.Request) (any, error) {
	in, q, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	n, err := c.index.Cardinality(in.Index, q, in.Field)
	return map[string]int{"cardinality": n}, err
}

func (c *controlPlane) getPercentiles(r *wire.Request) (any, error) {
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

func (c *controlPlane) getBuckets(r *wire.Request) (any, error) {
	in, q, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	if in.Field == "" || in.Aggregate.Terms == nil {
		return nil, fmt.Errorf("%w: want aggregationField and bucketsAggregationType.termsAggregation",
			registry.ErrInvalid)
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

func (c *controlPlane) thingConnectivity(r *wire.Request) (any, error) {
	name := r.Path("thingName")
	x, err := c.indexing()
	if err != nil {
		return nil, err
	}
	if !x.Connectivity {
		return nil, fmt.Errorf("%w: connectivity is not indexed", index.ErrNoIndex)
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
