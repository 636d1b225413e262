package declare

import (
	"maps"
	"path/filepath"
	"slices"

	"github.com/tidemill/tidemill/bridge/speed/connector"
)

// maxGone is how many files that are gone are logged by name at a time.
const maxGone = 100

// logGone logs which files are gone since they were last in force, and what
// ended with each: at a start (first) those that went while the bridge did not
// run. What another file declares now, or is there without one, stays.
func (d *Dir) logGone(files []file, now map[string]outcome, first bool) {
	for _, f := range files[:min(maxGone, len(files))] {
		var ended, stay []string
		all := d.declares(f, now, first)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if all[name] {
				stay = append(stay, name)
			} else {
				ended = append(ended, name)
			}
		}
		log := d.opts.Log.Info
		if first && len(ended) > 0 {
			log = d.opts.Log.Warn // perhaps nobody meant it
		}
		log("a declaration is gone", "file", f.path, "ended", ended, "stays", stay)
	}
	if more := len(files) - maxGone; more > 0 {
		d.opts.Log.Info("further declarations are gone", "number", more)
	}
}

// declares names what a file declared, and says whether it is still there. A
// data stream always is; a delivery stream is until the next start.
func (d *Dir) declares(f file, now map[string]outcome, first bool) map[string]bool {
	dir := filepath.Dir(f.path)
	elsewhere := func(name string) bool {
		for path, o := range now {
			if filepath.Dir(path) == dir && o.name == name && o.holds > 0 {
				return true
			}
		}
		return false
	}
	all := map[string]bool{}
	switch filepath.Base(dir) {
	case "streams":
		if s, err := d.parseStream(f.doc); err == nil {
			all["stream "+s.name] = true
		}
	case "tables":
		if t, err := d.parseTable(f.doc); err == nil {
			all["table "+t.name] = elsewhere(t.name)
		}
	case "delivery-streams":
		if s, err := d.parseDelivery(f.doc); err == nil {
			all["delivery stream "+s.name] = !first || elsewhere(s.name)
		}
	case "rules":
		rs, _ := d.opts.Rules.parseFile(f) // none where one does not compile any more
		for _, r := range rs {
			_, err := d.opts.Rules.Rule(r.Name)
			all["rule "+r.Name] = err == nil
		}
	case "connectors":
		if c, err := connector.ParseFile(f.doc, d.opts.Connectors.env.Emit, true); err == nil {
			all["connector "+c.ConnectorName] = elsewhere(c.ConnectorName)
		}
	}
	if len(all) == 0 { // its content says no more, perhaps to an earlier version
		all["what it declared"] = false
	}
	return all
}
