package iotsql

import (
	"bytes"

	"github.com/cockroachdb/apd/v3"
)

// SameDocument says whether two documents are the same bytes, or JSON of the
// same value: the order of members, space, and how a text or number is spelled
// make no difference, numbers being compared as exact decimals. Documents that
// have members of the same name may count as different ones.
func SameDocument(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, okX := jsonValue(a)
	y, okY := jsonValue(b)
	return okX && okY && sameValues(x, y)
}

// sameValues compares values of JSON text.
func sameValues(a, b value) bool {
	if a.kind != b.kind {
		return false
	}
	switch a.kind {
	case kindNumber:
		return sameNumber(a.b, b.b)
	case kindText:
		return bytes.Equal(plainText(a.b), plainText(b.b))
	case kindArray:
		return sameArrays(a.b, b.b)
	case kindObject:
		return sameObjects(a.b, b.b)
	}
	return a.c == b.c // a Boolean; or Null, which is 0
}

// sameNumber compares decimals. Those with an exponent beyond apd's, some
// 100,000, are the same only if they are spelled the same.
func sameNumber(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, _, errX := apd.NewFromString(string(a))
	y, _, errY := apd.NewFromString(string(b))
	return errX == nil && errY == nil && x.Cmp(y) == 0
}

// plainText returns what stands between a text's quotes without escapes.
func plainText(b []byte) []byte {
	if bytes.IndexByte(b, '\\') < 0 {
		return b
	}
	return unescape(nil, b)
}

func sameArrays(a, b []byte) bool {
	i, j := elements(a), elements(b)
	for {
		x, ok1 := i.next()
		y, ok2 := j.next()
		if !ok1 || !ok2 {
			return ok1 == ok2
		}
		if !sameValues(wireValue(x), wireValue(y)) {
			return false
		}
	}
}

// sameObjects compares members in the order they have, and by name from where
// that differs.
func sameObjects(a, b []byte) bool {
	i, j := members(a), members(b)
	for {
		ok1, ok2 := i.next(), j.next()
		if !ok1 || !ok2 {
			return ok1 == ok2
		}
		if !bytes.Equal(i.key, j.key) && !bytes.Equal(plainText(i.key), plainText(j.key)) {
			break
		}
		if !sameValues(wireValue(i.value), wireValue(j.value)) {
			return false
		}
	}
	x, y := map[string][]byte{}, map[string][]byte{}
	for more := true; more; more = i.next() {
		x[string(plainText(i.key))] = i.value
	}
	for more := true; more; more = j.next() {
		y[string(plainText(j.key))] = j.value
	}
	if len(x) != len(y) {
		return false
	}
	for name, v := range x {
		w, ok := y[name]
		if !ok || !sameValues(wireValue(v), wireValue(w)) {
			return false
		}
	}
	return true
}
