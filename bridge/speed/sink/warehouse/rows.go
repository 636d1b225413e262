package warehouse

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// errContent means that an object is not what it was declared to be.
var errContent = errors.New("content")

// plain reads data, which may be compressed.
func plain(data []byte, zipped bool) (io.ReadCloser, error) {
	if !zipped {
		return io.NopCloser(bytes.NewReader(data)), nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errContent, err)
	}
	return unzip{z}, nil
}

// unzip marks what is wrong with compressed data as the content's fault.
type unzip struct{ *gzip.Reader }

func (u unzip) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errContent, err)
	}
	return n, err
}

// A rows reads JSON objects and gives lines of CSV: for each object the values at
// paths, or the members that columns name. A member that is absent or null is an empty field, which
// is NULL; a string is quoted; a list or object is its JSON, quoted.
type rows struct {
	from    io.ReadCloser
	dec     *json.Decoder
	columns []string
	paths   []path // nil: columns
	fold    bool   // names are the same in upper and lower case
	line    []byte // not read yet
	n       int    // objects read
	err     error
}

func newRows(from io.ReadCloser, columns []string) *rows {
	return &rows{from: from, dec: json.NewDecoder(bufio.NewReader(from)), columns: columns}
}

func (r *rows) Close() error { return r.from.Close() }

func (r *rows) Read(p []byte) (n int, err error) {
	for n < len(p) && r.err == nil {
		if len(r.line) == 0 {
			r.err = r.next()
		}
		m := copy(p[n:], r.line)
		n, r.line = n+m, r.line[m:]
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, r.err
}

// next makes a line of the next object.
func (r *rows) next() error {
	values, err := r.values()
	if err == io.EOF {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: object %d: want a JSON object: %w", errContent, r.n, err)
	}
	r.n++
	line := r.line[:0]
	for i, v := range values {
		if i > 0 {
			line = append(line, ',')
		}
		switch {
		case len(v) == 0 || v[0] == 'n':
			continue
		case v[0] == '"':
			var s string
			if err := json.Unmarshal(v, &s); err != nil {
				return fmt.Errorf("%w: %w", errContent, err)
			}
			line = quoteField(line, s)
		case v[0] == '{' || v[0] == '[':
			var b bytes.Buffer
			if err := json.Compact(&b, v); err != nil {
				return fmt.Errorf("%w: %w", errContent, err)
			}
			line = quoteField(line, b.String())
		default:
			line = append(line, v...)
		}
	}
	r.line = append(line, '\n')
	return nil
}

// values are those of the next object.
func (r *rows) values() (all []json.RawMessage, err error) {
	if r.paths != nil {
		var doc json.RawMessage
		if err := r.dec.Decode(&doc); err != nil {
			return nil, err
		}
		if doc[0] != '{' && doc[0] != '[' { // a path may begin with an index
			return nil, errors.New("it is none")
		}
		for _, p := range r.paths {
			all = append(all, p.in(doc))
		}
		return all, nil
	}
	var object map[string]json.RawMessage
	if err := r.dec.Decode(&object); err != nil {
		return nil, err
	}
	if r.fold {
		folded := make(map[string]json.RawMessage, len(object))
		for name, v := range object {
			folded[strings.ToLower(name)] = v
		}
		object = folded
	}
	for _, c := range r.columns {
		if r.fold {
			c = strings.ToLower(c)
		}
		all = append(all, object[c])
	}
	return all, nil
}

func quoteField(line []byte, s string) []byte {
	return append(append(append(line, '"'), strings.ReplaceAll(s, `"`, `""`)...), '"')
}
