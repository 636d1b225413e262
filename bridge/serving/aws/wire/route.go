package wire

import (
	"fmt"
	"net/url"
	"strings"
)

// routes find the operations of REST protocols by method and path: a tree of the
// segments of paths. It is written by hand since a path must mean what is
// signed: http.ServeMux redirects those with dot segments and double slashes,
// which the signature takes out.
type routes struct {
	text  map[string]*routes // by what a segment is
	any   *routes            // whatever it is
	ends  map[string]*route  // by method, of paths that end here
	rests map[string]*route  // by method, of those that take the rest as one value
}

// A route is an operation at the end of a path, and the names of what the
// segments took.
type route struct {
	op    *operation
	names []string
}

// add makes a route of op. It panics if there is one: paths are part of the
// program.
func (n *routes) add(op *operation) {
	r := &route{op: op}
	segments := strings.Split(op.Path, "/")[1:]
	for i, s := range segments {
		name, free := strings.CutPrefix(s, ":")
		if free {
			r.names = append(r.names, strings.TrimSuffix(name, "+"))
		}
		switch {
		case free && strings.HasSuffix(name, "+") && i == len(segments)-1:
			n.rests = put(n.rests, op, r)
			return
		case free:
			if n.any == nil {
				n.any = &routes{}
			}
			n = n.any
		default:
			if n.text == nil {
				n.text = map[string]*routes{}
			}
			if n.text[s] == nil {
				n.text[s] = &routes{}
			}
			n = n.text[s]
		}
	}
	n.ends = put(n.ends, op, r)
}

func put(all map[string]*route, op *operation, r *route) map[string]*route {
	if all == nil {
		all = map[string]*route{}
	}
	if old := all[op.Method]; old != nil {
		panic(fmt.Sprintf("wire: %s %s is %s and %s", op.Method, op.Path, old.op.Name, op.Name))
	}
	all[op.Method] = r
	return all
}

// find returns the route of a path, still escaped, and what its segments took;
// nil for none. A segment of the very text counts before one that takes any, and
// that before the rest of the path.
func (n *routes) find(method, path string) (*route, []string) {
	path, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, nil
	}
	return n.walk(method, path, nil)
}

// walk is find from n on. Dot segments are no values: the signature takes them
// for what they mean to a file system.
func (n *routes) walk(method, path string, values []string) (*route, []string) {
	raw, more, inside := strings.Cut(path, "/")
	text, err := url.PathUnescape(raw)
	if err != nil {
		return nil, nil
	}
	next := func(n *routes, values []string) (*route, []string) {
		switch {
		case n == nil || dots(text):
			return nil, nil
		case inside:
			return n.walk(method, more, values)
		}
		return n.ends[method], values
	}
	if r, all := next(n.text[text], values); r != nil {
		return r, all
	}
	if text != "" {
		if r, all := next(n.any, append(values, text)); r != nil {
			return r, all
		}
	}
	if r := n.rests[method]; r != nil {
		for part := range strings.SplitSeq(path, "/") {
			if inside && (part == "" || dots(part)) {
				return nil, nil // the signature is the same without it
			}
		}
		if text, err = url.PathUnescape(path); err == nil && text != "" && !dots(text) {
			return r, append(values, text)
		}
	}
	return nil, nil
}

func dots(segment string) bool { return segment == "." || segment == ".." }
