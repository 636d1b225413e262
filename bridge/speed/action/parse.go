package action

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

// A parser reads action parameters and gathers what is wrong with them.
type parser struct {
	compile Templates
	catalog Catalog
	outbox  outbox // for actions that have one
	params  map[string]json.RawMessage
	errs    []error
	never   []error // what fails the action though it is made; see Target.Never
}

func (p *parser) bad(format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf(format, args...))
}

func (p *parser) read(doc json.RawMessage, known ...string) {
	if err := json.Unmarshal(doc, &p.params); err != nil {
		p.bad("%w", strictjson.Explain(doc, err))
	}
	for name := range p.params {
		if !slices.Contains(known, name) {
			p.bad("%s: unknown member; known are %s", name, strings.Join(known, ", "))
		}
	}
}

func (p *parser) text(name string) string {
	var s string
	if raw, ok := p.params[name]; !ok {
		p.bad("%s: missing", name)
	} else if err := json.Unmarshal(raw, &s); err != nil || s == "" {
		p.bad("%s: want a text", name)
	}
	return s
}

// raw returns a text as it stands in the document, for people to read.
func (p *parser) raw(name string) string {
	var s string
	_ = json.Unmarshal(p.params[name], &s) // what is wrong with it was said by text
	return s
}

func (p *parser) template(name, standard string) *iotsql.Template {
	text := standard
	if _, ok := p.params[name]; ok || standard == "" {
		text = p.text(name)
	}
	t, err := p.compile(text)
	if err != nil {
		p.bad("%s: %w", name, err)
	}
	return t
}

// topicTemplate undoes the doubled $ with which a republish topic writes a
// reserved topic ($$aws/…).
func (p *parser) topicTemplate(name string) *iotsql.Template {
	var s string
	if raw := p.params[name]; json.Unmarshal(raw, &s) == nil && strings.HasPrefix(s, "$$") {
		p.params[name], _ = json.Marshal(s[1:])
	}
	return p.template(name, "")
}

func (p *parser) oneOf(name string, allowed ...string) string {
	if _, ok := p.params[name]; !ok {
		return ""
	}
	var s string
	if err := json.Unmarshal(p.params[name], &s); err != nil || !slices.Contains(allowed, s) {
		p.bad("%s: want one of %q", name, allowed)
	}
	return s
}

func (p *parser) number(name string, least, most int) int {
	n := least
	if raw, ok := p.params[name]; ok {
		if err := json.Unmarshal(raw, &n); err != nil || n < least || n > most {
			p.bad("%s: want %d to %d", name, least, most)
		}
	}
	return n
}

// A constant is what an action has from what is the same for every message.
type constant struct{ never error }

// Never implements Target.
func (c constant) Never() error { return c.never }

// judged judges a parameter that has no substitution.
func judged(name string, t *iotsql.Template, judge func(string) error) error {
	if same, ok := t.Const(); ok {
		if err := judge(same); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
