package aws

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// An operation answers one kind of request.
type operation struct {
	name   string // as AWS calls it, "CreateTopicRule"
	method string
	path   string // segments between slashes; one that begins with ":" takes any text, and with "+" behind it the rest of the path
	// run returns what is written as JSON, nil for nothing.
	run func(*request) (any, error)
}

// A request is what an operation sees of a verified request.
type request struct {
	ctx    context.Context
	id     string            // of the request
	region string            // that it is signed for
	path   map[string]string // what the segments with ":" took
	query  url.Values
	header http.Header
	body   []byte
	remote string
	caller Caller // of the data plane; nil elsewhere
}

// route finds the operation of a service that method and path name.
func (h *Handler) route(service string, r *http.Request) (operation, map[string]string, error) {
	all, ok := h.services[service]
	if !ok {
		return operation{}, nil, fmt.Errorf("%w: the service %s is not served here, want one of %s", errUnknownOperation,
			service, strings.Join(slices.Sorted(maps.Keys(h.services)), ", "))
	}
	var names []string
	for _, op := range all {
		if op.method == r.Method {
			if values, ok := match(op.path, r.URL.EscapedPath()); ok {
				return op, values, nil
			}
		}
		names = append(names, op.name)
	}
	return operation{}, nil, fmt.Errorf("%w: %s %.200s is none that is served here; of %s there are %s", errUnknownOperation,
		r.Method, r.URL.EscapedPath(), service, strings.Join(names, ", "))
}

// match compares path, still escaped, to a pattern segment by segment. Dot
// segments are no values: the signature takes them for what they mean to a file
// system.
func match(pattern, path string) (map[string]string, bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if last := len(want) - 1; strings.HasSuffix(pattern, "+") && len(got) > last {
		rest := got[last:]
		if len(rest) > 1 && slices.ContainsFunc(rest, func(s string) bool { return s == "" || s == "." || s == ".." }) {
			return nil, false // the signature is the same without them
		}
		want[last] = want[last][:len(want[last])-1]
		got = append(got[:last:last], strings.Join(rest, "/"))
	}
	if len(want) != len(got) {
		return nil, false
	}
	values := map[string]string{}
	for i, w := range want {
		text, err := url.PathUnescape(got[i])
		name, free := strings.CutPrefix(w, ":")
		switch {
		case err != nil, text == ".", text == "..", free && text == "", !free && text != w:
			return nil, false
		case free:
			values[name] = text
		}
	}
	return values, true
}
