package config

import (
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/agent/provision"
	"github.com/tidemill/tidemill/agent/sampler"
)

// String returns the duration as it is written.
func (d Duration) String() string { return time.Duration(d).String() }

// decode fills c from the tables of a TOML file. It is written out rather
// than left to the library, which stops at the first bad value.
func decode(file map[string]any, c *Config) []error {
	return table(file, reflect.ValueOf(c).Elem(), "")
}

func table(in map[string]any, out reflect.Value, prefix string) (errs []error) {
	fields := map[string]reflect.Value{}
	for i := range out.NumField() {
		if key := out.Type().Field(i).Tag.Get("toml"); key != "" {
			fields[key] = out.Field(i)
		}
	}
	for key, v := range in {
		f, known := fields[key]
		if !known {
			errs = append(errs, fmt.Errorf("%s%s: unknown key", prefix, key))
			continue
		}
		errs = append(errs, value(v, f, prefix+key)...)
	}
	return errs
}

// wrong says that a value is none of what is wanted.
func wrong(in any, key, want string) []error {
	if s, ok := in.(string); ok {
		in = strconv.Quote(s)
	}
	return []error{fmt.Errorf("%s: %v, want %s", key, in, want)}
}

// value decodes one value. What has a form of its own comes first.
func value(in any, out reflect.Value, key string) []error {
	switch p := out.Addr().Interface().(type) {
	case *Duration:
		s, ok := in.(string)
		d, err := time.ParseDuration(s)
		if !ok || err != nil {
			return wrong(in, key, `a duration such as "5s" or "1m30s"`)
		}
		*p = Duration(d)
		return nil
	case *Size:
		n, ok := size(in)
		if !ok {
			return wrong(in, key, `a size such as "64 MiB", or bytes`)
		}
		*p = n
		return nil
	case *Rate:
		if s, ok := in.(string); ok {
			in = strings.TrimSuffix(s, "/day")
		}
		n, ok := size(in)
		if !ok {
			return wrong(in, key, `bytes in a day such as "50 MiB/day"`)
		}
		*p = Rate(n)
		return nil
	case *[]string:
		return texts(in, p, key)
	case *[]Sensor:
		return sensors(in, p, key)
	case *Safe:
		return safe(in, p, key)
	case *map[string]any:
		m, ok := in.(map[string]any)
		if !ok {
			return wrong(in, key, "a table")
		}
		*p = m
		return nil
	case *map[string]sampler.Band:
		return members(in, key, p, band)
	case *map[string]sampler.Bounds:
		return members(in, key, p, bounds)
	case *map[string]Recovery:
		return members(in, key, p, recovery)
	case *map[string]Limit:
		return members(in, key, p, limit)
	}
	return scalar(in, out, key)
}

// texts decodes a list of strings.
func texts(in any, out *[]string, key string) []error {
	list, ok := in.([]any)
	if !ok {
		return wrong(in, key, "a list of strings")
	}
	for _, v := range list {
		s, ok := v.(string)
		if !ok {
			return wrong(v, key, "a list of strings")
		}
		*out = append(*out, s)
	}
	return nil
}

// sensors decodes the [[sensor]] tables.
func sensors(in any, out *[]Sensor, key string) (errs []error) {
	list, ok := in.([]map[string]any)
	if !ok {
		return wrong(in, key, "[[sensor]] tables")
	}
	for i, t := range list {
		var s Sensor
		errs = append(errs, table(t, valueOf(&s), fmt.Sprintf("%s[%d].", key, i))...)
		*out = append(*out, s)
	}
	return errs
}

func valueOf(p any) reflect.Value { return reflect.ValueOf(p).Elem() }

// scalar decodes texts, truth values, numbers and tables.
func scalar(in any, out reflect.Value, key string) []error {
	switch out.Kind() {
	case reflect.String:
		s, ok := in.(string)
		if !ok {
			return wrong(in, key, "a string")
		}
		out.SetString(s)
	case reflect.Bool:
		b, ok := in.(bool)
		if !ok {
			return wrong(in, key, "true or false")
		}
		out.SetBool(b)
	case reflect.Int64:
		n, ok := in.(int64)
		if !ok {
			return wrong(in, key, "a whole number")
		}
		out.SetInt(n)
	case reflect.Float64:
		x, ok := number(in)
		if !ok {
			return wrong(in, key, "a number")
		}
		out.SetFloat(x)
	case reflect.Struct:
		m, ok := in.(map[string]any)
		if !ok {
			return wrong(in, key, "a table")
		}
		return table(m, out, key+".")
	default:
		panic("config: no decoding for " + out.Type().String())
	}
	return nil
}

// units of sizes, the longest names first.
var units = []struct {
	name string
	n    float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}}

func size(in any) (Size, bool) {
	switch v := in.(type) {
	case int64:
		return Size(v), true
	case string:
		for _, u := range units {
			if num, ok := strings.CutSuffix(v, u.name); ok {
				f, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
				if err != nil || !(f >= 0) || f*u.n >= math.MaxInt64/2 {
					return 0, false
				}
				return Size(f * u.n), true
			}
		}
		n, err := strconv.ParseInt(v, 10, 64)
		return Size(n), err == nil
	}
	return 0, false
}

// each calls f for every single value of c, with its key and tags.
func each(c *Config, f func(key string, v reflect.Value, tag reflect.StructTag)) {
	var walk func(v reflect.Value, prefix string)
	walk = func(v reflect.Value, prefix string) {
		for i := range v.NumField() {
			field := v.Type().Field(i)
			key := prefix + field.Tag.Get("toml")
			switch {
			case field.Tag.Get("toml") == "": // not of a file
			case field.Type.Kind() == reflect.Struct:
				walk(v.Field(i), key+".")
			case field.Type.Kind() == reflect.Slice:
			default:
				f(key, v.Field(i), field.Tag)
			}
		}
	}
	walk(reflect.ValueOf(c).Elem(), "")
}

// resolve makes relative paths relative to dir.
func resolve(c *Config, dir string) {
	each(c, func(_ string, v reflect.Value, tag reflect.StructTag) {
		if p := v.String(); tag.Get("path") != "" && p != "" && p != provision.SystemRoots && !filepath.IsAbs(p) {
			v.SetString(filepath.Join(dir, p))
		}
	})
}

// assign sets a value from text: of the environment or a flag.
func assign(v reflect.Value, key, text string) []error {
	switch v.Interface().(type) {
	case Duration, Size, Rate, string:
		return value(text, v, key)
	case bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return value(text, v, key)
		}
		return value(b, v, key)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return value(text, v, key)
	}
	return value(n, v, key)
}

func environment(c *Config, lookup func(string) (string, bool)) (errs []error) {
	each(c, func(key string, v reflect.Value, tag reflect.StructTag) {
		if name := tag.Get("env"); name != "" {
			if text, ok := lookup(name); ok && text != "" {
				errs = append(errs, assign(v, key, text)...)
			}
		}
	})
	return errs
}

func flags(c *Config, set map[string]string) (errs []error) {
	var used []string
	each(c, func(key string, v reflect.Value, _ reflect.StructTag) {
		if text, ok := set[key]; ok {
			used = append(used, key)
			errs = append(errs, assign(v, key, text)...)
		}
	})
	for key := range set {
		if !slices.Contains(used, key) {
			errs = append(errs, fmt.Errorf("%s: unknown key", key))
		}
	}
	return errs
}
