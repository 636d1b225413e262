package iotsql

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"

	"github.com/tidemill/tidemill/bridge/speed/javatime"
)

func naiveBase64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func naiveInt(i int64) naiveNum { return naiveNum{d: apd.New(i, 0), whole: true} }

// call evaluates a function by its name in lower case.
func (n *naive) call(name string, args []any) any {
	if fn, ok := naiveNumbers[name]; ok {
		x, ok := n.number(args[0])
		if !ok {
			return nothing{}
		}
		return n.result(fn(x))
	}
	if fn, ok := naiveDoubles[name]; ok {
		x, ok := n.number(args[0])
		if !ok {
			return nothing{}
		}
		return n.double(fn(x.float()))
	}
	if fn, ok := naivePairs[name]; ok {
		x, ok1 := n.number(args[0])
		y, ok2 := n.number(args[1])
		if !ok1 || !ok2 {
			return nothing{}
		}
		return fn(n, x, y)
	}
	if fn, ok := naiveTexts[name]; ok {
		t := make([]string, len(args))
		for i, a := range args {
			if t[i], ok = naiveString(a); !ok {
				return nothing{}
			}
		}
		return fn(t)
	}
	return naiveOthers[name](n, args)
}

func naiveKnows(name string) bool {
	name = strings.ToLower(name)
	return naiveNumbers[name] != nil || naiveDoubles[name] != nil || naivePairs[name] != nil ||
		naiveTexts[name] != nil || naiveOthers[name] != nil
}

// result is Undefined when a function has none.
func (n *naive) result(x *naiveNum) any {
	if x == nil {
		return nothing{}
	}
	return x.settled(n.modern)
}

func (n *naive) double(x float64) any {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return nothing{}
	}
	num, ok := naiveNumber(strconv.FormatFloat(x, 'e', -1, 64), n.modern)
	if !ok {
		return nothing{}
	}
	if num.d.IsZero() {
		num.d.Negative = false
	}
	return num
}

func (n naiveNum) float() float64 {
	x, _ := strconv.ParseFloat(n.d.Text('e'), 64)
	return x
}

// integer rounds to an Int; nil if that has more than 34 digits.
func (n naiveNum) integer(how func(cut *big.Int, rest *apd.Decimal) int64) *naiveNum {
	cut := naiveBig(n.d, 0)
	var rest apd.Decimal
	exact := apd.BaseContext.WithPrecision(5000)
	_, err := exact.Sub(&rest, n.d, naiveWhole(cut))
	must(err)
	cut.Add(cut, big.NewInt(how(cut, &rest)))
	if len(strings.TrimPrefix(cut.String(), "-")) > 34 {
		return nil
	}
	return &naiveNum{d: naiveWhole(cut), whole: true}
}

func (n naiveNum) floor() *naiveNum {
	return n.integer(func(_ *big.Int, rest *apd.Decimal) int64 { return int64(min(rest.Sign(), 0)) })
}

var half = apd.New(5, -1)

var naiveNumbers = map[string]func(naiveNum) *naiveNum{
	"abs": func(n naiveNum) *naiveNum {
		return &naiveNum{d: new(apd.Decimal).Abs(n.d), whole: n.whole}
	},
	"sign":  func(n naiveNum) *naiveNum { s := naiveInt(int64(n.d.Sign())); return &s },
	"floor": naiveNum.floor,
	"ceil": func(n naiveNum) *naiveNum {
		return n.integer(func(_ *big.Int, rest *apd.Decimal) int64 { return int64(max(rest.Sign(), 0)) })
	},
	"round": func(n naiveNum) *naiveNum {
		return n.integer(func(_ *big.Int, rest *apd.Decimal) int64 {
			if new(apd.Decimal).Abs(rest).Cmp(half) < 0 {
				return 0
			}
			return int64(rest.Sign())
		})
	},
	"bitnot": func(n naiveNum) *naiveNum {
		f := n.floor()
		if f == nil {
			return nil
		}
		if d := naiveWhole(new(big.Int).Not(naiveBig(f.d, 0))); d.NumDigits() <= 34 {
			return &naiveNum{d: d, whole: true}
		}
		return nil
	},
}

var naiveDoubles = map[string]func(float64) float64{
	"sqrt": math.Sqrt, "exp": math.Exp, "ln": math.Log, "log": math.Log10,
	"sin": math.Sin, "cos": math.Cos, "tan": math.Tan, "sinh": math.Sinh, "cosh": math.Cosh, "tanh": math.Tanh,
	"asin": math.Asin, "acos": math.Acos, "atan": math.Atan,
}

