package topic

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestValid(t *testing.T) {
	long := strings.Repeat("a", maxBytes)
	for _, c := range []struct {
		in           string
		name, filter error
	}{
		{"a", nil, nil},
		{"/", nil, nil},
		{"a//b", nil, nil},
		{"$aws/things/t/shadow/update", nil, nil},
		{" ", nil, nil},
		{"", errEmpty, errEmpty},
		{"a\x00b", errEncoding, errEncoding},
		{"a\xff", errEncoding, errEncoding},
		{long, nil, nil},
		{long + "a", errTooLong, errTooLong},
		{"#", errWildcard, nil},
		{"+", errWildcard, nil},
		{"a/#", errWildcard, nil},
		{"+/a/+/#", errWildcard, nil},
		{"a/#/b", errWildcard, errHash},
		{"a#", errWildcard, errHash},
		{"##", errWildcard, errHash},
		{"#/", errWildcard, errHash},
		{"a+", errWildcard, errPlus},
		{"+a/b", errWildcard, errPlus},
		{"a/b+/c", errWildcard, errPlus},
		{"++", errWildcard, errPlus},
	} {
		if got := ValidName(c.in); !errors.Is(got, c.name) {
			t.Errorf("ValidName(%.20q) = %v, want %v", c.in, got, c.name)
		}
		if got := ValidFilter(c.in); !errors.Is(got, c.filter) {
			t.Errorf("ValidFilter(%.20q) = %v, want %v", c.in, got, c.filter)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		filter, name string
		mqtt, rule   bool
	}{
		{"a", "a", true, true},
		{"a", "b", false, false},
		{"allowed", "allowed/secret", false, false},
		{"a/b", "a", false, false},
		{"a/", "a", false, false},
		{"a", "a/", false, false},
		{"+", "a", true, true},
		{"+", "a/b", false, false},
		{"+", "/a", false, false},
		{"+/+", "/a", true, true},
		{"/+", "/a", true, true},
		{"a/+", "a/", true, true},
		{"a/+", "a", false, false},
		{"#", "a", true, true},
		{"#", "/", true, true},
		{"a/#", "a/b/c", true, true},
		{"a/#", "a/", true, true},
		{"a/#", "a", true, false},
		{"+/#", "a", true, false},
		{"a/#", "ab", false, false},
		{"a/+/c", "a/b/c", true, true},
		{"a/+/c", "a/b/d", false, false},
		{"#", "$aws/x", false, false},
		{"+/x", "$aws/x", false, false},
		{"$aws/#", "$aws/x", true, true},
		{"$aws/#", "$aws", true, false},
		{"$aws/+", "$aws/x", true, true},
		{"a/#", "a/$x", true, true},
		{"$", "$", true, true},
	} {
		if got := Match(c.filter, c.name); got != c.mqtt {
			t.Errorf("Match(%q, %q) = %v", c.filter, c.name, got)
		}
		if got := MatchRule(c.filter, c.name); got != c.rule {
			t.Errorf("MatchRule(%q, %q) = %v", c.filter, c.name, got)
		}
		var tree Tree[int]
		tree.Add(c.filter, 1)
		n := 0
		tree.Match(c.name, func(int) { n++ })
		if (n == 1) != c.mqtt {
			t.Errorf("tree with %q reports %q %d times", c.filter, c.name, n)
		}
		n = 0
		tree.MatchRule(c.name, func(int) { n++ })
		if (n == 1) != c.rule {
			t.Errorf("tree with %q reports %q %d times in AWS's dialect", c.filter, c.name, n)
		}
	}
}

// random returns a well formed filter, or a name, of few distinct levels, so
// that matches are common.
func random(r *rand.Rand, wild bool) string {
	n := 1 + r.IntN(4)
	levels := make([]string, n)
	for i := range levels {
		words := []string{"", "a", "b", "c", "$x"}
		if wild {
			words = append(words, "+", "+")
			if i == n-1 {
				words = append(words, "#", "#", "#")
			}
		}
		levels[i] = words[r.IntN(len(words))]
	}
	if s := strings.Join(levels, "/"); s != "" {
		return s
	}
	return "a"
}

// The tree agrees with a list that is searched with Match, whatever is added
// and removed.
func TestTreeAgainstList(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	type entry struct {
		filter string
		id     int
	}
	var tree Tree[int]
	var list []entry
	for i := range 20000 {
		switch {
		case r.IntN(3) > 0 && len(list) < 200:
			f := random(r, true)
			if err := ValidFilter(f); err != nil {
				t.Fatalf("%q: %v", f, err)
			}
			tree.Add(f, i)
			list = append(list, entry{f, i})
		case len(list) > 0:
			k := r.IntN(len(list))
			e := list[k]
			list = slices.Delete(list, k, k+1)
			if n := tree.Remove(e.filter, func(v int) bool { return v == e.id }); n != 1 {
				t.Fatalf("Remove(%q) = %d", e.filter, n)
			}
			if n := tree.Remove(e.filter, func(v int) bool { return v == e.id }); n != 0 {
				t.Fatalf("second Remove(%q) = %d", e.filter, n)
			}
		}
		name := random(r, false)
		for _, d := range []struct {
			match func(string, string) bool
			tree  func(string, func(int))
		}{{Match, tree.Match}, {MatchRule, tree.MatchRule}} {
			var want, got []int
			for _, e := range list {
				if d.match(e.filter, name) {
					want = append(want, e.id)
				}
			}
			d.tree(name, func(v int) { got = append(got, v) })
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Fatalf("%q: got %v, want %v", name, got, want)
			}
		}
		if tree.Len() != len(list) {
			t.Fatalf("Len() = %d, want %d", tree.Len(), len(list))
		}
	}
	for _, e := range list {
		tree.Remove(e.filter, func(int) bool { return true })
	}
	if !tree.root.empty() {
		t.Error("nodes are left when all filters are gone")
	}
}

