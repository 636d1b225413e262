package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// All reads doc, one JSON object, into the struct that into points to, as Decode
// does, but tells all that is wrong with it, each error by its member's path
// such as Destinations[0].BufferingHints.SizeInMBs. A member's name is the
// field's, to the letter.
func All(doc []byte, into any) []error {
	if err := json.Unmarshal(doc, new(json.RawMessage)); err != nil {
		return []error{Explain(doc, err)}
	}
	return all("", doc, reflect.ValueOf(into).Elem())
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// all reads raw, which is JSON, into v.
func all(path string, raw json.RawMessage, v reflect.Value) (errs []error) {
	raw = bytes.TrimSpace(raw)
	switch kind := v.Kind(); {
	case string(raw) == "null" && path != "":
		return nil
	case kind == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return all(path, raw, v.Elem())
	case reflect.PointerTo(v.Type()).Implements(unmarshaler):
	case kind == reflect.Struct:
		return members(path, raw, v)
	case kind == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8 && raw[0] == '[':
		var elements []json.RawMessage
		_ = json.Unmarshal(raw, &elements) // it is JSON
		v.Set(reflect.MakeSlice(v.Type(), len(elements), len(elements)))
		for i, e := range elements {
			errs = append(errs, all(fmt.Sprintf("%s[%d]", path, i), e, v.Index(i))...)
		}
		return errs
	}
	err := json.Unmarshal(raw, v.Addr().Interface())
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		err = fmt.Errorf("is %s, want %s", said(t.Value), wanted(t.Type))
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", path, err))
	}
	return errs
}

// members reads an object.
func members(path string, raw json.RawMessage, v reflect.Value) (errs []error) {
	if raw[0] != '{' {
		if path == "" {
			path = "the document"
		}
		return []error{fmt.Errorf("%s: want an object", path)}
	}
	var given map[string]json.RawMessage
	_ = json.Unmarshal(raw, &given) // it is JSON
	for _, name := range slices.Sorted(maps.Keys(given)) {
		at := name
		if path != "" {
			at = path + "." + name
		}
		if f, ok := v.Type().FieldByName(name); !ok || !f.IsExported() || f.Anonymous {
			errs = append(errs, fmt.Errorf("%.200s: unknown member", at))
		} else {
			errs = append(errs, all(at, given[name], v.FieldByIndex(f.Index))...)
		}
	}
	return errs
}
