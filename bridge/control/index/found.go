package index

import (
	"errors"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/shadow"
)

// A Found is a thing with what is indexed of it.
type Found struct {
	registry.Thing
	Shadow   []byte    // JSON of the shadows as AWS writes them; nil: none
	Presence *Presence // nil: not indexed
}

// Things returns things by name as they are now, which may be a little later
// than Search found them; what is gone is left out.
func (x *Index) Things(names []string) (found []Found, err error) {
	x.mu.RLock()
	config := x.config
	x.mu.RUnlock()
	err = inRegistry.View(x.registry, func(tx records) error {
		for _, name := range names {
			th, err := tx.Thing(name)
			if errors.Is(err, registry.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			found = append(found, Found{Thing: th})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range found {
		f := &found[i]
		if f.Shadow, err = x.document(f.Name, &config); err != nil {
			return nil, err
		}
		if config.Connectivity && x.o.Connectivity {
			p := x.presence(f.Name)
			f.Presence = &p
		}
	}
	return found, nil
}

// document is a thing's shadows as SearchIndex has them: the classic one with
// the named ones in its member name.
func (x *Index) document(thing string, config *registry.Indexing) ([]byte, error) {
	doc := map[string]any{}
	if config.Shadows {
		d, err := x.shadows.Get(thing, "")
		if err != nil {
			return nil, err
		}
		if d.Alive() {
			doc = shadowDocument(d)
		}
	}
	named := map[string]any{}
	if config.Named {
		for _, name := range config.NamedShadows {
			d, err := x.shadows.Get(thing, name)
			if err != nil {
				return nil, err
			}
			if d.Alive() {
				named[name] = shadowDocument(d)
			}
		}
	}
	if len(named) > 0 {
		doc["name"] = named
	}
	if len(doc) == 0 {
		return nil, nil
	}
	return shadow.Append(nil, doc), nil
}

func shadowDocument(d *shadow.Document) map[string]any {
	delta, _ := d.Delta()
	doc := map[string]any{"hasDelta": delta != nil, "version": jsonNumber(d.Version)}
	times := map[string]any{}
	for _, s := range []struct {
		name         string
		state, times map[string]any
	}{{"desired", d.Desired, d.DesiredTimes}, {"reported", d.Reported, d.ReportedTimes}} {
		if s.state != nil {
			doc[s.name], times[s.name] = s.state, s.times
		}
	}
	if delta != nil {
		doc["delta"] = delta
	}
	if len(times) > 0 {
		doc["metadata"] = times
	}
	return doc
}