func TestTreeConcurrent(t *testing.T) {
	var tree Tree[int]
	tree.Add("a/+", -1)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Add(2)
		go func() {
			defer wg.Done()
			for i := range 500 {
				f := fmt.Sprintf("a/%d", i%10)
				tree.Add(f, g)
				tree.Remove(f, func(v int) bool { return v == g })
			}
		}()
		go func() {
			defer wg.Done()
			for range 500 {
				n := 0
				tree.Match("a/3", func(v int) {
					if v == -1 {
						n++
					}
				})
				if n != 1 {
					t.Errorf("the filter that stays was reported %d times", n)
				}
			}
		}()
	}
	wg.Wait()
}

// Match agrees with the definition of 4.7 spelled out over slices of levels.
func FuzzMatch(f *testing.F) {
	for _, s := range []string{"a/#|a", "+/b|a/b", "#|$x", "/+|/", "a/+/#|a/b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		filter, name, ok := strings.Cut(in, "|")
		if !ok || ValidFilter(filter) != nil || ValidName(name) != nil {
			return
		}
		want := slow(strings.Split(filter, "/"), strings.Split(name, "/"))
		if name[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
			want = false
		}
		if got := Match(filter, name); got != want {
			t.Fatalf("Match(%q, %q) = %v", filter, name, got)
		}
		if MatchRule(filter, name) && !want {
			t.Fatalf("MatchRule(%q, %q) matches what Match does not", filter, name)
		}
	})
}

func slow(f, n []string) bool {
	switch {
	case len(f) == 0:
		return len(n) == 0
	case f[0] == "#":
		return true
	case len(n) == 0:
		return false
	}
	return (f[0] == "+" || f[0] == n[0]) && slow(f[1:], n[1:])
}

func BenchmarkTreeMatch(b *testing.B) {
	var tree Tree[int]
	for i := range 10000 {
		tree.Add(fmt.Sprintf("$aws/things/t%d/shadow/update/delta", i), i)
		tree.Add(fmt.Sprintf("dt/t%d/+", i), i)
	}
	tree.Add("dt/#", -1)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		tree.Match("dt/t77/bme280", func(int) { n++ })
		if n != 2 {
			b.Fatal(n)
		}
	}
}
