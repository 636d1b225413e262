package authz

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxDocument is the most characters a document may have, white space not
	// counted (AWS IoT Core, CreatePolicy).
	MaxDocument = 2048

	// maxRaw bounds the work on a document that is mostly white space.
	maxRaw = 64 << 10
)

// ErrMalformed is in the chain of every error of Parse.
var ErrMalformed = errors.New("authz: malformed policy document")

// A Document is a parsed policy. It doesn't change and may be shared.
type Document struct {
	// Name is what Explain calls the document, e.g. "pump-policy:3". Set it
	// before the document is shared.
	Name string

	statements []statement
}

// A statement is one entry of Statement.
type statement struct {
	sid         string
	deny        bool
	actions     []string // encoded, in lower case, for Explain
	typed       []string // actions as the document has them
	notAction   bool
	mask        uint32 // bits of known that the action element covers
	resources   []resource
	notResource bool
	conditions  []condition

	// shared is set if the resources are without variables: what is compiled
	// of them is then kept, for all connections.
	shared *atomic.Pointer[sharedRules]
}

// Parse reads a policy document strictly: every element known, in its place,
// once, and of the right type; operators, ARNs and constants such as IP ranges
// sound; at most MaxDocument characters without white space. All of AWS's
// elements for identity policies are read but Principal, which an AWS IoT
// policy cannot have. Any error has ErrMalformed in its chain and says where.
// Parse keeps no reference to doc.
func Parse(doc []byte) (*Document, error) {
	d, err := parse(doc)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return d, nil
}

func parse(doc []byte) (*Document, error) {
	if len(doc) > maxRaw {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(doc), maxRaw)
	}
	if !utf8.Valid(doc) {
		return nil, errors.New("not UTF-8")
	}
	count := 0
	for _, r := range string(doc) {
		if !unicode.IsSpace(r) {
			count++
		}
	}
	if count > MaxDocument {
		return nil, fmt.Errorf("%d characters without white space, want at most %d", count, MaxDocument)
	}
	root, err := parseTree(doc)
	if err != nil {
		return nil, err
	}
	if root.kind != nodeObject {
		return nil, errors.New("want an object")
	}
	vars, list, err := parseRoot(root)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errors.New("no Statement")
	}
	var d Document
	sids := map[string]bool{}
	for i, n := range list {
		s, err := parseStatement(n, vars)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", i+1, err)
		}
		if s.sid != "" && sids[s.sid] {
			return nil, fmt.Errorf("statement %d: Sid %q is used twice", i+1, s.sid)
		}
		sids[s.sid] = true
		d.statements = append(d.statements, s)
	}
	return &d, nil
}

// parseRoot reads the members of a document: whether its statements have
// variables, and the statements. Version may be absent, which means 2008-10-17, the
// language without variables.
func parseRoot(root *node) (vars bool, list []*node, err error) {
	for _, m := range root.members {
		switch m.name {
		case "Version":
			switch {
			case m.kind == nodeString && m.text == "2012-10-17":
				vars = true
			case m.kind == nodeString && m.text == "2008-10-17":
			default:
				return false, nil, errors.New(`element Version: want "2012-10-17" or "2008-10-17"`)
			}
		case "Id":
			if m.kind != nodeString {
				return false, nil, errors.New("element Id: want a string")
			}
		case "Statement":
			if list, err = m.list(nodeObject); err != nil {
				return false, nil, fmt.Errorf("element Statement: %w", err)
			}
		default:
			return false, nil, fmt.Errorf("unknown element %q", m.name)
		}
	}
	return vars, list, nil
}

