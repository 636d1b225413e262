// Package rules runs topic rules over the ingest log: one worker for each
// partition reads the log in order, evaluates every rule whose FROM matches,
// and commits what the rules' actions made together with its position in the
// log, so that each message takes effect once.
//
// Engine.Why explains what a rule made of one message, and Engine.Replay
// compares a changed rule with the one in force over the messages that the log
// still has; neither has an effect.
package rules

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

// A Compiler makes rules of documents. Its members are fixed before the first
// call; several goroutines may use it.
type Compiler struct {
	Catalog  action.Catalog
	Services *iotsql.Services // what statements may ask; nil: nothing
}

// A Rule is a compiled topic rule. It is immutable but for its counters.
type Rule struct {
	Name     string
	Payload  Payload
	Disabled bool
	File     string // it was loaded from; "" if from none
	Created  time.Time

	statement *iotsql.Statement
	actions   []action.Target
	onError   action.Target // nil: none
	count     *counters
	slots     []*actionCounters // by slot, the error action's last
}

// A Payload is AWS's TopicRulePayload.
type Payload struct {
	SQL              string            `json:"sql"`
	Description      string            `json:"description,omitempty"`
	Actions          []json.RawMessage `json:"actions"`
	RuleDisabled     bool              `json:"ruleDisabled"`
	AwsIotSQLVersion string            `json:"awsIotSqlVersion,omitempty"`
	ErrorAction      json.RawMessage   `json:"errorAction,omitempty"`
}

// Never says which actions fail whatever the message is, and why, as Target.Never
// does; nil: none.
func (r *Rule) Never() error {
	var errs []error
	for i, t := range r.actions {
		if err := t.Never(); err != nil {
			errs = append(errs, fmt.Errorf("actions[%d]: %s: %w", i, t.Kind(), err))
		}
	}
	if r.onError != nil {
		if err := r.onError.Never(); err != nil {
			errs = append(errs, fmt.Errorf("errorAction: %s: %w", r.onError.Kind(), err))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("rule %s: %w", r.Name, errors.Join(errs...))
	}
	return nil
}

// Filter returns the topic filter of FROM, "" without one, and for a Rule that
// no Compiler made: one that is known by its Payload only.
func (r *Rule) Filter() string {
	if r.statement == nil {
		return ""
	}
	return r.statement.Filter()
}

// nameForm is CreateTopicRule's pattern for ruleName.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9_]{1,128}$`)

// maxActions is AWS's limit of actions per rule.
const maxActions = 10

// Parse compiles a rule from AWS's topic rule payload JSON; a document that
// wraps it, {"ruleName":…,"topicRulePayload":{…}}, is taken as well. Errors
// name their member.
func (c *Compiler) Parse(name string, doc []byte) (*Rule, error) {
	in, err := unwrapped(doc)
	if name = cmp.Or(in.name, name); err == nil {
		doc = in.doc
	}
	fail := func(err error) (*Rule, error) { return nil, fmt.Errorf("rule %s: %w", name, err) }
	if err != nil {
		return fail(err)
	}
	if !nameForm.MatchString(name) {
		return fail(errors.New("name: want 1 to 128 of a-z A-Z 0-9 _"))
	}
	var p Payload
	if err := decodePayload(doc, &p); err != nil {
		return fail(err)
	}
	if strings.TrimSpace(p.SQL) == "" {
		return fail(errors.New("sql: it is missing"))
	}
	r := &Rule{Name: name, Payload: p, Disabled: p.RuleDisabled, count: &counters{}}
	services := c.Services
	if services == nil {
		services = &iotsql.Services{}
	}
	if r.statement, err = services.Compile(p.SQL, p.AwsIotSQLVersion); err != nil {
		return fail(fmt.Errorf("sql: %w", err))
	}
	if err := r.statement.Check(); err != nil {
		return fail(fmt.Errorf("sql: %w", err))
	}
	template := func(text string) (*iotsql.Template, error) {
		t, err := r.statement.Template(text)
		if err != nil {
			return nil, err
		}
		return t, t.Check()
	}
	if len(p.Actions) > maxActions {
		return fail(fmt.Errorf("actions: %d, want at most %d", len(p.Actions), maxActions))
	}
	var errs []error
	for i, doc := range p.Actions {
		t, err := action.Compile(doc, name, fmt.Sprint(i), template, c.Catalog)
		if err != nil {
			errs = append(errs, fmt.Errorf("actions[%d]: %w", i, err))
		}
		r.actions = append(r.actions, t)
	}
	if len(p.ErrorAction) > 0 && string(p.ErrorAction) != "null" {
		if r.onError, err = action.Compile(p.ErrorAction, name, "error", template, c.Catalog); err != nil {
			errs = append(errs, fmt.Errorf("errorAction: %w", err))
		}
	}
	if len(errs) > 0 {
		return fail(errors.Join(errs...))
	}
	for range r.targets() {
		r.slots = append(r.slots, &actionCounters{})
	}
	return r, nil
}

// decodePayload reads a document of one JSON object and no more, whose members
// are a Payload's. Errors say in which line.
func decodePayload(doc []byte, p *Payload) error {
	if len(bytes.TrimSpace(doc)) == 0 {
		return errors.New("the document is empty")
	}
	var raw json.RawMessage
	err := json.Unmarshal(doc, &raw) // all of doc is one value
	if err != nil {
		return strictjson.Explain(doc, err)
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return errors.New(`want one object, {"sql": …, "actions": …}`)
	}
	for _, name := range []string{"Sql", "Actions", "RuleDisabled", "AwsIotSqlVersion", "TopicRulePayload"} {
		if _, ok := members[name]; ok {
			return fmt.Errorf("%s: this is CloudFormation's spelling; want that of aws iot create-topic-rule, "+
				"with every name in lower case at first, such as sql, actions and kinesis, and true or false "+
				"without quotes", name)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	err = dec.Decode(p)
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s: %s is not what it takes; want sql, description and awsIotSqlVersion as texts, "+
			"actions as a list, ruleDisabled as true or false",
			t.Field, t.Value)
	}
	return strictjson.Explain(doc, err)
}
