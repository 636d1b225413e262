package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A sentKind is a kind of action whose deliveries a Sender does. Its members
// become the Delivery's parameters, in their order.
type sentKind struct {
	name     string
	members  []member
	resource string // the member that error documents name
	// judge judges parameters as the target would: those of a message, and when the
	// action is made those that no template makes, without the others. nil: nothing.
	judge func(d *Delivery) error
	// stage judges what the parameters and the document are together, and puts in what
	// is not of the document, such as the time of a metric. d.Data is the
	// statement's document; an error fails the action for good.
	stage func(d *Delivery) error
	// check judges members together when the action is made; nil: nothing.
	check func(p *parser)
}

// A member is one of an action's object.
type member struct {
	name     string
	form     form
	required bool
	empty    bool           // may be the empty text after substitution
	standard string         // where the document has none; "": then it is no parameter
	choices  []string       // of a choice
	pattern  *regexp.Regexp // of a text
	most     int            // bytes of the text in the document; 0: any
	secret   bool           // is not shown
	nested   *nested        // of forms that hold members, and of numbers
}

// A form is how a member is written.
type form int

const (
	template form = iota
	text          // as it stands: never a template
	choice        // one of a few texts
	boolean
)

// A parameter is a member that the document has, compiled.
type parameter struct {
	*member
	value    string           // as it stands in the document
	template *iotsql.Template // of templates
}

// toSender is an action of a sentKind.
type toSender struct {
	outbox
	kind     *sentKind
	params   []parameter
	resource string
}

// action returns the entry of k in the table of actions.
func (k *sentKind) action() kind {
	return kind{k.names(), func(p *parser) Target { return p.sent(k) }}
}

func (k *sentKind) names() (all []string) {
	for i := range k.members {
		all = append(all, k.members[i].name)
	}
	return all
}

func (p *parser) sent(k *sentKind) *toSender {
	t := &toSender{outbox: p.outbox, kind: k, resource: p.raw(k.resource)}
	for i := range k.members {
		t.params = append(t.params, p.all(&k.members[i])...)
	}
	if k.check != nil && len(p.errs) == 0 {
		k.check(p)
	}
	if len(p.errs) == 0 {
		t.never = errors.Join(append(p.never, t.constants())...)
	}
	return t
}

// constants judges the parameters that are the same for every message.
func (t *toSender) constants() error {
	d := &Delivery{Kind: t.kind.name}
	for _, p := range t.params {
		if p.template == nil {
			d.Parameters = append(d.Parameters, Parameter{p.name, p.value})
		} else if same, ok := p.template.Const(); ok {
			d.Parameters = append(d.Parameters, Parameter{p.name, same})
		}
	}
	if t.kind.judge != nil {
		if err := t.kind.judge(d); err != nil {
			return err
		}
	}
	if t.catalog == nil {
		return nil
	}
	return t.catalog.Takes(d)
}

