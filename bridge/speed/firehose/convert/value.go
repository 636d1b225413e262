package convert

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/tidemill/tidemill/bridge/speed/javatime"
)

// A token is a simple value of JSON: its text, without quotes and escapes.
type token struct {
	text   []byte
	quoted bool
}

// convert makes a value of n's type. Texts of numbers and truth values are taken as
// such by OpenX' reader, not by Hive's.
func (p *parser) convert(n *node, t token) (parquet.Value, error) {
	loose := !t.quoted || p.json.OpenX || n.isKey
	switch k := n.typ.Kind; k {
	case String:
		if l := n.typ.Length; l > 0 && utf8.RuneCount(t.text) > l {
			return parquet.Value{}, mismatch(n, fmt.Sprintf("at most %d characters", l))
		}
		return parquet.ByteArrayValue(t.text), nil
	case Boolean:
		if text := string(t.text); loose && (text == "true" || text == "false") {
			return parquet.BooleanValue(text == "true"), nil
		}
		return parquet.Value{}, mismatch(n, "true or false")
	case TinyInt, SmallInt, Int, BigInt:
		bits := 8 << (k - TinyInt) // 8, 16, 32, 64
		v, ok := integer(t.text)
		if !loose || !ok || v < math.MinInt64>>(64-bits) || v > math.MaxInt64>>(64-bits) {
			return parquet.Value{}, mismatch(n, fmt.Sprintf("a whole number of %d bits", bits))
		}
		if k == BigInt {
			return parquet.Int64Value(v), nil
		}
		return parquet.Int32Value(int32(v)), nil
	case Float, Double:
		v, ok := float(t.text)
		if !loose || !ok {
			return parquet.Value{}, mismatch(n, "a number")
		}
		if k == Float {
			return parquet.FloatValue(float32(v)), nil
		}
		return parquet.DoubleValue(v), nil
	case Decimal:
		if v, ok := decimal(t.text, n.typ); loose && ok {
			return v, nil
		}
		return parquet.Value{}, mismatch(n, fmt.Sprintf("a number of %d digits, %d after the point", n.typ.Precision,
			n.typ.Scale))
	case Binary:
		v, err := base64.StdEncoding.DecodeString(string(t.text))
		if !t.quoted || err != nil {
			return parquet.Value{}, mismatch(n, "a text in base64")
		}
		return parquet.ByteArrayValue(v), nil
	case Date:
		at, ok := date(t.text)
		if !t.quoted || !ok {
			return parquet.Value{}, mismatch(n, "a date such as 2026-03-01")
		}
		return parquet.Int32Value(int32(at.Unix() / 86400)), nil
	}
	at, ok := p.timestamp(t)
	if !ok || at.Year() < 1 || at.Year() > 9999 {
		return parquet.Value{}, mismatch(n, "a time")
	}
	return parquet.Int64Value(at.UnixMicro()), nil
}

// integer reads a whole number; 1.0 and 1e3 are such.
func integer(b []byte) (int64, bool) {
	i, negative := 0, false
	if len(b) > 0 && b[0] == '-' {
		i, negative = 1, true
	}
	if n := len(b) - i; n > 0 && n <= 18 {
		v := int64(0)
		for ; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
			v = v*10 + int64(b[i]-'0')
		}
		if i == len(b) {
			if negative {
				v = -v
			}
			return v, true
		}
	}
	if v, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		return v, true
	}
	f, ok := float(b)
	if !ok || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

