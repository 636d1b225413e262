package index

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// The types of fields.
const (
	typeString  = "String"
	typeNumber  = "Number"
	typeBoolean = "Boolean"
)

// managedThings are the fields of things that AWS knows the types of, and what
// they are there for.
var managedThings = []struct {
	registry.Field
	of func(*registry.Indexing) bool
}{
	{registry.Field{Name: fieldID, Type: typeString}, ofRegistry},
	{registry.Field{Name: fieldName, Type: typeString}, ofRegistry},
	{registry.Field{Name: fieldVersion, Type: typeNumber}, ofRegistry},
	{registry.Field{Name: "registry.thingTypeName", Type: typeString}, ofRegistry},
	{registry.Field{Name: "registry.thingGroupNames", Type: typeString}, ofRegistry},
	{registry.Field{Name: "shadow.version", Type: typeNumber}, ofShadows},
	{registry.Field{Name: "shadow.hasDelta", Type: typeBoolean}, ofShadows},
	{registry.Field{Name: "shadow.name.*.version", Type: typeNumber}, ofNamed},
	{registry.Field{Name: "shadow.name.*.hasDelta", Type: typeBoolean}, ofNamed},
	{registry.Field{Name: fieldSince, Type: typeNumber}, ofConnectivity},
	{registry.Field{Name: fieldConnections, Type: typeNumber}, ofConnectivity},
	{registry.Field{Name: fieldConnected, Type: typeBoolean}, ofConnectivity},
	{registry.Field{Name: fieldReason, Type: typeString}, ofConnectivity},
}

func ofRegistry(c *registry.Indexing) bool     { return c.Things }
func ofShadows(c *registry.Indexing) bool      { return c.Shadows }
func ofNamed(c *registry.Indexing) bool        { return c.Named }
func ofConnectivity(c *registry.Indexing) bool { return c.Connectivity }

var managedGroups = []registry.Field{
	{Name: fieldDescription, Type: typeString}, {Name: fieldParents, Type: typeString},
	{Name: fieldGroupID, Type: typeString}, {Name: fieldGroupName, Type: typeString},
	{Name: fieldGroupVersion, Type: typeNumber},
}

// ManagedFields are those of an index that have their type by themselves.
func ManagedFields(index string, c *registry.Indexing) (fields []registry.Field) {
	if index == Groups {
		if !c.Groups {
			return nil
		}
		return slices.Clone(managedGroups)
	}
	for _, m := range managedThings {
		if m.of(c) {
			fields = append(fields, m.Field)
		}
	}
	return fields
}

// typeOf is the type a field is said to have, "" for none.
func (x *Index) typeOf(index, name string) string {
	fields := x.config.Fields
	if index == Groups {
		fields = x.config.GroupFields
	}
	for _, f := range append(ManagedFields(index, &x.config), fields...) {
		if canonical(f.Name) == name {
			return f.Type
		}
	}
	return ""
}

// A value is one of a field, with how many things have it.
type value struct {
	text string
	num  float64
	n    int
}

// aggregate finds what q does and returns the values of a field there, as the
// type that the field has, or else what fits: numbers if there are any,
// booleans if there is nothing else. AWS aggregates custom and managed fields
// only; here each may be.
func (x *Index) aggregate(index string, q *Query, name string) (all []value, typ string, total, having int, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	c, err := x.corpus(index)
	if err != nil {
		return nil, "", 0, 0, err
	}
	if name == "" {
		if name = fieldVersion; index == Groups {
			name = fieldGroupVersion
		}
	}
	found := c.search(q)
	total = found.len()
	counts := c.values(name, found)
	if typ = x.typeOf(index, canonical(name)); typ == "" {
		typ = typeOfAll(counts)
	}
	have := c.none()
	for _, t := range counts {
		v := value{t.text, t.num, t.n}
		switch typ {
		case typeNumber:
			if !t.numeric() {
				continue
			}
		case typeBoolean:
			if v.num = 0; t.lower == "true" {
				v.num = 1
			} else if t.lower != "false" {
				continue
			}
		}
		t.docs.into(have)
		all = append(all, v)
	}
	have.and(found)
	return all, typ, total, have.len(), nil
}