func naiveBits(op func(z, x, y *big.Int) *big.Int) func(*naive, naiveNum, naiveNum) any {
	return func(n *naive, a, b naiveNum) any {
		x, y := a.floor(), b.floor()
		if x == nil || y == nil {
			return nothing{}
		}
		d := naiveWhole(op(new(big.Int), naiveBig(x.d, 0), naiveBig(y.d, 0)))
		if d.NumDigits() > 34 {
			return nothing{}
		}
		return naiveNum{d: d, whole: true}
	}
}

var naivePairs = map[string]func(n *naive, x, y naiveNum) any{
	"mod":       func(n *naive, x, y naiveNum) any { return n.arithmetic("%", x, y) },
	"remainder": func(n *naive, x, y naiveNum) any { return n.arithmetic("%", x, y) },
	"power":     func(n *naive, x, y naiveNum) any { return n.double(math.Pow(x.float(), y.float())) },
	"atan2":     func(n *naive, x, y naiveNum) any { return n.double(math.Atan2(x.float(), y.float())) },
	"bitand":    naiveBits((*big.Int).And),
	"bitor":     naiveBits((*big.Int).Or),
	"bitxor":    naiveBits((*big.Int).Xor),
	"trunc": func(n *naive, x, places naiveNum) any {
		p := places.clamped(0, 34)
		if x.whole || x.d.Exponent > 0 {
			return x
		}
		d := naiveWhole(naiveBig(x.d, p))
		d.Exponent = int32(-p)
		for d.Exponent < 0 && strings.HasSuffix(d.Coeff.String(), "0") {
			d = apd.NewWithBigInt(new(apd.BigInt).Quo(&d.Coeff, apd.NewBigInt(10)), d.Exponent+1)
		}
		d.Negative = x.d.Negative && !d.IsZero()
		return naiveNum{d: d}.settled(n.modern)
	},
}

// clamped is the floor, brought between from and to.
func (n naiveNum) clamped(from, to int64) int {
	switch {
	case n.d.Cmp(apd.New(from, 0)) < 0:
		return int(from)
	case n.d.Cmp(apd.New(to, 0)) > 0:
		return int(to)
	}
	return int(naiveBig(n.floor().d, 0).Int64())
}

func text(s string) any { return naiveText{s: s} }

// naiveTexts are the functions whose arguments all convert to String.
var naiveTexts = map[string]func(t []string) any{
	"startswith": func(t []string) any { return strings.HasPrefix(t[0], t[1]) },
	"endswith":   func(t []string) any { return strings.HasSuffix(t[0], t[1]) },
	"indexof": func(t []string) any {
		before, _, ok := strings.Cut(t[0], t[1])
		if !ok {
			return naiveInt(-1)
		}
		return naiveInt(int64(len([]rune(before))))
	},
	"length":   func(t []string) any { return naiveInt(int64(len([]rune(t[0])))) },
	"numbytes": func(t []string) any { return naiveInt(int64(len(t[0]))) },
	"lower":    func(t []string) any { return text(strings.ToLower(t[0])) },
	"upper":    func(t []string) any { return text(strings.ToUpper(t[0])) },
	"ltrim":    func(t []string) any { return text(strings.TrimLeft(t[0], " \t")) },
	"rtrim":    func(t []string) any { return text(strings.TrimRight(t[0], " \t")) },
	"trim":     func(t []string) any { return text(strings.Trim(t[0], " \t")) },
	"replace":  func(t []string) any { return text(strings.ReplaceAll(t[0], t[1], t[2])) },
	"md2":      func(t []string) any { return text(fmt.Sprintf("%x", md2Sum(nil, []byte(t[0])))) },
	"md5":      func(t []string) any { return text(fmt.Sprintf("%x", md5.Sum([]byte(t[0])))) },
	"sha1":     func(t []string) any { return text(fmt.Sprintf("%x", sha1.Sum([]byte(t[0])))) },
	"sha224":   func(t []string) any { return text(fmt.Sprintf("%x", sha256.Sum224([]byte(t[0])))) },
	"sha256":   func(t []string) any { return text(fmt.Sprintf("%x", sha256.Sum256([]byte(t[0])))) },
	"sha384":   func(t []string) any { return text(fmt.Sprintf("%x", sha512.Sum384([]byte(t[0])))) },
	"sha512":   func(t []string) any { return text(fmt.Sprintf("%x", sha512.Sum512([]byte(t[0])))) },
	"regexp_matches": func(t []string) any {
		groups := naiveFind(t[1], t[0])
		if groups == nil {
			return nothing{}
		}
		return len(groups) > 1
	},
	"regexp_substr": func(t []string) any {
		groups := naiveFind(t[1], t[0])
		if len(groups) < 2 {
			return nothing{}
		}
		return text(t[0][groups[1][0]:groups[1][1]])
	},
	"regexp_replace": func(t []string) any {
		f := newFrame(context.Background(), &program{}, &Input{})
		defer f.release()
		p := patterns.Get(f, []byte(t[1]))
		if p == nil {
			return nothing{}
		}
		out, err := p.ReplaceAll(f, []byte(t[0]), []byte(t[2]))
		if err != nil {
			return nothing{}
		}
		return text(string(out))
	},
	"encode": func(t []string) any {
		if t[1] != "base64" {
			return nothing{}
		}
		return text(naiveBase64(t[0]))
	},
	"time_to_epoch": func(t []string) any {
		at, ok := javatime.Read(t[0], t[1])
		if !ok {
			return nothing{}
		}
		return naiveInt(at.UnixMilli())
	},
}