// judge judges a parameter, if there is one of that name.
func (d *Delivery) judge(name string, judge func(string) error) error {
	i := slices.IndexFunc(d.Parameters, func(p Parameter) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	if err := judge(d.Parameters[i].Value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// member reads one member; ok is false if the document has none, and it has no
// standard.
func (p *parser) member(m *member) (x parameter, ok bool) {
	x.member = m
	raw, there := p.params[m.name]
	switch {
	case !there && m.required:
		p.bad("%s: missing", m.name)
		return x, false
	case !there:
		x.value = m.standard
		raw, _ = json.Marshal(m.standard)
		if m.standard == "" {
			return x, false
		}
	}
	if m.form == boolean {
		var on bool
		if err := json.Unmarshal(raw, &on); there && err != nil {
			p.bad("%s: want true or false", m.name)
		}
		x.value = strconv.FormatBool(on)
		return x, true
	}
	if err := json.Unmarshal(raw, &x.value); err != nil || x.value == "" && !m.empty {
		p.bad("%s: want a text", m.name)
		return x, false
	}
	switch {
	case m.form == choice && !slices.Contains(m.choices, x.value):
		p.bad("%s: want one of %q", m.name, m.choices)
	case m.pattern != nil && !m.pattern.MatchString(x.value):
		p.bad("%s: want it to match %s", m.name, m.pattern)
	case m.most > 0 && len(x.value) > m.most:
		p.bad("%s: %d bytes, want at most %d", m.name, len(x.value), m.most)
	}
	if m.form == template {
		var err error
		if x.template, err = p.compile(x.value); err != nil {
			p.bad("%s: %w", m.name, err)
		}
	}
	return x, true
}

func (t *toSender) Kind() string     { return t.kind.name }
func (t *toSender) Resource() string { return t.resource }

// errNothing says that there is nothing to do, such as for an empty array in
// batch mode. It fails nothing.
var errNothing = errors.New("there is nothing to send")

// something is err, if it is one.
func something(err error) error {
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// errNoArray fails an action in batch mode.
var errNoArray = errors.New("batchMode is on, and the statement made no JSON array")

// errEmpty fails the action: its target needs a text there.
var errEmpty = errors.New("the template gives no text, such as of an Undefined value")

func (t *toSender) resolve(ctx context.Context, in *Input) (*Delivery, error) {
	d := t.fill(in, &Delivery{Kind: t.kind.name, Name: t.resource, Hops: in.Hops + 1})
	for _, p := range t.params {
		v := p.value
		if p.template != nil {
			var err error
			if v, err = p.template.Text(ctx, in.Input); err != nil {
				return d, fmt.Errorf("%s: %w", p.name, err)
			}
		}
		d.Parameters = append(d.Parameters, Parameter{p.name, v})
		switch {
		case v == "" && !p.empty:
			return d, fmt.Errorf("%s: %w", p.name, errEmpty)
		case !utf8.ValidString(v):
			return d, fmt.Errorf("%s: bytes that are no UTF-8", p.name)
		case p.name == t.kind.resource:
			d.Name = v
		}
	}
	if t.kind.judge != nil {
		if err := t.kind.judge(d); err != nil {
			return d, err
		}
	}
	return d, t.kind.stage(d)
}

func (t *toSender) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	d, err := t.resolve(ctx, in)
	if errors.Is(err, errNothing) {
		return nil
	}
	return t.stage(b, d, err)
}

func (t *toSender) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	d, err := t.resolve(ctx, in)
	shown := slices.Clone(d.Parameters)
	for i := range shown {
		if slices.ContainsFunc(t.params, func(p parameter) bool { return p.secret && p.name == shown[i].Name }) {
			shown[i].Value = "***"
		}
	}
	return t.describe(d, something(err), shown...)
}

// oneOf judges a value that is one of a few texts.
func oneOf(choices ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(choices, v) {
			return fmt.Errorf("%.100q, want one of %q", v, choices)
		}
		return nil
	}
}

// set puts a parameter in the place of the one of that name, or last.
func (d *Delivery) set(name, value string) {
	for i := range d.Parameters {
		if d.Parameters[i].Name == name {
			d.Parameters[i].Value = value
			return
		}
	}
	d.Parameters = append(d.Parameters, Parameter{name, value})
}

// between checks the length of a parameter in bytes, if there is one.
func (d *Delivery) between(name string, least, most int) error {
	return d.judge(name, func(v string) error {
		if n := len(v); n < least || n > most {
			return fmt.Errorf("%d bytes, want %d to %d", n, least, most)
		}
		return nil
	})
}

// matches is a judge of values that a pattern describes, in words.
func matches(pattern *regexp.Regexp, want string) func(string) error {
	return func(v string) error {
		if !pattern.MatchString(v) {
			return fmt.Errorf("%.600q, want %s", v, want)
		}
		return nil
	}
}

// textData checks that the document is a text that a target takes which has no
// place for bytes.
func (d *Delivery) textData(most int) error {
	switch {
	case !utf8.Valid(d.Data):
		return errors.New("bytes that are no UTF-8, and the target takes text: encode(*, 'base64') makes one of them")
	case len(d.Data) > most:
		return fmt.Errorf("document of %d bytes, want at most %d", len(d.Data), most)
	}
	return nil
}

// jsonData checks that the document is one JSON text.
func (d *Delivery) jsonData(most int) error {
	if err := d.textData(most); err != nil {
		return err
	}
	if !json.Valid(d.Data) {
		return errors.New("no JSON, and the target takes nothing else: encode(*, 'base64') makes a text of bytes")
	}
	return nil
}

// object checks that the document is a JSON object.
func (d *Delivery) object(most int) error {
	if err := d.jsonData(most); err != nil {
		return err
	}
	if d.Data[0] != '{' { // no white space: JSON of a statement is compact, but a lone * passes the payload
		var any map[string]json.RawMessage
		if json.Unmarshal(d.Data, &any) != nil || any == nil {
			return errors.New("no JSON object, and the target takes nothing else")
		}
	}
	return nil
}