func typeOfAll(counts []termCount) string {
	booleans := len(counts) > 0
	for _, t := range counts {
		if t.numeric() {
			return typeNumber
		}
		booleans = booleans && t.kind == boolean
	}
	if booleans {
		return typeBoolean
	}
	return typeString
}

// Statistics are those of GetStatistics. Those of numbers are nil for text,
// and where a sum is beyond a float64.
type Statistics struct {
	Count                                                                int // of things that have a value
	Average, Sum, Minimum, Maximum, SumOfSquares, Variance, StdDeviation *float64
}

// Statistics are those of a field, "" for AWS's default, of what q finds.
// Booleans count as 0 and 1.
func (x *Index) Statistics(index string, q *Query, field string) (s Statistics, err error) {
	all, typ, _, having, err := x.aggregate(index, q, field)
	if s.Count = having; err != nil || typ == typeString || len(all) == 0 {
		return s, err
	}
	low, high := math.Inf(1), math.Inf(-1)
	var n, sum, squares float64
	for _, v := range all {
		n += float64(v.n)
		sum += v.num * float64(v.n)
		squares += v.num * v.num * float64(v.n)
		low, high = min(low, v.num), max(high, v.num)
	}
	average := sum / n
	var variance float64 // of the differences: squares would lose digits
	for _, v := range all {
		variance += (v.num - average) * (v.num - average) * float64(v.n) / n
	}
	if math.IsInf(sum, 0) || math.IsInf(squares, 0) || math.IsInf(variance, 0) {
		return s, nil
	}
	deviation := math.Sqrt(variance)
	s.Average, s.Sum, s.Minimum, s.Maximum, s.SumOfSquares, s.Variance, s.StdDeviation = &average, &sum, &low, &high,
		&squares, &variance, &deviation
	return s, nil
}

// Cardinality is how many different values a field has in what q finds. AWS's
// is approximate.
func (x *Index) Cardinality(index string, q *Query, field string) (n int, err error) {
	all, _, _, _, err := x.aggregate(index, q, field)
	return len(all), err
}

// Percentiles returns the value below which so many percent of a field's values
// are, in what q finds, for each of percents; none where there are no values. A
// field that is not of numbers is ErrAggregation. Values are interpolated from
// the middle of their ranks (Hazen), which is what AWS's examples show.
func (x *Index) Percentiles(index string, q *Query, field string, percents []float64) ([]float64, error) {
	all, typ, _, _, err := x.aggregate(index, q, field)
	switch {
	case err != nil || len(all) == 0:
		return nil, err
	case typ != typeNumber:
		return nil, fmt.Errorf("%w: percentiles of %.100q, which is no number", ErrAggregation, field)
	}
	slices.SortFunc(all, func(a, b value) int { return cmp.Compare(a.num, b.num) })
	var ends []int // how many values there are up to and with each
	n := 0
	for _, v := range all {
		n += v.n
		ends = append(ends, n)
	}
	at := func(rank int) float64 { // of the values in order, each as often as it is there
		rank = max(0, min(rank, n-1))
		i, _ := slices.BinarySearch(ends, rank+1)
		return all[i].num
	}
	var out []float64
	for _, p := range percents {
		position := p/100*float64(n) - 0.5
		low := math.Floor(position)
		a, b := at(int(low)), at(int(low)+1)
		out = append(out, a+(b-a)*(position-low))
	}
	return out, nil
}

// A Bucket is a value and how many things have it.
type Bucket struct {
	Value string
	Count int
}

// Buckets returns the most frequent values of a field in what q finds, at most
// n of them, and how many things that is in all.
func (x *Index) Buckets(index string, q *Query, field string, n int) (buckets []Bucket, total int, err error) {
	all, _, total, _, err := x.aggregate(index, q, field)
	if err != nil {
		return nil, 0, err
	}
	slices.SortFunc(all, func(a, b value) int {
		return cmp.Or(cmp.Compare(b.n, a.n), strings.Compare(a.text, b.text))
	})
	for _, v := range all[:min(n, len(all))] {
		buckets = append(buckets, Bucket{v.text, v.n})
	}
	return buckets, total, nil
}