// tens are the powers of ten that a double has exactly.
var tens = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// float reads a finite number. One of at most 15 digits is the quotient of two
// doubles that are exact, and so is exact itself.
func float(b []byte) (float64, bool) {
	i, negative := 0, false
	if len(b) > 0 && b[0] == '-' {
		i, negative = 1, true
	}
	var mantissa int64
	point, digits := -1, 0
	for ; i < len(b) && digits <= 15; i++ {
		switch c := b[i]; {
		case c >= '0' && c <= '9':
			mantissa = mantissa*10 + int64(c-'0')
			digits++
			continue
		case c == '.' && point < 0:
			point = i
			continue
		}
		digits = 16
	}
	if i == len(b) && digits > 0 && digits <= 15 && point != len(b)-1 {
		v := float64(mantissa)
		if point >= 0 {
			v /= tens[len(b)-1-point]
		}
		if negative {
			v = -v
		}
		return v, true
	}
	v, err := strconv.ParseFloat(string(b), 64)
	return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v)
}

// decimal reads a number of t's precision; further digits after the point are
// rounded, half of one away from zero.
func decimal(b []byte, t Type) (parquet.Value, bool) {
	if f, ok := float(b); !ok || len(b) > 400 || f == 0 && bytes.ContainsAny(b, "123456789") { // a tiny exponent
		return parquet.Value{}, false
	}
	r, ok := new(big.Rat).SetString(string(b))
	if !ok {
		return parquet.Value{}, false
	}
	ten := big.NewInt(10)
	scaled := new(big.Int).Mul(r.Num(), new(big.Int).Exp(ten, big.NewInt(int64(t.Scale)), nil))
	q, m := new(big.Int).QuoRem(scaled, r.Denom(), new(big.Int))
	if m.Lsh(m.Abs(m), 1).Cmp(r.Denom()) >= 0 {
		q.Add(q, big.NewInt(int64(r.Sign())))
	}
	if new(big.Int).Abs(q).Cmp(new(big.Int).Exp(ten, big.NewInt(int64(t.Precision)), nil)) >= 0 {
		return parquet.Value{}, false
	}
	switch {
	case t.Precision <= 9:
		return parquet.Int32Value(int32(q.Int64())), true
	case t.Precision <= 18:
		return parquet.Int64Value(q.Int64()), true
	}
	raw := make([]byte, 16) // two's complement, the highest byte first
	if q.Sign() < 0 {
		q.Add(q, new(big.Int).Lsh(big.NewInt(1), 128))
	}
	return parquet.FixedLenByteArrayValue(q.FillBytes(raw)), true
}

func date(b []byte) (time.Time, bool) {
	at, err := time.Parse(time.DateOnly, string(b))
	return at, err == nil && at.Year() > 0
}

// timestamp reads a time in UTC.
func (p *parser) timestamp(t token) (time.Time, bool) {
	if p.json.OpenX {
		return openXTime(t)
	}
	for _, pattern := range p.json.Timestamps {
		if pattern == "millis" {
			if ms, ok := integer(t.text); ok {
				return time.UnixMilli(ms).UTC(), true
			}
		} else if at, ok := javatime.Read(string(t.text), pattern); ok && t.quoted {
			return at.UTC(), true
		}
	}
	return sqlTime(t.text)
}

// openXTime reads what OpenX' reader does: ISO 8601, the form of SQL, and epochs: a
// number with a point is seconds, one of 13 or more digits milliseconds.
func openXTime(t token) (time.Time, bool) {
	if at, ok := sqlTime(t.text); ok {
		return at, true
	}
	if at, err := time.Parse("2006-01-02T15:04:05.999999999Z07:00", string(t.text)); err == nil {
		return at.UTC(), true
	}
	if n, ok := wholeNumber(t.text); ok {
		if len(t.text) >= 13 {
			return time.UnixMilli(n).UTC(), true
		}
		return time.Unix(n, 0).UTC(), true
	}
	if f, ok := float(t.text); ok && math.Abs(f) < 1e12 {
		return time.UnixMilli(int64(f * 1000)).UTC(), true
	}
	return time.Time{}, false
}

func wholeNumber(b []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	return n, err == nil
}

// sqlTime reads yyyy-MM-dd HH:mm:ss and up to nine digits after a point.
func sqlTime(b []byte) (time.Time, bool) {
	at, err := time.Parse("2006-01-02 15:04:05.999999999", string(b))
	return at, err == nil
}