func given(s string) any {
	if s == "" {
		return nothing{}
	}
	return text(s)
}

// naiveOthers have arguments of any type.
var naiveOthers = map[string]func(n *naive, args []any) any{
	"isnull":      func(_ *naive, a []any) any { return a[0] == nil },
	"isundefined": func(_ *naive, a []any) any { return a[0] == any(nothing{}) },
	"nanvl": func(_ *naive, a []any) any {
		if a[0] == nil || a[0] == any(nothing{}) {
			return a[1]
		}
		return a[0]
	},
	"get_or_default": func(_ *naive, a []any) any {
		switch a = append(a, nothing{}); a[0] {
		case nil, any(nothing{}):
			return a[1]
		}
		return a[0]
	},
	"chr": func(n *naive, a []any) any {
		num, ok := n.number(a[0])
		if c := 200; !ok || num.clamped(-1, 128) < 0 || num.clamped(-1, int64(c)) > 127 {
			return nothing{}
		}
		return text(string(rune(num.clamped(0, 127))))
	},
	"concat": (*naive).concat,
	"lpad":   func(n *naive, a []any) any { return n.pad(a, true) },
	"rpad":   func(n *naive, a []any) any { return n.pad(a, false) },
	"substring": func(n *naive, a []any) any {
		s, ok := naiveString(a[0])
		chars := []rune(s)
		bounds := []int{0, len(chars)}
		for i, x := range a[1:] {
			num, isNum := n.number(x)
			ok = ok && isNum
			if ok {
				bounds[i] = num.clamped(0, int64(len(chars)))
			}
		}
		if !ok {
			return nothing{}
		}
		return text(string(chars[bounds[0]:max(bounds[0], bounds[1])]))
	},
	"get": (*naive).get,
	"decode": func(n *naive, a []any) any {
		if s, ok := naiveString(a[1]); !ok || s != "base64" || a[0] == any(nothing{}) {
			return nothing{}
		}
		t, ok := a[0].(naiveText)
		b, err := base64.StdEncoding.DecodeString(t.s)
		if !ok || err != nil || !utf8.Valid(b) {
			return nil
		}
		if naiveDepth(b) <= maxPayloadNesting {
			if v, ok := naiveDecode(b, n.modern); ok {
				return v
			}
		}
		return text(string(b))
	},
	"transform": func(_ *naive, a []any) any {
		mode, _ := naiveString(a[0])
		obj, ok1 := a[1].(naiveObject)
		list, ok2 := a[2].(naiveList)
		if mode != "enrichArray" || !ok1 || !ok2 {
			return nothing{}
		}
		out := naiveList{}
		for _, e := range list {
			if o, ok := e.(naiveObject); ok {
				for _, m := range obj {
					o = o.without(m.name)
				}
				e = append(append(naiveObject{}, obj...), o...)
			}
			out = append(out, e)
		}
		return out
	},
	"topic": func(n *naive, a []any) any {
		t := n.m.Topic
		if rest, ok := strings.CutPrefix(t, "$aws/rules/"+n.m.Rule+"/"); ok && n.m.Rule != "" {
			t = rest
		}
		if len(a) == 0 {
			return text(t)
		}
		levels := strings.Split(t, "/")
		num, ok := n.number(a[0])
		if !ok {
			return nothing{}
		}
		i := num.clamped(0, int64(len(levels)+1))
		if i == 0 || i > len(levels) {
			return nothing{}
		}
		return text(levels[i-1])
	},
	"timestamp":   func(n *naive, _ []any) any { return naiveInt(n.m.Time) },
	"sql_version": func(n *naive, _ []any) any { return text(n.version) },
	"clientid": func(n *naive, _ []any) any {
		if n.m.Protocol == "http" || n.m.ClientID == "" {
			return text("n/a")
		}
		return text(n.m.ClientID)
	},
	"traceid": func(n *naive, _ []any) any {
		if n.m.Protocol == "http" {
			return nothing{}
		}
		return given(n.m.Trace.String())
	},
	"principal": func(n *naive, _ []any) any { return given(n.m.Principal) },
	"sourceip":  func(n *naive, _ []any) any { return given(n.m.SourceIP) },
	"accountid": func(n *naive, _ []any) any { return given(n.m.Account) },
	"get_mqtt_property": func(n *naive, a []any) any {
		name, _ := naiveString(a[0])
		p := readProperties(n.m.Properties)
		switch {
		case name == "content_type":
			return given(p.ContentType)
		case name == "response_topic":
			return given(p.ResponseTopic)
		case name == "format_indicator":
			return given(p.FormatIndicator)
		case name == "correlation_data" && p.CorrelationData != nil:
			return text(naiveBase64(string(p.CorrelationData)))
		}
		return nothing{}
	},
	"get_user_properties": func(n *naive, a []any) any {
		list := naiveList{}
		for _, u := range readProperties(n.m.Properties).User {
			if len(a) == 0 {
				list = append(list, naiveObject{{name: u[0], value: naiveText{s: u[1]}}})
			} else if key, ok := naiveString(a[0]); ok && key == u[0] {
				list = append(list, naiveText{s: u[1]})
			}
		}
		if len(list) == 0 {
			return nothing{}
		}
		return list
	},
	"parse_time": func(n *naive, a []any) any {
		pattern, ok1 := naiveString(a[0])
		ms, ok2 := n.number(a[1])
		if !ok1 || !ok2 {
			return nothing{}
		}
		zone := "UTC"
		if len(a) == 3 {
			if zone, ok1 = naiveString(a[2]); !ok1 {
				return nothing{}
			}
		}
		const limit = 1e18
		at := time.UnixMilli(int64(ms.clamped(-limit, limit)))
		loc, ok := javatime.Zone(zone)
		p, err := javatime.Joda(pattern)
		if !ok || err != nil || at.UTC().Year() < 0 || at.UTC().Year() > 9999 || at.In(loc).Year() > 9999 {
			return nothing{}
		}
		return text(string(p.Append(nil, at.In(loc))))
	},
}

