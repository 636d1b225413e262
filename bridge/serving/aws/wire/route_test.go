package wire

import (
	"fmt"
	"strings"
	"testing"
)

func routesOf(patterns ...string) *routes {
	all := &routes{}
	for _, p := range patterns {
		method, path, _ := strings.Cut(p, " ")
		all.add(&operation{Operation: &Operation{Name: p, Method: method, Path: path}})
	}
	return all
}

// A path finds the operation that says most of it, and gives what its segments
// took. What is signed for one path is nothing at another.
func TestRoutes(t *testing.T) {
	all := routesOf("GET /rules", "POST /rules/:rule", "POST /rules/:rule/enable", "PUT /rules/all", "GET /rules/:rule",
		"GET /lists/", "GET /lists", "POST /topics/:topic+", "GET /topics", "GET /a/:x/c", "GET /a/b/:y")
	for _, c := range []struct{ path, want string }{
		{"GET /rules", "GET /rules []"},
		{"GET /rules/", ""},
		{"GET rules", ""},
		{"GET *", ""},
		{"POST /rules", ""},
		{"POST /rules/a%2Fb", "POST /rules/:rule [a/b]"},
		{"POST /rules/a%20b/enable", "POST /rules/:rule/enable [a b]"},
		{"PUT /rules/all", "PUT /rules/all []"},
		{"GET /rules/all", "GET /rules/:rule [all]"}, // another method's segment is not in the way
		{"PUT /rules/one", ""},
		{"GET /lists/", "GET /lists/ []"},
		{"GET /lists", "GET /lists []"},
		{"GET /a/b/c", "GET /a/b/:y [c]"},
		{"GET /a/d/c", "GET /a/:x/c [d]"},
		{"GET /a/b/", ""},
		{"POST /topics/a/b%20c/d", "POST /topics/:topic+ [a/b c/d]"},
		{"POST /topics/a%2F%2Fb", "POST /topics/:topic+ [a//b]"},
		{"POST /topics/%2E/b", "POST /topics/:topic+ [./b]"},
		{"POST /topics/a%2", ""},
		{"GET /topics", "GET /topics []"},
		// The signature is the same for these and for others.
		{"POST /topics/", ""},
		{"POST /topics/.", ""},
		{"POST /topics/%2e%2e", ""},
		{"POST /topics/a//b", ""},
		{"POST /topics//b", ""},
		{"POST /topics/a/", ""},
		{"POST /topics/a/../b", ""},
		{"POST /topics/./b", ""},
		{"POST /rules//enable", ""},
		{"POST //rules/a", ""},
		{"POST /rules/a/.", ""},
		{"POST /rules/a/x/..", ""},
		{"POST /rules/./enable", ""},
		{"POST /rules/%2E/enable", ""},
	} {
		method, path, _ := strings.Cut(c.path, " ")
		got := ""
		if r, values := all.find(method, path); r != nil {
			got = fmt.Sprintf("%s %v", r.op.Name, values)
			if len(values) != len(r.names) {
				t.Errorf("%s: %v for %v", c.path, values, r.names)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", c.path, got, c.want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("two operations of one path")
		}
	}()
	routesOf("GET /a/:x", "GET /a/:y")
}

// Whatever the path, a route takes as many values as its pattern has, and none
// that the signature would understand otherwise.
func FuzzRoutes(f *testing.F) {
	f.Add("/rules/:a/enable", "/rules/%2e%2E/enable")
	f.Add("/:a/:b", "/x/%zz")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if !strings.HasPrefix(pattern, "/") || strings.HasSuffix(pattern, "+") {
			return
		}
		r, values := routesOf("GET "+pattern).find("GET", path)
		if r == nil {
			return
		}
		if strings.Count(pattern, "/") != strings.Count(path, "/") || len(values) != len(r.names) {
			t.Fatal(values)
		}
		for _, v := range values {
			if v == "" || v == "." || v == ".." {
				t.Fatal(values)
			}
		}
	})
}
