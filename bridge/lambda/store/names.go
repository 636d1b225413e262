package store

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/lambda"
)

// Latest is the version that changes.
const Latest = "$LATEST"

// Patterns of names (Lambda API reference).
var (
	namePattern    = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,64}$`)
	aliasPattern   = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,128}$`)
	numberPattern  = regexp.MustCompile(`^[0-9]+$`)
	handlerPattern = regexp.MustCompile(`^\S{1,128}$`)
	rolePattern    = regexp.MustCompile(`^arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+$`)
)

// ARN is that of a function, and of its version or alias with a qualifier.
func (s *Store) ARN(name, qualifier string) string {
	resource := "function:" + name
	if qualifier != "" {
		resource += ":" + qualifier
	}
	return arn.Of("lambda", s.o.Region, s.o.Account, resource)
}

// Parse takes a function's name and qualifier apart: "name", "name:qualifier",
// "account:function:name" and ARNs, each with a qualifier or not. Those of other
// accounts and regions are not found here.
func (s *Store) Parse(text string) (name, qualifier string, err error) {
	rest := text
	if arn.Is(text) {
		n, ok := arn.Parse(text)
		of, function := strings.CutPrefix(n.Resource, "function:")
		if !ok || n.Service != "lambda" || !function {
			return "", "", fmt.Errorf("%w: %.200q is not a function's ARN", ErrInvalid, text)
		}
		if n.Region != s.o.Region || n.Account != s.o.Account {
			return "", "", fmt.Errorf("%w: %s", lambda.ErrNotFound, text)
		}
		rest = of
	} else if account, after, ok := strings.Cut(text, ":function:"); ok {
		if account != s.o.Account {
			return "", "", fmt.Errorf("%w: %s", lambda.ErrNotFound, text)
		}
		rest = after
	}
	name, qualifier, _ = strings.Cut(rest, ":")
	if !namePattern.MatchString(name) || qualifier != "" && !qualifies(qualifier) {
		return "", "", fmt.Errorf("%w: %.200q is not a function's name", ErrInvalid, text)
	}
	return name, qualifier, nil
}

// qualifies says whether a text may be a version or an alias.
func qualifies(text string) bool {
	return text == Latest || numberPattern.MatchString(text) || aliasPattern.MatchString(text)
}

// both is Parse with a qualifier that may be given besides; two must agree.
func (s *Store) both(text, qualifier string) (string, string, error) {
	name, inside, err := s.Parse(text)
	switch {
	case err != nil:
		return "", "", err
	case inside != "" && qualifier != "" && inside != qualifier:
		return "", "", fmt.Errorf("%w: the qualifiers %s and %.100q differ", ErrInvalid, inside, qualifier)
	case inside != "":
		qualifier = inside
	}
	if qualifier != "" && !qualifies(qualifier) {
		return "", "", fmt.Errorf("%w: qualifier %.100q", ErrInvalid, qualifier)
	}
	return name, qualifier, nil
}
