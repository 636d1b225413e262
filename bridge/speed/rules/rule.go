// Package rules runs topic rules over the ingest log: one worker for each
// partition reads the log in order, evaluates every rule whose FROM matches,
// and commits what the rules' actions made together with its position in the
// log, so that each message takes effect once.
package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
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
	tracing   bool          // the statement may ask for the trace id
	count     *counters
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
	var wrapped struct {
		RuleName         string          `json:"ruleName"`
		TopicRulePayload json.RawMessage `json:"topicRulePayload"`
	}
	if json.Unmarshal(doc, &wrapped) == nil && wrapped.TopicRulePayload != nil {
		doc = wrapped.TopicRulePayload
		if wrapped.RuleName != "" {
			name = wrapped.RuleName
		}
	}
	fail := func(err error) (*Rule, error) { return nil, fmt.Errorf("rule %s: %w", name, err) }
	if !nameForm.MatchString(name) {
		return fail(errors.New("name: want 1 to 128 of a-z A-Z 0-9 _"))
	}
	var p Payload
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return fail(err)
	}
	r := &Rule{Name: name, Payload: p, Disabled: p.RuleDisabled, count: &counters{},
		tracing: strings.Contains(strings.ToLower(p.SQL), "traceid")}
	services := c.Services
	if services == nil {
		services = &iotsql.Services{}
	}
	var err error
	if r.statement, err = services.Compile(p.SQL, p.AwsIotSQLVersion); err != nil {
		return fail(fmt.Errorf("sql: %w", err))
	}
	if len(p.Actions) > maxActions {
		return fail(fmt.Errorf("actions: %d, want at most %d", len(p.Actions), maxActions))
	}
	var errs []error
	for i, doc := range p.Actions {
		t, err := action.Compile(doc, name, fmt.Sprint(i), r.statement.Template, c.Catalog)
		if err != nil {
			errs = append(errs, fmt.Errorf("actions[%d]: %w", i, err))
		}
		r.actions = append(r.actions, t)
	}
	if len(p.ErrorAction) > 0 && string(p.ErrorAction) != "null" {
		if r.onError, err = action.Compile(p.ErrorAction, name, "error", r.statement.Template, c.Catalog); err != nil {
			errs = append(errs, fmt.Errorf("errorAction: %w", err))
		}
	}
	if len(errs) > 0 {
		return fail(errors.Join(errs...))
	}
	return r, nil
}

// LoadDir compiles the rules of dir/*.json, each named after its file unless
// the document says otherwise. The files that are wrong are reported together;
// in the place of such a file's rule stands the one that it last held, if old
// (the rules in force) has it. A missing folder holds no rules.
func (c *Compiler) LoadDir(dir string, old []*Rule) ([]*Rule, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var all []*Rule
	var errs []error
	from := map[string]string{}
	for _, f := range files {
		r, err := c.loadFile(f)
		if err == nil && from[r.Name] != "" {
			err = fmt.Errorf("rule %s is in %s already", r.Name, from[r.Name])
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f, err))
			i := slices.IndexFunc(old, func(o *Rule) bool { return o.File == f && from[o.Name] == "" })
			if i < 0 {
				continue
			}
			r = old[i]
		}
		from[r.Name] = f
		all = append(all, r)
	}
	return all, errors.Join(errs...)
}

func (c *Compiler) loadFile(file string) (*Rule, error) {
	doc, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r, err := c.Parse(strings.TrimSuffix(filepath.Base(file), ".json"), doc)
	if err != nil {
		return nil, err
	}
	r.File = file
	return r, nil
}
