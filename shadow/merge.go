package shadow

// Merge returns section with patch merged in, as the shadow service does:
// null removes, objects merge, anything else replaces. Neither argument is
// changed; the result shares what did not change. A result without members
// is nil.
func Merge(section, patch map[string]any) map[string]any {
	out, _ := merge(section, nil, patch, 0, false)
	if len(out) == 0 {
		return nil
	}
	return out
}

// merge returns state and times after patch, which stamps the leaves it names.
// Without stamping, times stay nil.
func merge(state, times, patch map[string]any, now Stamp, stamping bool) (outState, outTimes map[string]any) {
	outState = make(map[string]any, len(state)+len(patch))
	for k, v := range state {
		outState[k] = v
	}
	if stamping {
		outTimes = make(map[string]any, len(state)+len(patch))
		for k, v := range times {
			outTimes[k] = v
		}
	}
	for k, v := range patch {
		if v == nil {
			delete(outState, k)
			delete(outTimes, k)
			continue
		}
		inner, isObject := v.(map[string]any)
		old, wasObject := outState[k].(map[string]any)
		if !isObject || !wasObject {
			v = withoutNulls(v)
			outState[k] = v
			if stamping {
				outTimes[k] = stamps(v, now)
			}
			continue
		}
		oldTimes, _ := outTimes[k].(map[string]any)
		s, t := merge(old, oldTimes, inner, now, stamping)
		outState[k] = s
		if stamping {
			outTimes[k] = t
		}
	}
	return outState, outTimes
}

// withoutNulls drops null members at every depth. Arrays hold none.
func withoutNulls(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return v
	}
	out := make(map[string]any, len(m))
	for k, e := range m {
		if e != nil {
			out[k] = withoutNulls(e)
		}
	}
	return out
}

// Diff returns the least patch that makes from into to: Merge(from,
// Diff(from, to)) equals to. It is nil when they are equal.
func Diff(from, to map[string]any) map[string]any {
	var out map[string]any
	set := func(k string, v any) {
		if out == nil {
			out = make(map[string]any)
		}
		out[k] = v
	}
	for k := range from {
		if _, ok := to[k]; !ok {
			set(k, nil)
		}
	}
	for k, v := range to {
		old, ok := from[k]
		if ok && Equal(old, v) {
			continue
		}
		a, okA := old.(map[string]any)
		b, okB := v.(map[string]any)
		if okA && okB {
			if d := Diff(a, b); d != nil {
				set(k, d)
			}
			continue
		}
		set(k, v)
	}
	return out
}

// Delta returns what of desired is missing in reported or differs there, with
// the path from the root, or nil when nothing is. Arrays are compared and
// copied whole.
func Delta(desired, reported map[string]any) map[string]any {
	d, _ := delta(desired, nil, reported)
	return d
}

func delta(desired, times, reported map[string]any) (state, meta map[string]any) {
	for k, want := range desired {
		have, ok := reported[k]
		t := times[k]
		if ok {
			w, isObject := want.(map[string]any)
			h, hasObject := have.(map[string]any)
			if isObject && hasObject {
				inner, _ := t.(map[string]any)
				want, t := delta(w, inner, h)
				if want == nil {
					continue
				}
				state, meta = with(state, k, want), with(meta, k, t)
				continue
			}
			if Equal(want, have) {
				continue
			}
		}
		state, meta = with(state, k, want), with(meta, k, t)
	}
	return state, meta
}

func with(m map[string]any, k string, v any) map[string]any {
	if m == nil {
		m = make(map[string]any)
	}
	m[k] = v
	return m
}

// A Side is one end of a three-way merge.
type Side int

// The sides of Merge3.
const (
	Local Side = iota
	Cloud
)

// Merge3 joins two trees that grew from base, leaf by leaf: a change on one
// side is taken, and where both changed the same place, prefer wins. A
// removal is a change. Objects on both sides are joined member by member. A
// result without members is nil.
func Merge3(base, local, cloud map[string]any, prefer Side) map[string]any {
	out := merge3(base, local, cloud, prefer)
	if len(out) == 0 {
		return nil
	}
	return out
}

func merge3(base, local, cloud map[string]any, prefer Side) map[string]any {
	out := make(map[string]any, max(len(local), len(cloud)))
	join := func(k string) {
		b, inB := base[k]
		l, inL := local[k]
		c, inC := cloud[k]
		lo, lIsObject := l.(map[string]any)
		co, cIsObject := c.(map[string]any)
		if lIsObject && cIsObject {
			bo, _ := b.(map[string]any)
			out[k] = merge3(bo, lo, co, prefer)
			return
		}
		take, ok := l, inL
		switch {
		case same(b, inB, l, inL):
			take, ok = c, inC
		case same(b, inB, c, inC):
		case prefer == Cloud:
			take, ok = c, inC
		}
		if ok {
			out[k] = take
		}
	}
	for k := range local {
		join(k)
	}
	for k := range cloud {
		if _, done := local[k]; !done {
			join(k)
		}
	}
	return out
}

func same(a any, inA bool, b any, inB bool) bool {
	return inA == inB && (!inA || Equal(a, b))
}

// At returns the value at path in tree.
func At(tree map[string]any, path ...string) (any, bool) {
	var v any = tree
	for _, k := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[k]; !ok {
			return nil, false
		}
	}
	return v, true
}

// Nest returns the patch that sets path, of at least one name, to v.
func Nest(v any, path ...string) map[string]any {
	for i := len(path) - 1; i > 0; i-- {
		v = map[string]any{path[i]: v}
	}
	return map[string]any{path[0]: v}
}