func (n *naive) concat(args []any) any {
	if len(args) == 1 {
		return args[0]
	}
	list, isText := false, false
	for _, a := range args {
		switch a.(type) {
		case naiveList:
			list = true
		case naiveText:
			isText = true
		}
	}
	switch {
	case list:
		out := naiveList{}
		for _, a := range args {
			if inner, ok := a.(naiveList); ok {
				out = append(out, inner...)
			} else if a != any(nothing{}) {
				out = append(out, n.inside(a))
			}
		}
		return out
	case isText:
		return naiveJoin(args...)
	}
	return nothing{}
}

func (n *naive) pad(a []any, left bool) any {
	s, ok1 := naiveString(a[0])
	num, ok2 := n.number(a[1])
	if !ok1 || !ok2 {
		return nothing{}
	}
	blank := strings.Repeat(" ", num.clamped(0, 1000))
	if left {
		return text(blank + s)
	}
	return text(s + blank)
}

func (n *naive) get(a []any) any {
	if o, ok := a[0].(naiveObject); ok {
		if key, ok := a[1].(naiveText); ok {
			return o.member(key.s)
		}
		return nothing{}
	}
	var elements []any
	switch c := a[0].(type) {
	case naiveList:
		elements = c
	case naiveText:
		for _, r := range c.s {
			elements = append(elements, text(string(r)))
		}
	}
	num, ok := n.number(a[1])
	if !ok {
		return nothing{}
	}
	i := num.clamped(-1, int64(len(elements)))
	if i < 0 || i >= len(elements) {
		return nothing{}
	}
	return elements[i]
}

func (n *naive) cast(typ string, v any) any {
	switch typ {
	case "bool", "boolean":
		if num, ok := v.(naiveNum); ok {
			if num.d == nil {
				return nothing{}
			}
			return !num.d.IsZero()
		}
		is, ok := naiveTruth(v)
		if !ok {
			return nothing{}
		}
		return is
	case "int", "integer", "double", "decimal":
		num, ok := n.number(v)
		if b, isBool := v.(bool); isBool {
			num, ok = naiveInt(0), true
			if b {
				num = naiveInt(1)
			}
		}
		switch {
		case !ok:
			return nothing{}
		case typ == "double":
			return n.double(num.float())
		case typ == "decimal":
			return num.settled(n.modern)
		}
		return n.result(num.floor())
	}
	if _, ok := v.(naiveText); ok {
		return v
	}
	s, ok := naiveString(v)
	if !ok {
		return nothing{}
	}
	return text(s)
}

// naiveFind finds all matches; the first entry is none. nil is for a malformed pattern.
func naiveFind(pattern, s string) [][]int {
	f := newFrame(context.Background(), &program{}, &Input{})
	defer f.release()
	p := patterns.Get(f, []byte(pattern))
	if p == nil {
		return nil
	}
	all := [][]int{nil}
	p.Find(f, []byte(s), true, func(groups []int) bool {
		all = append(all, slices.Clone(groups))
		return true
	})
	return all
}
