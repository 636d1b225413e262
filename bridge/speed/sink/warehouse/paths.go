package warehouse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Path is where a column's value is in a JSON object: names (strings) and indices
// (ints) from the root on.
type path []any

// maxPaths is as many columns as a table of PostgreSQL has.
const maxPaths = 1600

// parsePaths reads a JSONPaths file of Redshift's COPY: {"jsonpaths": ["$.a.b",
// "$['c'][0]"]}, one path for each column.
func parsePaths(doc []byte) (all []path, err error) {
	var in struct {
		Paths []string `json:"jsonpaths"`
	}
	if err := json.Unmarshal(doc, &in); err != nil {
		return nil, fmt.Errorf("JSONPaths: %w", err)
	}
	if n := len(in.Paths); n == 0 || n > maxPaths {
		return nil, fmt.Errorf("JSONPaths: %d, want 1 to %d", n, maxPaths)
	}
	for i, text := range in.Paths {
		p, err := parsePath(text)
		if err != nil {
			return nil, fmt.Errorf("JSONPaths[%d]: %.100q: %w", i, text, err)
		}
		all = append(all, p)
	}
	return all, nil
}

var errPath = errors.New(`want $ and then .NAME, ['NAME'] or [NUMBER]`)

func parsePath(text string) (p path, err error) {
	rest, ok := strings.CutPrefix(text, "$")
	if !ok || rest == "" {
		return nil, errPath
	}
	for rest != "" {
		switch rest[0] {
		case '.':
			n := strings.IndexAny(rest[1:], ".[")
			if n < 0 {
				n = len(rest) - 1
			}
			if n == 0 {
				return nil, errPath
			}
			p, rest = append(p, rest[1:1+n]), rest[1+n:]
		case '[':
			var el any
			if el, rest, err = bracket(rest[1:]); err != nil {
				return nil, err
			}
			p = append(p, el)
		default:
			return nil, errPath
		}
	}
	return p, nil
}

// bracket reads what stands between [ and ].
func bracket(text string) (el any, rest string, err error) {
	if text != "" && (text[0] == '\'' || text[0] == '"') {
		name, rest, ok := strings.Cut(text[1:], text[:1]+"]")
		if !ok {
			return nil, "", errPath
		}
		return name, rest, nil
	}
	number, rest, ok := strings.Cut(text, "]")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 0 {
		return nil, "", errPath
	}
	return n, rest, nil
}

// in finds the value in an object; nil where it is not.
func (p path) in(v json.RawMessage) json.RawMessage {
	for _, el := range p {
		if v = bytes.TrimSpace(v); len(v) == 0 {
			return nil
		}
		switch el := el.(type) {
		case string:
			var object map[string]json.RawMessage
			if v[0] != '{' || json.Unmarshal(v, &object) != nil {
				return nil
			}
			v = object[el]
		case int:
			var list []json.RawMessage
			if v[0] != '[' || json.Unmarshal(v, &list) != nil || el >= len(list) {
				return nil
			}
			v = list[el]
		}
	}
	return bytes.TrimSpace(v)
}
