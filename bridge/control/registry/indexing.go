package registry

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// Indexing says what the fleet index (bridge/control/index) holds. At first it
// is nothing, as at AWS IoT.
type Indexing struct {
	Things       bool     `json:"things,omitempty"`       // what the registry has of things
	Shadows      bool     `json:"shadows,omitempty"`      // and their classic shadows
	Connectivity bool     `json:"connectivity,omitempty"` // and whether they are connected
	Named        bool     `json:"named,omitempty"`        // and the shadows of NamedShadows
	NamedShadows []string `json:"named_shadows,omitempty"`
	Fields       []Field  `json:"fields,omitempty"` // of things, whose type is said

	Groups      bool    `json:"groups,omitempty"` // thing groups
	GroupFields []Field `json:"group_fields,omitempty"`
}

// A Field is one of the fleet index with the type that its values are taken
// for: "String", "Number" or "Boolean".
type Field struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Limits of Indexing. AWS's are 10 and 5; a field costs nothing here.
const (
	MaxNamedShadows = 100
	MaxFields       = 100
)

var shadowName = regexp.MustCompile(`^[$a-zA-Z0-9:_-]{1,64}$`)

func (x *Indexing) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("indexing: %w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch {
	case !x.Things && (x.Shadows || x.Connectivity || x.Named):
		return bad("shadows and connectivity need the registry's things")
	case len(x.NamedShadows) > MaxNamedShadows:
		return bad("%d named shadows, want at most %d", len(x.NamedShadows), MaxNamedShadows)
	case len(x.Fields) > MaxFields || len(x.GroupFields) > MaxFields:
		return bad("more than %d custom fields", MaxFields)
	}
	for _, name := range x.NamedShadows {
		if !shadowName.MatchString(name) {
			return bad("shadow name %.80q", name)
		}
	}
	for i, f := range append(append([]Field{}, x.Fields...), x.GroupFields...) {
		if f.Type != "String" && f.Type != "Number" && f.Type != "Boolean" {
			return bad("field %.80q: type %.20q, want String, Number or Boolean", f.Name, f.Type)
		}
		of := x.Things
		if i >= len(x.Fields) {
			of = x.Groups
		}
		ok := of && strings.HasPrefix(f.Name, "attributes.")
		if i < len(x.Fields) && strings.HasPrefix(f.Name, "shadow.") {
			ok = x.Shadows
			if rest, named := strings.CutPrefix(f.Name, "shadow.name."); named {
				_, _, deeper := strings.Cut(rest, ".")
				ok = x.Named && deeper
			}
		}
		if !ok {
			return bad("field %.80q is none that is indexed and may be given a type", f.Name)
		}
	}
	return nil
}

// Indexing returns what the fleet index holds.
func (t *Tx) Indexing() (Indexing, error) {
	x := Indexing{}
	if raw := t.tx.Table(bMeta).Get(keyIndexing); raw != nil {
		if err := json.Unmarshal(raw, &x); err != nil {
			return x, fmt.Errorf("indexing: %w: %w", ErrCorrupt, err)
		}
	}
	return x, nil
}

// SetIndexing says what the fleet index holds from now on. What can't be is
// ErrInvalid; no things while there are dynamic groups is ErrInUse.
func (t *Tx) SetIndexing(x Indexing) error {
	if err := x.check(); err != nil {
		return err
	}
	for after := ""; !x.Things; {
		page, next, err := t.Groups(after, MaxPage)
		if err != nil {
			return err
		}
		for _, g := range page {
			if g.Query != "" {
				return fmt.Errorf("indexing: thing group %s is dynamic: %w", g.Name, ErrInUse)
			}
		}
		if after = next; next == "" {
			break
		}
	}
	t.changed(IndexingChanged, "")
	return t.put(bMeta, string(keyIndexing), &x)
}

// ThingNames lists the names of things; see Things. It doesn't read the things,
// so one that is damaged is listed, too.
func (t *Tx) ThingNames(after string, n int) (names []string, next string, err error) {
	next, err = t.page(bThings, after, n, func(key string, _ []byte) (bool, error) {
		names = append(names, key)
		return true, nil
	})
	return names, next, err
}
