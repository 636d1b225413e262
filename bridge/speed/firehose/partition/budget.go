package partition

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// A budget is the context of a query's run on one record. gojq asks for Done
// before each instruction, which is how they are counted.
type budget struct {
	left  int
	spent chan struct{} // closed
}

// Done implements context.Context.
func (b *budget) Done() <-chan struct{} {
	if b.left--; b.left < 0 {
		return b.spent
	}
	return nil
}

// Err implements context.Context.
func (b *budget) Err() error {
	if b.left < 0 {
		return errBudget
	}
	return nil
}

// Deadline implements context.Context.
func (b *budget) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value implements context.Context.
func (b *budget) Value(any) any { return nil }

// The functions that a guard puts into a query; none may be written there.
const (
	checkName  = "_tidemill_check"
	numberName = "_tidemill_number"
	shortName  = "_tidemill_short"
)

var errValue = fmt.Errorf("a value within the query has more than %d bytes", maxValue)

// check hands a value on that is not too large, and takes its cost from the
// budget.
func (b *budget) check(v any, _ []any) any {
	n := size(v, maxValue)
	b.left -= n / 64
	switch {
	case n > maxValue:
		return errValue
	case b.left < 0:
		return errBudget
	}
	return v
}

// maxMatched is how long a text is that a regular expression is tried on, in
// bytes: finding all matches takes time in proportion to its square.
const maxMatched = 4 << 10

// short is check for what a regular expression is tried on.
func (b *budget) short(v any, args []any) any {
	if s, ok := v.(string); ok && len(s) > maxMatched {
		return fmt.Errorf("a text of %d bytes for a regular expression, want at most %d", len(s), maxMatched)
	}
	b.left -= 100
	return b.check(v, args)
}

// maxDigits bounds whole numbers, which have no end in jq. A record's own are
// bounded by the record and are not reckoned with unless they are short.
const maxDigits = 1000

// number is check for what is reckoned with.
func (b *budget) number(v any, _ []any) any {
	switch n := v.(type) {
	case int, float64:
		return v
	case *big.Int:
		if n.BitLen() < maxDigits*3 {
			return v
		}
	case json.Number:
		if len(n) < maxDigits {
			return v
		}
	}
	return errors.New("want numbers, of at most 1,000 digits, around - * / and %")
}

// size counts the bytes of a value, each element of a list or object 16 and what
// is in it, and stops above most.
func size(v any, most int) (n int) {
	switch v := v.(type) {
	case string:
		return len(v)
	case json.Number:
		return len(v)
	case *big.Int:
		return v.BitLen() / 8
	case []any:
		for _, e := range v {
			if n += 16 + size(e, most-n); n > most {
				break
			}
		}
	case map[string]any:
		for k, e := range v {
			if n += 16 + len(k) + size(e, most-n); n > most {
				break
			}
		}
	}
	return n
}
