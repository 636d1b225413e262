package authz

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/arn"
)

// Encoded patterns are text in which these two bytes stand for the policy
// wildcards. Neither occurs in UTF-8, so an asterisk that came out of a
// variable stays an asterisk.
const (
	star = '\xff' // *: any run of characters
	one  = '\xfe' // ?: one character
)

// A part is a piece of a template: encoded text, or a variable.
type part struct {
	text     string
	variable string // set: the part is ${variable}
}

// A template is pattern text before the variables are put in.
type template []part

// parseTemplate reads policy text. With vars, ${name} is a variable and ${*},
// ${?}, ${$} (also printed with parentheses in AWS's guide) are the plain
// characters. With wild, * and ? are wildcards. splits is how many colons
// outside variables end a template; the result has at most splits+1.
func parseTemplate(text string, vars, wild bool, splits int) []template {
	var (
		out []template
		cur template
		lit []byte
	)
	flush := func() {
		if len(lit) > 0 {
			cur = append(cur, part{text: string(lit)})
			lit = lit[:0]
		}
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case vars && c == '$' && i+3 < len(text) && strings.IndexByte("*?$", text[i+2]) >= 0 &&
			(text[i+1] == '{' && text[i+3] == '}' || text[i+1] == '(' && text[i+3] == ')'):
			lit = append(lit, text[i+2])
			i += 3
		case vars && c == '$' && i+1 < len(text) && text[i+1] == '{':
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				lit = append(lit, c)
				break
			}
			flush()
			cur = append(cur, part{variable: normalKey(text[i+2 : i+end])})
			i += end
		case wild && c == '*':
			lit = append(lit, star)
		case wild && c == '?':
			lit = append(lit, one)
		case c == ':' && splits > 0:
			splits--
			flush()
			out, cur = append(out, cur), nil
		default:
			lit = append(lit, c)
		}
	}
	flush()
	return append(out, cur)
}

// expand puts the variables in. ok is false, and unresolved names the
// variable, if one has no value: then nothing may match the pattern.
func (t template) expand(c *Context) (text string, unresolved string, ok bool) {
	if len(t) == 1 && t[0].variable == "" {
		return t[0].text, "", true
	}
	var b strings.Builder
	for _, p := range t {
		if p.variable == "" {
			b.WriteString(p.text)
			continue
		}
		v, ok := c.variable(p.variable)
		if !ok || !utf8.ValidString(v) {
			return "", p.variable, false
		}
		b.WriteString(v)
	}
	return b.String(), "", true
}

// hasVariable says whether expand depends on the context.
func (t template) hasVariable() bool {
	for _, p := range t {
		if p.variable != "" {
			return true
		}
	}
	return false
}

// A glob is an encoded pattern made ready to match.
type glob struct {
	text string
	form globForm
}

type globForm uint8

const (
	globExact   globForm = iota // text is the whole subject
	globPrefix                  // the subject begins with text
	globGeneral                 // text is an encoded pattern
)

func newGlob(p string) glob {
	i := indexWild(p)
	switch {
	case i < 0:
		return glob{p, globExact}
	case p[i] == star && allStars(p[i:]):
		return glob{p[:i], globPrefix}
	}
	return glob{p, globGeneral}
}

func (g *glob) match(s string) bool {
	switch g.form {
	case globExact:
		return s == g.text
	case globPrefix:
		return strings.HasPrefix(s, g.text)
	}
	return matchGlob(g.text, s)
}

// matchGlob matches an encoded pattern against the whole of s. It backs up to
// the last asterisk only, so it takes at most len(p)*len(s) steps.
func matchGlob(p, s string) bool {
	var pi, si int
	back, from := -1, 0 // the last asterisk, and where in s it gave up
	for si < len(s) {
		if pi < len(p) {
			switch p[pi] {
			case star:
				back, from = pi, si
				pi++
				continue
			case one:
				_, n := utf8.DecodeRuneInString(s[si:])
				pi, si = pi+1, si+n
				continue
			case s[si]:
				pi, si = pi+1, si+1
				continue
			}
		}
		if back < 0 {
			return false
		}
		// The asterisk takes one character more, not one byte: otherwise a ?
		// behind it could match the tail of a character.
		_, n := utf8.DecodeRuneInString(s[from:])
		from += n
		pi, si = back+1, from
	}
	for pi < len(p) && p[pi] == star {
		pi++
	}
	return pi == len(p)
}

