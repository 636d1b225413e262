package action

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink/warehouse"
)

// maxRow is the largest document of a row, and maxMeasures how many members one of
// the timestream action has (Timestream quotas: records of a request).
const (
	maxRow      = 1 << 20
	maxMeasures = 100
)

// toRow is the postgres action, which is ours: the document becomes a row of a table.
var toRow = sentKind{
	name: "postgres",
	members: []member{
		{name: "tableName", required: true},
		{name: "idColumn", form: text, most: 63}, // a unique column: a row goes in once
	},
	resource: "tableName",
	check: func(p *parser) {
		if c := p.raw("idColumn"); c != "" {
			if err := warehouse.CheckName(c); err != nil {
				p.bad("idColumn: %w", err)
			}
		}
	},
	judge: func(d *Delivery) error { return d.judge("tableName", warehouse.CheckTable) },
	stage: func(d *Delivery) error { return d.object(maxRow) },
}

// timeUnits are those of the timestream action.
var timeUnits = map[string]time.Duration{"SECONDS": time.Second, "MILLISECONDS": time.Millisecond,
	"MICROSECONDS": time.Microsecond, "NANOSECONDS": time.Nanosecond}

// toMeasures is the timestream action: each member of the document becomes a record.
var toMeasures = sentKind{
	name: "timestream",
	members: []member{
		{name: "databaseName", required: true},
		{name: "tableName", required: true},
		{name: "dimensions", form: pairs, required: true, nested: &nested{key: "name", count: 128, mostKey: 60}},
		{name: "timestamp", form: object, nested: &nested{members: []member{
			{name: "value", required: true},
			{name: "unit", form: choice, required: true, choices: []string{"SECONDS", "MILLISECONDS", "MICROSECONDS",
				"NANOSECONDS"}},
		}}},
	},
	resource: "tableName",
	judge: func(d *Delivery) error {
		if text := d.Parameter("timestamp/value"); text != "" {
			if n, err := strconv.ParseInt(text, 10, 64); err != nil || n < 0 {
				return fmt.Errorf("timestamp.value: %.100q, want a whole number", text)
			}
		}
		return errors.Join(d.judge("databaseName", warehouse.CheckName), d.judge("tableName", warehouse.CheckName))
	},
	stage: func(d *Delivery) error {
		if d.Parameter("timestamp/value") == "" {
			d.set("timestamp/value", strconv.FormatInt(d.At().UnixMilli(), 10))
			d.set("timestamp/unit", "MILLISECONDS")
		}
		if err := d.object(maxRow); err != nil {
			return err
		}
		_, err := Measures(d)
		return err
	},
}

// A Measure is a record of the timestream action.
type Measure struct {
	Dimensions []Parameter
	Name       string
	Type       string // BIGINT, DOUBLE, BOOLEAN or VARCHAR
	Value      string
	Time       string // in Unit since 1970
	Unit       string
}

// At is the measure's time.
func (m *Measure) At() time.Time {
	n, _ := strconv.ParseInt(m.Time, 10, 64) // it was checked when it was staged
	switch unit := timeUnits[m.Unit]; unit {
	case time.Second:
		return time.Unix(n, 0)
	case time.Millisecond:
		return time.UnixMilli(n)
	case time.Microsecond:
		return time.UnixMicro(n)
	default:
		return time.Unix(0, n)
	}
}

// Measures are the records of a delivery of the timestream action, in the order of
// the document's members. null makes none.
func Measures(d *Delivery) (all []Measure, err error) {
	members, err := ordered(d.Data)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		kind, value, err := measure(m.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		if kind == "" {
			continue
		}
		all = append(all, Measure{Dimensions: d.Inner("dimensions"), Name: m.name, Type: kind, Value: value,
			Time: d.Parameter("timestamp/value"), Unit: d.Parameter("timestamp/unit")})
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("the document has no values")
	case len(all) > maxMeasures:
		return nil, fmt.Errorf("%d values, want at most %d", len(all), maxMeasures)
	}
	return all, nil
}

// measure is the type and text of a value.
func measure(v json.RawMessage) (kind, value string, err error) {
	switch v[0] {
	case 'n':
		return "", "", nil
	case 't', 'f':
		return "BOOLEAN", string(v), nil
	case '"':
		err := json.Unmarshal(v, &value)
		return "VARCHAR", value, err
	case '{', '[':
		return "VARCHAR", string(v), nil
	}
	if _, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return "BIGINT", string(v), nil
	}
	return "DOUBLE", string(v), nil
}

// An inner member of a document.
type inner struct {
	name  string
	value json.RawMessage
}

// ordered takes an object apart, in the order of its members; the last of two of
// one name counts.
func ordered(doc []byte) (all []inner, err error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // a member's name is a text
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		if v, ok := members[name]; ok {
			all = append(all, inner{name, v})
			delete(members, name)
		}
	}
	return all, nil
}
