package device

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/shadow"
)

// A route is a handler and the pattern of places it is for.
type route struct {
	pattern []string
	h       Handler
}

// Handle registers h for the places in desired that pattern names: keys
// joined by dots, "*" for any one key, such as "sensors.*.every". h gets the
// whole desired value found at such a place. Of two patterns that fit, the
// one with a key where the other has "*" counts, from the left. Handle panics
// if a shorter or equal pattern already covers the same places, and must not
// be called after Run.
func (d *Device) Handle(pattern string, h Handler) {
	p := strings.Split(pattern, ".")
	if slices.Contains(p, "") {
		panic(fmt.Sprintf("shadow device: pattern %q has an empty key", pattern))
	}
	for _, r := range d.routes {
		overlap := true
		for i := range min(len(p), len(r.pattern)) {
			overlap = overlap && (p[i] == r.pattern[i] || p[i] == "*" || r.pattern[i] == "*")
		}
		if overlap && (len(p) != len(r.pattern) || slices.Equal(p, r.pattern)) {
			panic(fmt.Sprintf("shadow device: pattern %q covers the places of %q", pattern,
				strings.Join(r.pattern, ".")))
		}
	}
	d.routes = append(d.routes, route{p, h})
	// A key sorts before "*", so the first match is the right one.
	slices.SortFunc(d.routes, func(a, b route) int {
		return slices.CompareFunc(a.pattern, b.pattern, func(x, y string) int {
			switch {
			case x == y:
				return 0
			case x == "*":
				return 1
			case y == "*":
				return -1
			}
			return strings.Compare(x, y)
		})
	})
}

func (d *Device) routeOf(path []string) Handler {
	for _, r := range d.routes {
		if len(r.pattern) == len(path) && slices.EqualFunc(r.pattern, path, func(p, k string) bool {
			return p == "*" || p == k
		}) {
			return r.h
		}
	}
	return nil
}

// leads tells whether path is on the way to places that have a handler.
func (d *Device) leads(path []string) bool {
	return slices.ContainsFunc(d.routes, func(r route) bool {
		return len(r.pattern) > len(path) &&
			slices.EqualFunc(r.pattern[:len(path)], path, func(p, k string) bool { return p == "*" || p == k })
	})
}

// nothing is the handler of an empty object on the way to places, which
// remains of a removed place: there is nothing to apply, so it is so.
var nothing = HandlerFunc(func(context.Context, []string, any) (any, error) { return nil, nil })

// A place is a value in desired that has a handler.
type place struct {
	path []string
	want any
	h    Handler
}

// An attempt is a desired value a handler did not take, or not wholly.
type attempt struct {
	want    any
	refusal string // "" if it took a part
}

func (p place) key() string { return strings.Join(p.path, ".") }

// places lists those of tree, in order of their names.
func (d *Device) places(out []place, tree map[string]any, path []string) []place {
	keys := make([]string, 0, len(tree))
	for k := range tree {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		at := append(path[:len(path):len(path)], k)
		if h := d.routeOf(at); h != nil {
			out = append(out, place{at, tree[k], h})
		} else if m, ok := tree[k].(map[string]any); ok && len(m) == 0 && d.leads(at) {
			out = append(out, place{at, m, nothing})
		} else if ok {
			out = d.places(out, m, at)
		}
	}
	return out
}

// maxErrorText bounds a refusal in reported, in bytes.
const maxErrorText = 200

// apply calls the handlers of all places where desired and reported differ,
// or of all places, and reports what comes of it.
func (l *link) apply(ctx context.Context, all bool) {
	d := l.d
	s := d.seen.Load()
	l.applied = s
	var patch map[string]any
	refused := make(map[string]bool)
	places := d.places(nil, s.desired, nil)
	l.clear(ctx, places)
	for _, p := range places {
		key := p.key()
		tried, ok := l.tried[key]
		same := ok && shadow.Equal(tried.want, p.want)
		differs := shadow.Delta(shadow.Nest(p.want, p.path...), s.reported) != nil
		if !all && (same || !differs) {
			if !differs {
				delete(l.tried, key)
			} else if tried.refusal != "" { // another writer may have removed it
				refused[key] = true
				patch = overlay(patch, shadow.Nest(tried.refusal, d.o.ErrorKey, key))
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		now, err := p.h.Apply(ctx, p.path, p.want)
		if err == nil {
			if now == nil {
				now = p.want
			}
			now, err = shadow.From(now)
		}
		if err != nil {
			text := refusalText(err)
			d.o.Log.Warn("desired value refused", "property", key, "err", err)
			l.tried[key], refused[key] = attempt{p.want, text}, true
			patch = overlay(patch, shadow.Nest(text, d.o.ErrorKey, key))
			continue
		}
		patch = overlay(patch, setting(s.reported, p.path, now))
		delete(l.tried, key)
		if shadow.Delta(shadow.Nest(p.want, p.path...), shadow.Nest(now, p.path...)) != nil {
			l.tried[key] = attempt{want: p.want} // applied in part: not again with the same value
		}
	}
	patch = l.endRefusals(patch, s.reported, refused)
	if len(patch) == 0 {
		return
	}
	if err := d.Report(patch); err != nil {
		d.o.Log.Error("report of applied values failed", "err", err)
	}
}

// refusalText is what is reported of an error.
func refusalText(err error) string {
	text := err.Error()
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	if text = strings.ToValidUTF8(text, ""); text == "" {
		text = "refused"
	}
	return text
}

// endRefusals adds to patch that refusals end which were reported and are not among
// refused: of values that are no longer desired, or applied now.
func (l *link) endRefusals(patch, reported map[string]any, refused map[string]bool) map[string]any {
	if old, _ := reported[l.d.o.ErrorKey].(map[string]any); len(old) > 0 {
		removed := make(map[string]any)
		for key := range old {
			if !refused[key] {
				removed[key] = nil
			}
		}
		switch {
		case len(removed) == len(old) && len(refused) == 0:
			patch = overlay(patch, map[string]any{l.d.o.ErrorKey: nil})
		case len(removed) > 0:
			patch = overlay(patch, map[string]any{l.d.o.ErrorKey: removed})
		}
	}
	return patch
}

// clear tells the handlers of places that are not desired any more.
func (l *link) clear(ctx context.Context, now []place) {
	for _, p := range l.asked {
		c, ok := p.h.(Clearer)
		if !ok || slices.ContainsFunc(now, func(n place) bool { return slices.Equal(n.path, p.path) }) {
			continue
		}
		delete(l.tried, p.key())
		if err := c.Clear(ctx, p.path); err != nil {
			l.d.o.Log.Warn("a setting that is not desired any more could not be taken back", "property", p.key(), "err",
				err)
		}
	}
	l.asked = now
}

// setting returns the patch that makes the value at path in reported v and
// nothing else: members that v does not have are removed.
func setting(reported map[string]any, path []string, v any) map[string]any {
	have, _ := shadow.At(reported, path...)
	from, wasObject := have.(map[string]any)
	to, isObject := v.(map[string]any)
	if !wasObject || !isObject {
		return shadow.Nest(v, path...)
	}
	diff := shadow.Diff(from, shadow.Merge(nil, to))
	if diff == nil {
		return nil
	}
	return shadow.Nest(diff, path...)
}

// overlay joins two patches without losing the nulls of either, which Merge
// would take as removals.
func overlay(a, b map[string]any) map[string]any {
	out := make(map[string]any, len(a)+len(b))
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		x, isA := out[k].(map[string]any)
		y, isB := v.(map[string]any)
		if isA && isB {
			out[k] = overlay(x, y)
			continue
		}
		out[k] = v
	}
	return out
}