// residues returns the patterns that match exactly those s for which p matches
// head+s: the ways p can go on after head. head is ASCII.
func residues(p, head string) []string {
	// Few patterns have a wildcard so early.
	if i := indexWild(p); i < 0 || i >= len(head) {
		if rest, ok := strings.CutPrefix(p, head); ok {
			return []string{rest}
		}
		return nil
	}
	at := map[int]bool{0: true}
	// An asterisk may also match nothing.
	spread := func() {
		for i := range len(p) {
			if at[i] && p[i] == star {
				at[i+1] = true
			}
		}
	}
	spread()
	for k := range len(head) {
		next := map[int]bool{}
		for i := range at {
			switch {
			case i == len(p):
			case p[i] == star:
				next[i] = true
			case p[i] == one || p[i] == head[k]:
				next[i+1] = true
			}
		}
		at = next
		spread()
	}
	var out []string
	for i := 0; i <= len(p); i++ {
		if at[i] && (i == 0 || p[i-1] != star || !at[i-1]) { // else covered by the asterisk before
			out = append(out, p[i:])
		}
	}
	return out
}

const arnParts = arn.Parts

// partitionPart is the index of an ARN's partition.
const partitionPart = 1

// A resource is one entry of Resource, NotResource, or of an Arn condition.
type resource struct {
	text  string // as written
	any   bool   // it is the single character *
	parts []template
	tail  bool // fewer than six parts, the last ending in *, which takes the rest
}

var errARN = errors.New("want * or arn:partition:service:region:account:resource")

func parseResource(text string, vars bool) (resource, error) {
	r := resource{text: text, any: text == "*"}
	if r.any {
		return r, nil
	}
	r.parts = parseTemplate(text, vars, true, arnParts-1)
	if len(r.parts) < arnParts {
		if !strings.HasSuffix(text, "*") {
			return r, errARN
		}
		r.tail = true
	}
	if len(r.parts) < 4 || len(r.parts[0]) != 1 || r.parts[0][0].text != "arn" {
		return r, errARN
	}
	service := r.parts[2]
	if len(service) != 1 || service.hasVariable() || indexWild(service[0].text) >= 0 {
		return r, errors.New("the service part of an ARN takes no wildcard and no variable")
	}
	return r, nil
}

// expand puts the variables in and compares all but the last part with the
// bridge's own. rest is the encoded pattern for the last part; match is false
// if no resource of this account and region can match.
func (r *resource) expand(c *Context) (rest, unresolved string, match bool) {
	if r.any {
		return "\xff", "", true
	}
	own := [arnParts - 1]string{"arn", arn.Partition(c.Region), "iot", c.Region, c.Account}
	for i, t := range r.parts {
		text, missing, ok := t.expand(c)
		if !ok {
			return "", missing, false
		}
		if i == arnParts-1 {
			return text, "", true
		}
		if !matchPart(text, i, own[i]) {
			return "", "", false
		}
	}
	return "\xff", "", true // tail: the last part given ends in *
}

// matchPart compares part i of an ARN. Policies say aws for every partition, too,
// as ARNs of this bridge once did in all regions.
func matchPart(pattern string, i int, part string) bool {
	return matchGlob(pattern, part) || i == partitionPart && strings.HasPrefix(part, "aws-") && matchGlob(pattern, "aws")
}

// indexWild returns the index of the first wildcard of an encoded pattern, or -1.
func indexWild(p string) int {
	for i := range len(p) {
		if p[i] == star || p[i] == one {
			return i
		}
	}
	return -1
}

func allStars(p string) bool {
	for i := range len(p) {
		if p[i] != star {
			return false
		}
	}
	return true
}
