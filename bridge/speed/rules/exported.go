package rules

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/strictjson"
	"github.com/tidemill/tidemill/shadow"
)

// A named document is the payload of a rule and the name that stands beside it, "" for
// none.
type named struct {
	name string
	doc  []byte
}

// unwrapped takes a rule's payload out of the documents that have it: what aws iot
// create-topic-rule takes as a whole, what get-topic-rule answers, and a resource of a
// CloudFormation template.
func unwrapped(doc []byte) (named, error) {
	properties, err := strictjson.Resource(doc, "AWS::IoT::TopicRule")
	if err != nil {
		return named{}, err
	}
	if len(properties) != len(doc) {
		return ofResource(properties)
	}
	var in struct {
		RuleName         string          `json:"ruleName"`
		TopicRulePayload json.RawMessage `json:"topicRulePayload"`
		RuleArn          string          `json:"ruleArn"`
		Rule             json.RawMessage `json:"rule"`
	}
	switch {
	case json.Unmarshal(doc, &in) != nil:
	case in.TopicRulePayload != nil:
		return named{in.RuleName, in.TopicRulePayload}, nil
	case in.RuleArn != "" && in.Rule != nil:
		return ofAnswer(in.Rule)
	}
	return named{"", doc}, nil
}

// ofAnswer reads the rule of get-topic-rule's answer: its name, and when it was made,
// stand beside its payload.
func ofAnswer(rule json.RawMessage) (n named, err error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(rule, &members) != nil {
		return n, errors.New("rule: want an object")
	}
	if raw := members["ruleName"]; raw != nil && json.Unmarshal(raw, &n.name) != nil {
		return n, errors.New("rule.ruleName: want a text")
	}
	delete(members, "ruleName")
	delete(members, "createdAt")
	n.doc, err = json.Marshal(members)
	return n, err
}

// ofResource reads the properties of an AWS::IoT::TopicRule.
func ofResource(properties []byte) (n named, err error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(properties, &members) != nil {
		return n, errors.New("Properties: want an object") //lint:ignore ST1005 a member
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		switch name {
		case "TopicRulePayload", "Tags":
		case "RuleName":
			if json.Unmarshal(members[name], &n.name) != nil {
				return n, errors.New("Properties.RuleName: want a text")
			}
		default:
			return n, fmt.Errorf("Properties.%.100s: unknown member; take it out", name)
		}
	}
	payload, err := shadow.Parse(members["TopicRulePayload"])
	if err != nil {
		return n, errors.New("Properties.TopicRulePayload: missing")
	}
	n.doc, err = json.Marshal(asAPI(payload))
	return n, err
}

// flags are the members that are true or false, which templates may have in quotes.
var flags = []string{"ruleDisabled", "batchMode", "useBase64", "enableBatching", "batchAcrossTopics"}

// asAPI spells members as the API does: with a small letter at first.
func asAPI(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, inner := range v {
			if name != "" {
				name = strings.ToLower(name[:1]) + name[1:]
			}
			if text, ok := inner.(string); ok && slices.Contains(flags, name) {
				if low := strings.ToLower(text); low == "true" || low == "false" {
					inner = low == "true"
				}
			}
			out[name] = asAPI(inner)
		}
		return out
	case []any:
		for i := range v {
			v[i] = asAPI(v[i])
		}
	}
	return v
}
