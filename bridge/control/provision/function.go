package provision

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxText bounds what a function makes, in bytes; a policy document has 2 KB.
const maxText = 64 << 10

// An evaluation computes values of a template by the functions in them: an
// object with one member, named Ref or Fn::something, stands for its result.
type evaluation struct {
	t        *Template
	values   map[string]string // of parameters
	foreign  map[string]bool   // those that the device gave
	document bool              // within a policy document
}

// functions of templates (developer guide, "Provisioning templates").
var functions = []string{"Ref", "Fn::Join", "Fn::Select", "Fn::FindInMap", "Fn::Split", "Fn::Sub"}

// call computes one of functions.
func (e *evaluation) call(name string, arg any) (any, error) {
	switch name {
	case "Ref":
		return e.ref(arg)
	case "Fn::Join":
		return e.join(arg)
	case "Fn::Select":
		return e.choose(arg)
	case "Fn::FindInMap":
		return e.findInMap(arg)
	case "Fn::Split":
		return e.split(arg)
	}
	return e.sub(arg)
}

// function returns what an object calls, "" for none.
func function(v any) (name string, arg any) {
	object, ok := v.(map[string]any)
	if !ok || len(object) != 1 {
		return "", nil
	}
	for name, arg = range object {
		if name == "Ref" || strings.HasPrefix(name, "Fn::") {
			return name, arg
		}
	}
	return "", nil
}

// computed says whether there is a function in v.
func computed(v any) bool {
	switch v := v.(type) {
	case []any:
		return slices.ContainsFunc(v, computed)
	case map[string]any:
		if name, _ := function(v); name != "" {
			return true
		}
		for _, x := range v {
			if computed(x) {
				return true
			}
		}
	}
	return false
}

// functions checks that all functions below v are known and refer to parameters
// that are declared.
func (t *Template) functions(at string, v any) error {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			if err := t.functions(at, x); err != nil {
				return err
			}
		}
	case map[string]any:
		name, arg := function(v)
		if name != "" && !slices.Contains(functions, name) {
			return fmt.Errorf("%w: %s: no function %q, want one of %v", ErrTemplate, at, name, functions)
		}
		if name != "" {
			if err := t.function(name, arg); err != nil {
				return fmt.Errorf("%w: %s: %s: %w", ErrTemplate, at, name, err)
			}
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if err := t.functions(strings.TrimPrefix(at+"."+k, "."), v[k]); err != nil {
				return err
			}
		}
	}
	return nil
}

// function checks what can be told of one function without parameters.
func (t *Template) function(name string, arg any) error {
	switch name {
	case "Ref":
		if to, _ := arg.(string); !t.mayReferTo(to) {
			return fmt.Errorf("there is no parameter %.100v", arg)
		}
		return nil
	case "Fn::Sub":
		text, own, err := substitution(arg)
		if err != nil {
			return err
		}
		_, err = substitute(text, func(name string) (string, error) {
			if _, ok := own[name]; !ok && !t.mayReferTo(name) {
				return "", fmt.Errorf("there is no parameter %.100q", name)
			}
			return "", nil
		})
		return err
	case "Fn::FindInMap":
		_, err := arguments(arg, 3)
		return err
	}
	_, err := arguments(arg, 2)
	return err
}

