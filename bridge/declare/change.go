package declare

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
)

// A verdict is what became of a file since the last time.
type verdict int

const (
	applied     verdict = iota + 1
	refusedKept         // refused; what it declared before stays
	refusedBare         // refused, and there is nothing of before
	gone                // and what it declared was in force
	goneRefused         // and nothing of it was in force
)

// A change is a file whose content, or why it is refused, is not what it was.
type change struct {
	path        string
	verdict     verdict
	before, now string // SHA-256 of its content; "" for none
	err         error  // why it is refused
}

// changesOf compares what became of files with the last time, nil for none: first
// the files that are there, by path, then those that are gone.
func changesOf(before, now map[string]outcome) (all []change) {
	sum := func(o outcome) string { return hex.EncodeToString(o.sum[:]) }
	for _, path := range slices.Sorted(maps.Keys(now)) {
		o := now[path]
		c := change{path: path, verdict: applied, now: sum(o), err: o.err}
		old, was := before[path]
		if was && o.sum == old.sum && fmt.Sprint(o.err) == fmt.Sprint(old.err) {
			continue
		}
		if was {
			c.before = sum(old)
		}
		switch {
		case o.err != nil && stays(now, path):
			c.verdict = refusedKept
		case o.err != nil:
			c.verdict = refusedBare
		}
		all = append(all, c)
	}
	for _, path := range slices.Sorted(maps.Keys(before)) {
		if _, there := now[path]; there {
			continue
		}
		c := change{path: path, verdict: gone, before: sum(before[path])}
		if before[path].holds == 0 {
			c.verdict = goneRefused
		}
		all = append(all, c)
	}
	return all
}

// report calls Changed for each change.
func (d *Dir) report(changes []change) {
	if d.opts.Changed == nil {
		return
	}
	for _, c := range changes {
		d.opts.Changed(c.path, c.before, c.now, c.err)
	}
}

// logChanges logs what differs from the last time; logGone has what is gone and was
// in force.
func (d *Dir) logChanges(changes []change) {
	by := map[verdict][]string{}
	for _, c := range changes {
		by[c.verdict] = append(by[c.verdict], c.path)
		switch c.verdict {
		case refusedBare:
			d.opts.Log.Error("a declaration is refused, and there is none of before", "file", c.path, "err", c.err)
		case refusedKept:
			d.opts.Log.Error("a declaration is refused; what it declared before stays", "file", c.path, "err", c.err)
		}
	}
	const shown = 10 // of perhaps thousands
	if all := by[applied]; len(all) > 0 {
		d.opts.Log.Info("declarations applied", "number", len(all), "files", all[:min(shown, len(all))])
	}
	if all := by[goneRefused]; len(all) > 0 {
		d.opts.Log.Info("refused declarations are gone", "number", len(all), "files", all[:min(shown, len(all))])
	}
}
