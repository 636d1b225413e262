package authz

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/bridge/spelling"
)

// actionList has an action a line, as AWS's service authorization reference has
// them, and those of the bridge itself (tidemill:). Of services of AWS's that the
// bridge does not have, actions are read and have no effect, so that a mixed document
// can be brought along. Such a service stands without a name behind its colon, and any
// name will do; secretsmanager, which roles name, stands with its names.
//
//go:embed actions.txt
var actionList string

// actions are those of actionList, in lower case, by service in lower case. Values
// are as they are written.
var actions = sync.OnceValue(func() map[string]map[string]string {
	all := map[string]map[string]string{}
	for line := range strings.Lines(actionList) {
		service, name, _ := strings.Cut(strings.TrimSpace(line), ":")
		if all[service] == nil {
			all[service] = map[string]string{}
		}
		if name != "" {
			all[service][strings.ToLower(name)] = service + ":" + name
		}
	}
	return all
})

// errAction is wrapped by the errors of actions that do not exist.
var errAction = errors.New("no such action")

// ParseNew is Parse for a document that is about to be stored: an action that does
// not exist, or a pattern that no action matches, is an error that names the nearest
// one. A Deny with a slip of the pen denies nothing. Documents that are stored
// already are read by Parse, which lets such an action be: it has no effect.
func ParseNew(doc []byte) (*Document, error) {
	d, err := Parse(doc)
	if err != nil {
		return nil, err
	}
	if err := d.CheckActions(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return d, nil
}

// CheckActions returns an error if an action of d does not exist.
func (d *Document) CheckActions() error {
	for i := range d.statements {
		s := &d.statements[i]
		for n, p := range s.actions {
			if !exists(p) {
				return fmt.Errorf("statement %d: %w: %.200q%s", i+1, errAction, s.typed[n], nearest(p))
			}
		}
	}
	return nil
}

// exists says whether an encoded pattern in lower case matches an action.
func exists(pattern string) bool {
	service, name, ok := strings.Cut(pattern, ":")
	if !ok { // * alone
		return true
	}
	names, known := actions()[service]
	if !known {
		return false
	}
	if len(names) == 0 {
		return true
	}
	if names[name] != "" {
		return true
	}
	for n := range names {
		if matchGlob(name, n) {
			return true
		}
	}
	return false
}

// nearest names the action, or the service, that is nearest to a pattern; "" if
// none is near: more than a third of it would have to change.
func nearest(pattern string) string {
	text := strings.NewReplacer("\xff", "", "\xfe", "").Replace(pattern)
	service, _, _ := strings.Cut(text, ":")
	best, least := "", len(text)/3+1
	look := func(candidate, shown string) {
		d := spelling.Distance(text, candidate, least)
		if d < least || d == least && best != "" && shown < best {
			best, least = shown, d
		}
	}
	for s, names := range actions() {
		if _, known := actions()[service]; known && s != service {
			continue
		}
		for low, shown := range names {
			look(s+":"+low, shown)
		}
	}
	if _, known := actions()[service]; !known && best == "" {
		text, least = service, 2
		for s := range actions() {
			look(s, s+":")
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", the nearest is %q", best)
}
