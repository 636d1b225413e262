package shape

import (
	"bytes"
	"encoding/base64"
	"math"
	"reflect"
	"strings"
	"time"
)

// class is what AWS calls the type of a scalar that was sent.
func (t token) class() string {
	switch t.kind {
	case isBool:
		return "java.lang.Boolean"
	case isText:
		return "java.lang.String"
	case isBytes:
		return "java.nio.HeapByteBuffer"
	case isStamp:
		return "java.util.Date"
	}
	return "com.amazon.coral.value.json.numbers.TruncatingBigNumber"
}

func (d *decoder) boolean(v reflect.Value, t token) error {
	switch t.kind {
	case isBool:
		v.SetBool(t.yes)
	case isText:
		switch s := strings.ToUpper(string(short(t.text))); s {
		case "TRUE", "YES", "1":
			v.SetBool(true)
		case "FALSE", "NO", "0":
		default:
			return d.refuse(t, 0, "'%s' can not be converted to an Boolean", s)
		}
	default:
		return d.refuse(t, 0, "class %s can not be converted to an Boolean", t.class())
	}
	return nil
}

// number takes fractions downwards, and numbers that are too large as the
// largest.
func (d *decoder) number(n *node, v reflect.Value, t token) error {
	name, least, most := "Integer", int64(math.MinInt32), int64(math.MaxInt32)
	if n.kind == long {
		name, least, most = "Long", math.MinInt64, math.MaxInt64
	}
	if t.kind != isNumber {
		return d.refuse(t, 0, "class %s can not be converted to an %s", t.class(), name)
	}
	x := t.n
	if !t.whole {
		switch f := math.Floor(t.f); {
		case f >= float64(most):
			x = most
		case f <= float64(least):
			x = least
		default:
			x = int64(f)
		}
	}
	v.SetInt(min(max(x, least), most))
	return nil
}

// stamp reads seconds since 1970, or CBOR's milliseconds.
func (d *decoder) stamp(v reflect.Value, t token) error {
	var ms float64
	switch {
	case t.kind == isStamp:
		ms = float64(t.n)
	case t.kind == isNumber && t.whole:
		ms = float64(t.n) * 1000
	case t.kind == isNumber:
		ms = math.Round(t.f * 1000)
	default:
		return d.refuse(t, 0, "class %s can not be converted to milliseconds since epoch", t.class())
	}
	// A year has at most four digits: more is no time that a log knows.
	const most = 253402300799999
	v.Set(reflect.ValueOf(time.UnixMilli(int64(min(max(ms, -most), most))).UTC()))
	return nil
}

var strict = base64.StdEncoding.Strict()

// blob decodes base64 into the arena.
func (d *decoder) blob(v reflect.Value, t token) error {
	if d.codec == CBOR && t.kind == isBytes {
		v.SetBytes(t.text[:len(t.text):len(t.text)])
		return nil
	}
	if d.codec == CBOR || t.kind != isText {
		return d.refuse(t, 0, "class %s can not be converted to a Blob", t.class())
	}
	const cannot = "'%s' can not be converted to a Blob: "
	if len(t.text)%4 != 0 {
		return d.refuse(t, 0, cannot+"Base64 encoded length is expected a multiple of 4 bytes but found: %d",
			short(t.text), len(t.text))
	}
	size := strict.DecodedLen(len(t.text))
	if d.arena == nil { // has room for all that is to come
		d.arena = make([]byte, 0, size+d.src.left()/4*3)
	}
	room := d.arena[len(d.arena) : len(d.arena)+size]
	n, err := strict.Decode(room, t.text)
	size -= bytes.Count(t.text[max(0, len(t.text)-2):], []byte("="))
	if err != nil || n != size { // it skips line ends
		if c := strange(t.text); c >= 0 {
			return d.refuse(t, 0, cannot+"Invalid Base64 character: '%c'", short(t.text), c)
		}
		return d.refuse(t, 0, cannot+"Invalid last non-pad Base64 character dectected", short(t.text))
	}
	d.arena = d.arena[:len(d.arena)+n]
	v.SetBytes(room[:n:n])
	return nil
}

// strange returns the first byte that does not belong into base64, or -1.
func strange(b []byte) rune {
	for i, c := range b {
		if !alphabet[c] || c == '=' && i+1 < len(b) && b[i+1] != '=' {
			return rune(c)
		}
	}
	return -1
}

// alphabet has base64's characters, and the padding.
var alphabet = func() (all [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") {
		all[c] = true
	}
	return all
}()

// maxSaid bounds what of a value goes into a message, in bytes.
const maxSaid = 1024

// short cuts b to what a message may have of it.
func short(b []byte) []byte {
	if len(b) <= maxSaid {
		return b
	}
	return append(b[:maxSaid:maxSaid], "…"...)
}
