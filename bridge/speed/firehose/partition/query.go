// Package partition finds the partition keys of records with a query in jq
// (MetadataExtraction of a delivery stream).
//
// A query comes from whoever may make a delivery stream, and a record from
// whoever may put one, so both are bounded: a query has no function of its own
// and only those functions and operators whose cost is in proportion to what
// they are given (allow.go), and each record has a budget of steps, counted and
// not timed, so that it fails the same way when it is tried again.
package partition

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"sync"

	"github.com/itchyny/gojq"

	"github.com/tidemill/tidemill/shadow"
)

// Bounds of queries and what they give.
const (
	// maxQuery is how long a parameter of a processor may be (Firehose API,
	// ProcessorParameterValue).
	maxQuery = 5120
	// maxKeys is how many partition keys a query may give (Firehose developer
	// guide, dynamic partitioning).
	maxKeys = 50
	// maxSteps is the budget of a record. A step is one instruction of jq, or 64
	// bytes of a value looked at: together less than 50 ms.
	maxSteps = 200_000
	// maxValue is the largest value within a query, in bytes as it is counted by
	// size. A record has at most 1,000 KiB.
	maxValue = 8 << 20
)

// A Query is compiled. Several goroutines may use it.
type Query struct {
	text  string
	keys  []string
	ready sync.Pool // of *program
}

// A program is a query's code and what is left for the record it is run on.
type program struct {
	code *gojq.Code
	budget
}

// Compile reads a query. Its errors say what is not allowed.
func Compile(text string) (*Query, error) {
	if text == "" || len(text) > maxQuery {
		return nil, fmt.Errorf("%d bytes, want 1 to %d", len(text), maxQuery)
	}
	q := &Query{text: text}
	p, err := q.compile()
	if err != nil {
		return nil, err
	}
	q.ready.Put(p)
	return q, nil
}

// compile makes one program, and tells the keys that the text shows.
func (q *Query) compile() (*program, error) {
	tree, err := gojq.Parse(q.text)
	if err != nil {
		return nil, fmt.Errorf("no jq: %w", err)
	}
	keys := shownKeys(tree)
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("%d partition keys, want at most %d", len(keys), maxKeys)
	}
	var g guard
	tree = g.query(tree)
	if g.err != nil {
		return nil, g.err
	}
	p := &program{budget: budget{spent: make(chan struct{})}}
	close(p.spent)
	p.code, err = gojq.Compile(tree,
		gojq.WithFunction(checkName, 0, 0, p.check), gojq.WithFunction(numberName, 0, 0, p.number),
		gojq.WithFunction(shortName, 0, 0, p.short))
	if err != nil {
		return nil, fmt.Errorf("no jq: %w", err)
	}
	if q.keys == nil {
		q.keys = keys
	}
	return p, nil
}

// Keys returns the names of the partition keys, in the order of the text. They
// are nil if they only show when the query runs.
func (q *Query) Keys() []string { return q.keys }

// String returns the text.
func (q *Query) String() string { return q.text }

// errBudget is deterministic: steps are counted.
var errBudget = fmt.Errorf("the query took more than %d steps", maxSteps)

// Eval returns the partition keys of a record, which is one JSON value. A key
// whose value is null, a list or an object is an error.
func (q *Query) Eval(record []byte) (map[string]string, error) {
	v, err := shadow.Parse(record)
	if err != nil {
		return nil, fmt.Errorf("the record is not JSON: %w", err)
	}
	p, _ := q.ready.Get().(*program)
	if p == nil {
		if p, err = q.compile(); err != nil {
			return nil, err
		}
	}
	defer q.ready.Put(p)
	p.left = maxSteps
	out, ok := p.code.RunWithContext(&p.budget, v).Next()
	if !ok {
		return nil, errors.New("the query gives nothing")
	}
	if err, failed := out.(error); failed {
		if p.left < 0 {
			err = errBudget
		}
		return nil, fmt.Errorf("query: %.300s", err.Error()) // it may have all of the record
	}
	object, ok := out.(map[string]any)
	if !ok {
		return nil, errors.New("the query gives no object")
	}
	if len(object) > maxKeys {
		return nil, fmt.Errorf("%d partition keys, want at most %d", len(object), maxKeys)
	}
	keys := make(map[string]string, len(object))
	for name, v := range object {
		if keys[name], err = text(v); err != nil {
			return nil, fmt.Errorf("partition key %.100q: %w", name, err)
		}
	}
	return keys, nil
}

// text is the value of a partition key as it stands in a prefix.
func text(v any) (string, error) {
	switch v := v.(type) {
	case string:
		if v == "" {
			return "", errors.New("is empty")
		}
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int:
		return strconv.Itoa(v), nil
	case *big.Int:
		return v.String(), nil
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return "", errors.New("is no number")
		}
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	case json.Number:
		return number(v)
	case nil:
		return "", errors.New("is null")
	}
	return "", errors.New("is a list or an object")
}

// number is a number of the record. Whole ones keep all their digits, which jq
// 1.6 does not; others are what jq 1.6 makes of them.
func number(v json.Number) (string, error) {
	if i, ok := new(big.Int).SetString(v.String(), 10); ok {
		return i.String(), nil
	}
	f, err := v.Float64()
	if err != nil {
		return "", errors.New("is no number")
	}
	return strconv.FormatFloat(f, 'g', -1, 64), nil
}
