package iotsql

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"
)

// get takes an element by its index from 0, a member by its name, or a
// character of a String.
func get(f *frame, args []value) value {
	coll, key := args[0], args[1]
	if coll.kind == kindObject {
		if key.kind != kindText {
			return value{}
		}
		return f.member(coll.b, string(f.content(key)))
	}
	if coll.kind != kindArray && coll.kind != kindText {
		return value{}
	}
	i, ok := f.index(key, floor) // to Int: floor, our reading
	if !ok || i < 0 {
		return value{}
	}
	if coll.kind == kindText {
		s := f.content(coll)
		at := runeOffset(s, i)
		return present(s[at : at+runeOffset(s[at:], 1)])
	}
	it := elements(coll.b)
	for ; ; i-- {
		raw, ok := it.next()
		switch {
		case !ok || !f.work(1):
			return value{}
		case i == 0:
			return wireValue(raw)
		}
	}
}

// present is text that is Undefined when empty.
func present(s []byte) value {
	if len(s) == 0 {
		return value{}
	}
	return textValue(s)
}

// getOrDefault is get_or_default(x[, d]): d when x is Undefined, Null or a
// get_secret that fails. d is computed only then.
func getOrDefault(_ *node, args []eval) eval {
	return func(f *frame) value {
		before := f.err
		v := args[0](f)
		if before == nil && f.err == errSecretKey {
			f.err, v = nil, value{}
		}
		if v.kind != kindUndefined && v.kind != kindNull {
			return v
		}
		if len(args) == 2 {
			return args[1](f)
		}
		return value{}
	}
}

// checkEncode makes * of the payload its bytes.
func checkEncode(p *parser, n *node) {
	fixed(1)(p, n)
	p.payloadBytes(n)
}

// payloadBytes makes * as the first argument mean the payload's bytes and not
// its value, except in a nested query, where it is an element.
func (p *parser) payloadBytes(n *node) {
	if n.kids[0].op == opStar && p.nested == 0 {
		n.kids[0].op = opBytes
	}
}

// encode(x, 'base64') takes the string form, or of * the payload's bytes.
func encode(n *node, args []eval) eval {
	return func(f *frame) value {
		if scheme, ok := f.text(args[1](f)); !ok || string(scheme) != "base64" {
			return value{}
		}
		s, ok := f.text(args[0](f))
		if !ok {
			return value{}
		}
		return f.base64(s)
	}
}

func (f *frame) base64(s []byte) value {
	if !f.fits(base64.StdEncoding.EncodedLen(len(s))) {
		return value{}
	}
	from := len(f.arena)
	f.arena = base64.StdEncoding.AppendEncode(f.arena, s)
	return f.built(kindText, from)
}

// decode is decode(x, 'base64') or, with more arguments, decode of protobuf.
func decode(n *node, args []eval) eval {
	if len(args) > 2 {
		return decodeProto(n, args)
	}
	return func(f *frame) value {
		x := args[0](f)
		if scheme, ok := f.text(args[1](f)); !ok || string(scheme) != "base64" {
			return value{}
		}
		return decodeBase64(f, x)
	}
}

// decodeBase64 yields the value of JSON text, other text as a String, and
// Null for what can't be decoded: text that isn't base64 of UTF-8, and any x
// that isn't a String.
func decodeBase64(f *frame, x value) value {
	if x.kind == kindUndefined {
		return value{}
	}
	null := value{kind: kindNull}
	if x.kind != kindText {
		return null
	}
	s := f.content(x)
	if !f.fits(base64.StdEncoding.DecodedLen(len(s))) || !f.work(len(s)/64) {
		return value{}
	}
	from := len(f.arena)
	var err error
	f.arena, err = base64.StdEncoding.AppendDecode(f.arena, s)
	if err != nil {
		f.arena = f.arena[:from]
		return null
	}
	v := f.built(kindText, from)
	if !utf8.Valid(v.b) {
		return null
	}
	if doc := bytes.Trim(v.b, " \t\r\n"); skipValue(doc, 0, maxPayloadNesting) == len(doc) {
		return wireValue(doc)
	}
	return v
}

// transform("enrichArray", obj, arr) adds obj's members to each object of
// arr. Where both have a member, obj's wins, our reading.
func transform(f *frame, args []value) value {
	mode, _ := f.text(args[0])
	if string(mode) != "enrichArray" || args[1].kind != kindObject || args[2].kind != kindArray {
		return value{}
	}
	obj := args[1].b
	extra := bytes.TrimSpace(obj[1 : len(obj)-1])
	names := f.memberMap(obj)
	from := len(f.arena)
	f.arena = append(f.arena, '[')
	it := elements(args[2].b)
	for {
		raw, ok := it.next()
		if !ok || !f.fits(len(f.arena)-from+len(raw)+len(extra)) {
			break
		}
		if len(f.arena) > from+1 {
			f.arena = append(f.arena, ',')
		}
		if raw[0] != '{' {
			f.arena = append(f.arena, raw...)
			continue
		}
		f.arena = append(f.arena, '{')
		f.arena = append(f.arena, extra...)
		for m := members(raw); m.next() && f.work(1); {
			key := m.key
			if bytes.IndexByte(key, '\\') >= 0 {
				key = unescape(nil, key)
			}
			if _, ok := names[string(key)]; ok {
				continue
			}
			if f.arena[len(f.arena)-1] != '{' {
				f.arena = append(f.arena, ',')
			}
			f.arena = append(f.arena, raw[m.start:m.end]...)
		}
		f.arena = append(f.arena, '}')
	}
	f.arena = append(f.arena, ']')
	return f.built(kindArray, from)
}
