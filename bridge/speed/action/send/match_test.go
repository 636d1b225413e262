package send

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/cockroachdb/apd/v3"
)

// engineTime is the clock of the vectors, ms.
const engineTime = 1481825251155

// decode reads JSON with all digits of its numbers.
func decode(text []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if err = dec.Decode(&v); err == nil && len(bytes.TrimSpace(text[dec.InputOffset():])) > 0 {
		err = fmt.Errorf("more than one value")
	}
	return v, err
}

// match compares got with what a vector wants, matchers of README-actions.md
// included.
func match(want, got any) error {
	if m, ok := want.(map[string]any); ok {
		for name, test := range matchers {
			if of, ok := m[name]; ok {
				return test(m, of, got)
			}
		}
		return matchObject(m, got, false)
	}
	switch w := want.(type) {
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return fmt.Errorf("%v, want a list of %d", got, len(w))
		}
		for i := range w {
			if err := match(w[i], g[i]); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		return nil
	case json.Number:
		return sameNumber(w.String(), got)
	case string:
		if b, ok := got.([]byte); ok {
			got = string(b)
		}
	}
	if want != got {
		return fmt.Errorf("%v (%T), want %v (%T)", got, got, want, want)
	}
	return nil
}

// matchObject compares members; open lets got have more.
func matchObject(want map[string]any, got any, open bool) error {
	g, ok := got.(map[string]any)
	if !ok {
		return fmt.Errorf("%v (%T), want an object", got, got)
	}
	for name, w := range want {
		v, there := g[name]
		m, _ := w.(map[string]any)
		if _, absent := m["$absent"]; absent {
			if there {
				return fmt.Errorf("%s: %v, want it not to be there", name, v)
			}
			continue
		}
		if optional, ok := m["$optional"]; ok {
			if !there {
				continue
			}
			w = optional
		}
		if !there {
			return fmt.Errorf("%s: missing, want %v", name, w)
		}
		if err := match(w, v); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name := range g {
		if _, ok := want[name]; !ok && !open {
			return fmt.Errorf("%s: not wanted: %v", name, g[name])
		}
	}
	return nil
}

var matchers map[string]func(m map[string]any, of, got any) error

func init() {
	matchers = map[string]func(m map[string]any, of, got any) error{
		"$json": func(m map[string]any, of, got any) error {
			text := toBytes(got)
			if suffix, ok := m["$suffix"].(string); ok {
				if !bytes.HasSuffix(text, []byte(suffix)) {
					return fmt.Errorf("%q, want it to end in %q", text, suffix)
				}
				text = text[:len(text)-len(suffix)]
			}
			v, err := decode(text)
			if err != nil {
				return fmt.Errorf("%q: %w", text, err)
			}
			return match(of, v)
		},
		"$includes": func(_ map[string]any, of, got any) error { return matchObject(of.(map[string]any), got, true) },
		"$base64": func(_ map[string]any, of, got any) error {
			want, err := base64.StdEncoding.DecodeString(of.(string))
			if err != nil || !bytes.Equal(want, toBytes(got)) {
				return fmt.Errorf("%q, want %q", toBytes(got), want)
			}
			return nil
		},
		"$b64of": func(_ map[string]any, of, got any) error {
			b, err := base64.StdEncoding.DecodeString(string(toBytes(got)))
			if err != nil {
				return err
			}
			return match(of, b)
		},
		"$regex": func(_ map[string]any, of, got any) error {
			if text := string(toBytes(got)); !regexp.MustCompile(of.(string)).MatchString(text) {
				return fmt.Errorf("%q, want it to match %s", text, of)
			}
			return nil
		},
		"$number": func(_ map[string]any, of, got any) error { return sameNumber(of.(string), got) },
		"$now": func(_ map[string]any, _, got any) error {
			ms, err := millis(got)
			if err == nil && (ms < engineTime-60_000 || ms > engineTime+60_000) {
				err = fmt.Errorf("%d ms, want about %d", ms, int64(engineTime))
			}
			return err
		},
		"$epoch": func(_ map[string]any, of, got any) error {
			ms, err := millis(got)
			if want, _ := of.(json.Number).Int64(); err == nil && ms/1000 != want {
				err = fmt.Errorf("%d ms, want %d s", ms, want)
			}
			return err
		},
	}
}

func toBytes(v any) []byte {
	switch v := v.(type) {
	case []byte:
		return v
	case string:
		return []byte(v)
	}
	return fmt.Append(nil, v)
}

// millis reads a time that is a number of seconds or of milliseconds.
func millis(v any) (int64, error) {
	d, _, err := apd.NewFromString(string(toBytes(v)))
	if err != nil {
		return 0, err
	}
	f, err := d.Float64()
	if f < 1e11 {
		f *= 1000
	}
	return int64(f + 0.5), err
}

func sameNumber(want string, got any) error {
	w, _, errW := apd.NewFromString(want)
	g, _, errG := apd.NewFromString(string(toBytes(got)))
	if errW != nil || errG != nil || w.Cmp(g) != 0 {
		return fmt.Errorf("%v, want %s", got, want)
	}
	return nil
}

// matchInput compares a call's input: members that are not listed may be there, of
// headers too.
func matchInput(want map[string]any, got map[string]any) error {
	want = mapsClone(want)
	if headers, ok := want["headers"].(map[string]any); ok {
		if err := matchObject(headers, got["headers"], true); err != nil {
			return fmt.Errorf("headers: %w", err)
		}
		delete(want, "headers")
	}
	if sets, ok := want["$sets"].(map[string]any); ok {
		if err := matchObject(sets, updated(got), false); err != nil {
			return fmt.Errorf("sets: %w", err)
		}
		delete(want, "$sets")
	}
	return matchObject(want, got, true)
}

func mapsClone(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// updated are the attributes that an UpdateItem sets.
func updated(in map[string]any) map[string]any {
	expression, _ := in["UpdateExpression"].(string)
	names, _ := in["ExpressionAttributeNames"].(map[string]any)
	values, _ := in["ExpressionAttributeValues"].(map[string]any)
	out := map[string]any{}
	for _, one := range strings.Split(strings.TrimPrefix(expression, "SET "), ",") {
		if name, value, ok := strings.Cut(one, "="); ok {
			n, _ := names[strings.TrimSpace(name)].(string)
			out[n] = values[strings.TrimSpace(value)]
		}
	}
	return out
}
