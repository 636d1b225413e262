package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// decode sets the keys that text has in c. It goes key by key, so that it can
// name every one that is unknown or of the wrong type, where toml would stop
// at the first. err is about the syntax, and then nothing was set.
func decode(text string, c *Config) (errs []error, err error) {
	var table map[string]toml.Primitive
	meta, err := toml.Decode(text, &table)
	if err != nil {
		return nil, syntaxError(text, err)
	}
	return decodeTable(meta, "", table, reflect.ValueOf(c).Elem()), nil
}

// syntaxError says in which line of text it is no TOML, and what is wanted there. The
// text itself is not told: it may have a key.
func syntaxError(text string, err error) error {
	parse, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return err
	}
	// By the offset: toml 1.6.0 takes the end of a line for the next one, and knows no
	// line, and panics in ParseError.ErrorWithPosition, of "\ at the end of a file. Of a
	// control character at the beginning it says -1.
	at := max(parse.Position.Start, 0)
	if parse.Position.Line == 0 || at > len(text) {
		at = len(text)
	}
	line := 1 + strings.Count(text[:at], "\n")
	return fmt.Errorf("line %d: want [table], [[table]] or key = value, as TOML has them: %s", line, parse.Message)
}

func decodeTable(meta toml.MetaData, path string, table map[string]toml.Primitive, into reflect.Value) (errs []error) {
	for _, name := range slices.Sorted(maps.Keys(table)) {
		key := path + name
		field, ok := fieldOf(into, name)
		if !ok {
			errs = append(errs, fmt.Errorf("%s: unknown key", key))
			continue
		}
		if field.Kind() == reflect.Struct {
			// toml decodes a number into a map without an error, so ask for the type.
			var inner map[string]toml.Primitive
			if meta.Type(strings.Split(key, ".")...) != "Hash" || meta.PrimitiveDecode(table[name], &inner) != nil {
				errs = append(errs, fmt.Errorf("%s: want a table, [%s]", key, key))
				continue
			}
			errs = append(errs, decodeTable(meta, key+".", inner, field)...)
			continue
		}
		if field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct {
			var list []map[string]toml.Primitive
			if err := meta.PrimitiveDecode(table[name], &list); err != nil {
				errs = append(errs, fmt.Errorf("%s: want tables, [[%s]]", key, key))
				continue
			}
			v := reflect.MakeSlice(field.Type(), len(list), len(list))
			for i, inner := range list {
				errs = append(errs, decodeTable(meta, fmt.Sprintf("%s[%d].", key, i), inner, v.Index(i))...)
			}
			field.Set(v)
			continue
		}
		// Decoded beside and then set: a list must not keep part of the default.
		v := reflect.New(field.Type())
		if err := meta.PrimitiveDecode(table[name], v.Interface()); err != nil {
			errs = append(errs, fmt.Errorf("%s: %s", key, reason(err)))
			continue
		}
		field.Set(v.Elem())
	}
	return errs
}

// fieldOf returns the field whose toml tag is name. Keys count with case; a
// field without a tag is no key.
func fieldOf(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if name != "" && v.Type().Field(i).Tag.Get("toml") == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// plain turns toml's words for types, which are Go's, into the reader's.
var plain = strings.NewReplacer("TOML value has type ", "is of type ", "; destination has type ", ", want ",
	"int64", "integer", "float64", "float", "[]any", "list", "map[string]any", "table", "boolean", "boolean", "bool",
	"boolean")

// reason strips what toml puts before the cause: the key is already there.
func reason(err error) string {
	s := err.Error()
	if parse, ok := errors.AsType[toml.ParseError](err); ok {
		s = parse.Message
	}
	s = strings.TrimPrefix(s, "toml: ")
	if _, rest, ok := strings.Cut(s, "incompatible types: "); ok {
		s = plain.Replace(rest)
	}
	return s
}