func parseStatement(n *node, vars bool) (s statement, err error) {
	var effect, action, res bool
	for _, m := range n.members {
		switch m.name {
		case "Sid":
			if m.kind != nodeString {
				return s, errors.New("element Sid: want a string")
			}
			s.sid = m.text
		case "Effect":
			if m.kind != nodeString || m.text != "Allow" && m.text != "Deny" {
				return s, errors.New("element Effect: want Allow or Deny")
			}
			effect, s.deny = true, m.text == "Deny"
		case "Action", "NotAction":
			if action {
				return s, errors.New("both Action and NotAction")
			}
			action, s.notAction = true, m.name == "NotAction"
			if err := s.parseActions(&m.node); err != nil {
				return s, fmt.Errorf("%s: %w", m.name, err)
			}
		case "Resource", "NotResource":
			if res {
				return s, errors.New("both Resource and NotResource")
			}
			res, s.notResource = true, m.name == "NotResource"
			if err := s.parseResources(&m.node, vars); err != nil {
				return s, fmt.Errorf("%s: %w", m.name, err)
			}
		case "Condition":
			if err := s.parseConditions(&m.node, vars); err != nil {
				return s, fmt.Errorf("element Condition: %w", err)
			}
		default:
			return s, fmt.Errorf("unknown element %q", m.name)
		}
	}
	switch {
	case !effect:
		return s, errors.New("no Effect")
	case !action:
		return s, errors.New("no Action or NotAction")
	case !res:
		return s, errors.New("no Resource or NotResource")
	}
	return s, nil
}

func (s *statement) parseActions(n *node) error {
	list, err := n.list(nodeString)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("empty list")
	}
	for _, a := range list {
		p, err := parseAction(a.text)
		if err != nil {
			return err
		}
		s.actions, s.typed = append(s.actions, p), append(s.typed, a.text)
	}
	for i := range known {
		if s.coversAction(i) != s.notAction {
			s.mask |= 1 << i
		}
	}
	return nil
}

// parseAction returns the encoded pattern of service:name in lower case. An
// action of another service is read and has no effect.
func parseAction(text string) (string, error) {
	if text == "*" {
		return "\xff", nil
	}
	service, name, ok := strings.Cut(text, ":")
	service, name = strings.ToLower(service), strings.ToLower(name)
	if !ok || !allBytes(service, isServiceByte) || !allBytes(name, isActionByte) {
		return "", fmt.Errorf("%q: want service:action", text)
	}
	if (service == "iot" || service == "iotjobsdata") && !strings.ContainsAny(name, "*?") && !plausible(name) {
		return "", fmt.Errorf("no such action: %q", text)
	}
	return service + ":" + strings.NewReplacer("*", "\xff", "?", "\xfe").Replace(name), nil
}

func isServiceByte(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' }
func isActionByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '*' || c == '?'
}

func allBytes(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return s != ""
}

// coversAction says whether one of the patterns matches known[i].
func (s *statement) coversAction(i int) bool {
	low := strings.ToLower(known[i].name)
	for _, p := range s.actions {
		if matchGlob(p, "iot:"+low) || known[i].job && matchGlob(p, "iotjobsdata:"+low) {
			return true
		}
	}
	return false
}

func (s *statement) parseResources(n *node, vars bool) error {
	list, err := n.list(nodeString)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("empty list")
	}
	for _, t := range list {
		r, err := parseResource(t.text, vars)
		if err != nil {
			return fmt.Errorf("%q: %w", t.text, err)
		}
		s.resources = append(s.resources, r)
	}
	if !slices.ContainsFunc(s.resources, func(r resource) bool {
		return slices.ContainsFunc(r.parts, template.hasVariable)
	}) {
		s.shared = new(atomic.Pointer[sharedRules])
	}
	return nil
}

func (s *statement) parseConditions(n *node, vars bool) error {
	if n.kind != nodeObject {
		return errors.New("want an object")
	}
	for _, o := range n.members {
		op, quant, ifExists, err := parseOperator(o.name)
		if err != nil {
			return err
		}
		if o.kind != nodeObject {
			return fmt.Errorf("%s: want an object of keys", o.name)
		}
		for _, k := range o.members {
			list, err := k.list(nodeString, nodeNumber, nodeBool)
			if err != nil {
				return fmt.Errorf("%s %s: %w", o.name, k.name, err)
			}
			var values []string
			for _, v := range list {
				values = append(values, v.text)
			}
			c, err := newCondition(o.name, op, quant, ifExists, k.name, values, vars)
			if err != nil {
				return err
			}
			s.conditions = append(s.conditions, c)
		}
	}
	return nil
}