// value is v with all functions in it computed.
func (e *evaluation) value(v any) (any, error) {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			var err error
			if out[i], err = e.value(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		if name, arg := function(v); name != "" {
			out, err := e.call(name, arg)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			return out, nil
		}
		out := make(map[string]any, len(v))
		for k, x := range v {
			var err error
			if out[k], err = e.value(x); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

// text is v as text.
func (e *evaluation) text(v any) (string, error) {
	v, err := e.value(v)
	if err != nil {
		return "", err
	}
	s, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%.100v is a %T, want text", v, v)
	}
	return s, nil
}

// list is v as a list.
func (e *evaluation) list(v any) ([]any, error) {
	v, err := e.value(v)
	if err != nil {
		return nil, err
	}
	l, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%.100v is a %T, want a list", v, v)
	}
	return l, nil
}

// arguments checks that a function has n.
func arguments(arg any, n int) ([]any, error) {
	args, ok := arg.([]any)
	if !ok || len(args) != n {
		return nil, fmt.Errorf("want a list of %d arguments", n)
	}
	return args, nil
}

// special is what means something in policies: wildcards, those of MQTT,
// variables, and the quotes and escapes of JSON.
const special = `* ? + # $ " \`

// plain says whether a device's text stands for nothing but itself in a policy.
func plain(s string) bool {
	return !strings.ContainsAny(s, strings.ReplaceAll(special, " ", "")) &&
		!strings.ContainsFunc(s, unicode.IsControl) && utf8.ValidString(s)
}

// ref is {"Ref": parameter}.
func (e *evaluation) ref(arg any) (any, error) {
	name, _ := arg.(string)
	v, ok := e.values[name]
	if !ok {
		return nil, fmt.Errorf("there is no parameter %.100v", arg)
	}
	if e.document && e.foreign[name] && !plain(v) {
		return nil, fmt.Errorf("parameter %s: %.100q does not go into a policy: want none of %s", name, v, special)
	}
	return v, nil
}

// join is {"Fn::Join": [delimiter, [text, ...]]}.
func (e *evaluation) join(arg any) (any, error) {
	args, err := arguments(arg, 2)
	if err != nil {
		return nil, err
	}
	delimiter, err := e.text(args[0])
	if err != nil {
		return nil, err
	}
	list, err := e.list(args[1])
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("%.100v is a %T, want text", v, v)
		}
		if i > 0 {
			b.WriteString(delimiter)
		}
		if b.WriteString(s); b.Len() > maxText {
			return nil, fmt.Errorf("more than %d bytes", maxText)
		}
	}
	return b.String(), nil
}

// choose is {"Fn::Select": [index, [value, ...]]}; the index may be text.
func (e *evaluation) choose(arg any) (any, error) {
	args, err := arguments(arg, 2)
	if err != nil {
		return nil, err
	}
	v, err := e.value(args[0])
	if err != nil {
		return nil, err
	}
	i, err := strconv.Atoi(fmt.Sprint(v))
	if err != nil {
		return nil, fmt.Errorf("index %.100v, want a number", v)
	}
	list, err := e.list(args[1])
	if err != nil {
		return nil, err
	}
	if i < 0 || i >= len(list) {
		return nil, fmt.Errorf("index %d of %d values", i, len(list))
	}
	return list[i], nil
}

// findInMap is {"Fn::FindInMap": [mapping, key, key]}.
func (e *evaluation) findInMap(arg any) (any, error) {
	args, err := arguments(arg, 3)
	if err != nil {
		return nil, err
	}
	var keys [3]string
	for i := range keys {
		if keys[i], err = e.text(args[i]); err != nil {
			return nil, err
		}
	}
	v, ok := e.t.mappings[keys[0]][keys[1]][keys[2]]
	if !ok {
		return nil, fmt.Errorf("no Mappings.%s.%s.%s", keys[0], keys[1], keys[2])
	}
	return v, nil // plain: functions in mappings are not computed
}

// split is {"Fn::Split": [delimiter, text]}.
func (e *evaluation) split(arg any) (any, error) {
	args, err := arguments(arg, 2)
	if err != nil {
		return nil, err
	}
	delimiter, err := e.text(args[0])
	if err != nil {
		return nil, err
	}
	if delimiter == "" {
		return nil, errors.New("no delimiter")
	}
	text, err := e.text(args[1])
	if err != nil {
		return nil, err
	}
	var out []any
	for part := range strings.SplitSeq(text, delimiter) {
		out = append(out, part)
	}
	return out, nil
}

// sub is {"Fn::Sub": text} or {"Fn::Sub": [text, {name: value}]}: ${name} is
// replaced by the value of that name or the parameter, and ${!name} is ${name}.
// Variables of policies, such as ${iot:ClientId}, stay, which is a guess.
func (e *evaluation) sub(arg any) (any, error) {
	text, own, err := substitution(arg)
	if err != nil {
		return nil, err
	}
	done := map[string]string{} // each is computed once, however often it is used
	return substitute(text, func(name string) (string, error) {
		if v, ok := done[name]; ok {
			return v, nil
		}
		x, ok := own[name]
		if !ok {
			x = map[string]any{"Ref": name}
		}
		v, err := e.text(x)
		done[name] = v
		return v, err
	})
}

// substitution takes the argument of Fn::Sub apart.
func substitution(arg any) (text string, own map[string]any, err error) {
	if text, ok := arg.(string); ok {
		return text, nil, nil
	}
	args, err := arguments(arg, 2)
	if err != nil {
		return "", nil, err
	}
	text, ok := args[0].(string)
	if !ok {
		return "", nil, fmt.Errorf("%.100v is a %T, want text", args[0], args[0])
	}
	if own, ok = args[1].(map[string]any); !ok {
		return "", nil, fmt.Errorf("%.100v is a %T, want an object", args[1], args[1])
	}
	return text, own, nil
}

// substitute replaces each ${name} of text by what value says.
func substitute(text string, value func(name string) (string, error)) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		name, after, found := strings.Cut(rest, "}")
		if !found {
			return "", errors.New("a ${ without }")
		}
		v := "${" + strings.TrimPrefix(name, "!") + "}"
		if !strings.HasPrefix(name, "!") && !strings.HasPrefix(name, "iot:") && !strings.HasPrefix(name, "aws:") {
			var err error
			if v, err = value(name); err != nil {
				return "", err
			}
		}
		if b.WriteString(v); b.Len() > maxText {
			return "", fmt.Errorf("more than %d bytes", maxText)
		}
		text = after
	}
}
