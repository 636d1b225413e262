package iot

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// TopicRules are the rules in force, and those that are disabled. Create and
// Replace take AWS's TopicRulePayload. What changed is durable when a call
// returns. Errors wrap those of registry, and of a statement
// *iotsql.SyntaxError.
type TopicRules interface {
	Create(ctx context.Context, name string, doc []byte) error         // registry.ErrExists
	Replace(ctx context.Context, name string, doc []byte) error        // registry.ErrNotFound
	Delete(ctx context.Context, name string) error                     // registry.ErrNotFound
	SetDisabled(ctx context.Context, name string, disabled bool) error // registry.ErrNotFound
	Rule(name string) (*rules.Rule, error)                             // registry.ErrNotFound
	Rules() []*rules.Rule                                              // by name
}

// topicRules are the operations of AWS IoT's topic rules.
type topicRules struct {
	account string
	rules   TopicRules
}

func (t *topicRules) operations() []operation {
	return []operation{
		// x-amz-tagging may be sent; tags are not kept.
		{"CreateTopicRule", "POST", "/rules/:ruleName", t.create},
		{"GetTopicRule", "GET", "/rules/:ruleName", t.get},
		{"ReplaceTopicRule", "PATCH", "/rules/:ruleName", t.replace},
		{"DeleteTopicRule", "DELETE", "/rules/:ruleName", t.delete},
		{"ListTopicRules", "GET", "/rules", t.list},
		{"EnableTopicRule", "POST", "/rules/:ruleName/enable", t.setDisabled(false)},
		{"DisableTopicRule", "POST", "/rules/:ruleName/disable", t.setDisabled(true)},
	}
}

func (t *topicRules) arn(r *wire.Request, name string) string {
	return arnOf(r, t.account, "rule", name)
}

// denied puts AWS's answer for a rule that is not there, which has no error of
// its own, in the place of registry.ErrNotFound. Users of Terraform and the
// SDKs report it of GetTopicRule, and its clients look for the text
// (hashicorp/terraform-provider-aws, findTopicRuleByName); that the other
// operations say the same is a guess.
func denied(name string, err error) error {
	if errors.Is(err, registry.ErrNotFound) {
		return wire.Errorf(401, "UnauthorizedException", "Access to topic rule '%s' was denied", name)
	}
	return err
}

func (t *topicRules) create(r *wire.Request) (any, error) {
	name := r.Path("ruleName")
	err := t.rules.Create(r.Context(), name, r.Body)
	if errors.Is(err, registry.ErrExists) {
		return nil, exists(err, name, t.arn(r, name))
	}
	return nil, err
}

func (t *topicRules) replace(r *wire.Request) (any, error) {
	name := r.Path("ruleName")
	return nil, denied(name, t.rules.Replace(r.Context(), name, r.Body))
}

func (t *topicRules) delete(r *wire.Request) (any, error) {
	name := r.Path("ruleName")
	return nil, denied(name, t.rules.Delete(r.Context(), name))
}

func (t *topicRules) setDisabled(disabled bool) run {
	return func(r *wire.Request) (any, error) {
		name := r.Path("ruleName")
		return nil, denied(name, t.rules.SetDisabled(r.Context(), name, disabled))
	}
}

// A topicRule is AWS's TopicRule.
type topicRule struct {
	Name             string            `json:"ruleName"`
	SQL              string            `json:"sql"`
	Description      string            `json:"description,omitempty"`
	CreatedAt        int64             `json:"createdAt"` // s since 1970
	Actions          []json.RawMessage `json:"actions"`
	Disabled         bool              `json:"ruleDisabled"`
	AwsIotSQLVersion string            `json:"awsIotSqlVersion"`
	ErrorAction      json.RawMessage   `json:"errorAction,omitempty"`
}

func (t *topicRules) get(r *wire.Request) (any, error) {
	name := r.Path("ruleName")
	rule, err := t.rules.Rule(name)
	if err != nil {
		return nil, denied(name, err)
	}
	p := rule.Payload
	version := p.AwsIotSQLVersion
	if version == "" {
		version = iotsql.Version2015
	}
	actions, errorAction := p.Actions, p.ErrorAction
	if actions == nil {
		actions = []json.RawMessage{}
	}
	if string(errorAction) == "null" {
		errorAction = nil
	}
	if r.Authorize("iot:ReplaceTopicRule", t.arn(r, rule.Name)) != nil { // headers, passwords and URLs are for who may
		actions, errorAction = slices.Clone(actions), hiddenAction(errorAction)
		for i := range actions {
			actions[i] = hiddenAction(actions[i])
		}
	}
	return struct {
		ARN  string    `json:"ruleArn"`
		Rule topicRule `json:"rule"`
	}{t.arn(r, rule.Name), topicRule{rule.Name, p.SQL, p.Description, rule.Created.Unix(), actions, rule.Disabled,
		version, errorAction}}, nil
}

// hiddenAction is an action as it is shown to who may not change its rule; nil for none.
func hiddenAction(doc json.RawMessage) json.RawMessage {
	if doc == nil {
		return nil
	}
	return audit.Hidden(doc)
}

// maxResults is the most, and what is listed when nothing is asked:
// terraform-provider-aws looks at the first page only.
const maxResults = 10000

// A listedRule is AWS's TopicRuleListItem.
type listedRule struct {
	ARN       string `json:"ruleArn"`
	Name      string `json:"ruleName"`
	Pattern   string `json:"topicPattern"`
	CreatedAt int64  `json:"createdAt"` // s since 1970
	Disabled  bool   `json:"ruleDisabled"`
}

// list gives the rules by name. The guide says of the parameter topic that the
// rules are listed "for the specific topic"; taken are those whose FROM is that
// text, or matches it.
func (t *topicRules) list(r *wire.Request) (any, error) {
	most, err := number(r.Query.Get("maxResults"))
	if err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(r.Query.Get("nextToken"))
	if err != nil {
		return nil, fmt.Errorf("%w: nextToken: not one that a list ended with", registry.ErrInvalid)
	}
	onlyTopic, disabled := r.Query.Get("topic"), r.Query.Get("ruleDisabled")
	if disabled != "" && disabled != "true" && disabled != "false" {
		return nil, fmt.Errorf("%w: ruleDisabled: %.20q, want true or false", registry.ErrInvalid, disabled)
	}
	out := struct {
		Rules     []listedRule `json:"rules"`
		NextToken string       `json:"nextToken,omitempty"`
	}{Rules: []listedRule{}}
	for _, rule := range t.rules.Rules() {
		filter := rule.Filter()
		if rule.Name <= string(after) || disabled != "" && disabled != strconv.FormatBool(rule.Disabled) ||
			onlyTopic != "" && filter != onlyTopic && !topic.MatchRule(filter, onlyTopic) {
			continue
		}
		if len(out.Rules) == most {
			out.NextToken = base64.RawURLEncoding.EncodeToString([]byte(out.Rules[most-1].Name))
			break
		}
		out.Rules = append(out.Rules, listedRule{t.arn(r, rule.Name), rule.Name, filter, rule.Created.Unix(),
			rule.Disabled})
	}
	return out, nil
}

// number reads maxResults.
func number(text string) (int, error) {
	if text == "" {
		return maxResults, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxResults {
		return 0, fmt.Errorf("%w: maxResults: %.20q, want 1 to %d", registry.ErrInvalid, text, maxResults)
	}
	return n, nil
}
