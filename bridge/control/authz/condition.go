package authz

import (
	"fmt"
	"math/big"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A family is a group of condition operators that compare alike.
type family uint8

const (
	famString     family = iota // equal
	famStringFold               // equal but for case
	famStringLike               // wildcards
	famNumeric
	famDate
	famBool
	famIP
	famARN
	famNull
)

// A compare says what an ordering operator wants of request value - policy value.
type compare uint8

const (
	cmpEqual compare = iota
	cmpLess
	cmpLessEqual
	cmpGreater
	cmpGreaterEqual
)

type operator struct {
	family  family
	compare compare
	negated bool
}

// operators goes by the name in lower case. BinaryEquals compares the base64
// text: no key here is binary.
var operators = map[string]operator{
	"stringequals":              {family: famString},
	"stringnotequals":           {family: famString, negated: true},
	"stringequalsignorecase":    {family: famStringFold},
	"stringnotequalsignorecase": {family: famStringFold, negated: true},
	"stringlike":                {family: famStringLike},
	"stringnotlike":             {family: famStringLike, negated: true},
	"binaryequals":              {family: famString},
	"numericequals":             {family: famNumeric},
	"numericnotequals":          {family: famNumeric, negated: true},
	"numericlessthan":           {family: famNumeric, compare: cmpLess},
	"numericlessthanequals":     {family: famNumeric, compare: cmpLessEqual},
	"numericgreaterthan":        {family: famNumeric, compare: cmpGreater},
	"numericgreaterthanequals":  {family: famNumeric, compare: cmpGreaterEqual},
	"dateequals":                {family: famDate},
	"datenotequals":             {family: famDate, negated: true},
	"datelessthan":              {family: famDate, compare: cmpLess},
	"datelessthanequals":        {family: famDate, compare: cmpLessEqual},
	"dategreaterthan":           {family: famDate, compare: cmpGreater},
	"dategreaterthanequals":     {family: famDate, compare: cmpGreaterEqual},
	"bool":                      {family: famBool},
	"ipaddress":                 {family: famIP},
	"notipaddress":              {family: famIP, negated: true},
	"arnequals":                 {family: famARN},
	"arnlike":                   {family: famARN},
	"arnnotequals":              {family: famARN, negated: true},
	"arnnotlike":                {family: famARN, negated: true},
	"null":                      {family: famNull},
}

// A quantifier says how many of a key's values must pass.
type quantifier uint8

const (
	unset quantifier = iota // one value is usual; of several, any
	forAll
	forAny
)

// A condition is one key under one operator. All conditions of a statement
// must hold.
type condition struct {
	text     string // operator and key as written, for Explain
	op       operator
	quant    quantifier
	ifExists bool
	key      string // normal form
	values   []conditionValue
}

type conditionValue struct {
	text template
	arn  []template // famARN: the parts
}

func parseOperator(name string) (op operator, quant quantifier, ifExists bool, err error) {
	low := strings.ToLower(name)
	if rest, ok := strings.CutPrefix(low, "forallvalues:"); ok {
		low, quant = rest, forAll
	} else if rest, ok := strings.CutPrefix(low, "foranyvalue:"); ok {
		low, quant = rest, forAny
	}
	if rest, ok := strings.CutSuffix(low, "ifexists"); ok {
		low, ifExists = rest, true
	}
	op, ok := operators[low]
	if !ok || op.family == famNull && (ifExists || quant != unset) {
		return op, quant, ifExists, fmt.Errorf("no such condition operator: %q", name)
	}
	return op, quant, ifExists, nil
}

func newCondition(opName string, op operator, quant quantifier, ifExists bool, key string, values []string,
	vars bool) (condition, error) {
	c := condition{text: opName + " " + key, op: op, quant: quant, ifExists: ifExists, key: normalKey(key)}
	if c.key == "" {
		return c, fmt.Errorf("%s: empty condition key", opName)
	}
	if strings.HasPrefix(c.key, "iot:certificate.") {
		for _, v := range values {
			if e, ok := escapedValue(v); ok {
				values = append(values[:len(values):len(values)], e)
			}
		}
	}
	for _, v := range values {
		cv := conditionValue{text: parseTemplate(v, vars, op.family == famStringLike, 0)[0]}
		if op.family == famARN {
			cv.arn = parseTemplate(v, vars, true, arnParts-1)
		}
		if !cv.text.hasVariable() {
			if err := checkConstant(op.family, v); err != nil {
				return c, fmt.Errorf("%s: %w", c.text, err)
			}
		}
		c.values = append(c.values, cv)
	}
	return c, nil
}

// checkConstant refuses a value that can never compare: found when the policy
// is created, not when a device is shut out or let in by it.
func checkConstant(f family, v string) error {
	ok := true
	switch f {
	case famNumeric:
		_, ok = parseNumber(v)
	case famDate:
		_, ok = parseDate(v)
	case famBool, famNull:
		ok = strings.EqualFold(v, "true") || strings.EqualFold(v, "false")
	case famIP:
		_, ok = parsePrefix(v)
	}
	if !ok {
		return fmt.Errorf("value %q does not suit the operator", v)
	}
	return nil
}

// holds evaluates the condition. deny is the statement's effect: where nobody
// can say whether a negated condition holds (a variable without a value, text
// compared as a number), it holds in a Deny and not in an Allow.
func (c *condition) holds(ctx *Context, connect, deny bool) bool {
	have := ctx.lookup(c.key, connect)
	if c.op.family == famNull {
		for _, v := range c.values {
			text, _, ok := v.text.expand(ctx)
			if ok && strings.EqualFold(text, "true") == (len(have) == 0) {
				return true
			}
		}
		return false
	}
	if len(have) == 0 {
		switch {
		case c.ifExists, c.quant == forAll:
			return true
		case c.quant == forAny:
			return false
		}
		return c.op.negated
	}
	// One value passes if it matches any policy value, negated: none.
	pass := func(v string) bool {
		found, doubt := false, false
		for i := range c.values {
			m, sure := c.matches(ctx, &c.values[i], v)
			found = found || m
			doubt = doubt || !sure
		}
		if !c.op.negated {
			return found
		}
		return !found && (!doubt || deny)
	}
	all := c.quant == forAll || c.quant == unset && c.op.negated
	for _, v := range have {
		if pass(v) != all {
			return !all
		}
	}
	return all
}

// matches compares one value of the request with one of the policy. sure is
// false if they cannot be compared.
func (c *condition) matches(ctx *Context, pv *conditionValue, v string) (match, sure bool) {
	if c.op.family == famARN {
		return matchARN(ctx, pv.arn, v)
	}
	want, _, ok := pv.text.expand(ctx)
	if !ok {
		return false, false
	}
	switch c.op.family {
	case famString:
		return v == want, true
	case famStringFold:
		return strings.EqualFold(v, want), true
	case famStringLike:
		return matchGlob(want, v), true
	case famBool:
		return strings.EqualFold(v, want), true
	case famNumeric:
		a, ok1 := parseNumber(v)
		b, ok2 := parseNumber(want)
		return ok1 && ok2 && c.op.compare.holds(a.Cmp(b)), ok1 && ok2
	case famDate:
		a, ok1 := parseDate(v)
		b, ok2 := parseDate(want)
		return ok1 && ok2 && c.op.compare.holds(a.Compare(b)), ok1 && ok2
	case famIP:
		a, ok1 := parseIP(v)
		p, ok2 := parsePrefix(want)
		return ok1 && ok2 && p.Contains(a), ok1 && ok2
	}
	return false, false
}

func (c compare) holds(sign int) bool {
	switch c {
	case cmpLess:
		return sign < 0
	case cmpLessEqual:
		return sign <= 0
	case cmpGreater:
		return sign > 0
	case cmpGreaterEqual:
		return sign >= 0
	}
	return sign == 0
}

// matchARN compares part by part, as resources are. The request's last part
// may hold colons.
func matchARN(ctx *Context, want []template, v string) (match, sure bool) {
	have := strings.SplitN(v, ":", arnParts)
	if len(want) > len(have) {
		return false, true
	}
	match = true
	for i := range want {
		text, _, ok := want[i].expand(ctx)
		if !ok {
			return false, false
		}
		match = match && matchPart(text, i, have[i])
		if i == len(want)-1 && len(want) < len(have) {
			match = match && strings.HasSuffix(text, "\xff") // takes the rest
		}
	}
	return match, true
}

// parseNumber reads a decimal number; an exponent is bounded, since 1e999999999
// would take the memory of the machine.
func parseNumber(s string) (*big.Rat, bool) {
	if len(s) == 0 || len(s) > 64 || strings.ContainsAny(s, "/_xXbBoOpP") {
		return nil, false
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		if e, err := strconv.Atoi(s[i+1:]); err != nil || e > 400 || e < -400 {
			return nil, false
		}
	}
	return new(big.Rat).SetString(s)
}

// dateLayouts are the W3C profiles of ISO 8601, which IAM takes.
var dateLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15Z07:00", time.DateOnly, "2006-01",
	"2006"}

// parseDate reads an ISO 8601 time or seconds since 1970. Four digits are a year.
func parseDate(s string) (time.Time, bool) {
	for _, layout := range dateLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), true
	}
	return time.Time{}, false
}

// parsePrefix reads a CIDR range, or one address.
func parsePrefix(s string) (netip.Prefix, bool) {
	if a, ok := parseIP(s); ok {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}
