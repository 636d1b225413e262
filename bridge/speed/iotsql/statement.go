// Package iotsql compiles and evaluates rule statements in the SQL dialect of
// AWS IoT rules, and the substitution templates of rule actions.
package iotsql

import "errors"

// Versions of the dialect. An empty version means Version2015.
const (
	Version2015 = "2015-10-08"
	Version2016 = "2016-03-23"
	VersionBeta = "beta"
)

// A Statement is a compiled rule statement. It is immutable; several
// goroutines may use it at the same time.
type Statement struct {
	text, version string
	filter        string
}

// Compile parses and checks sql in the dialect version given. What is wrong
// with the text comes back as a *SyntaxError.
func Compile(sql, version string) (*Statement, error) {
	return nil, errors.New("iotsql: not compiled")
}

// Filter returns the MQTT topic filter of FROM, or "" for a statement without
// FROM, which only Basic Ingest reaches.
func (s *Statement) Filter() string { return s.filter }

// Matches reports whether a message on topic is for this statement, by the
// rule of FROM: a/# matches a/ and a/b, but not a.
func (s *Statement) Matches(topic string) bool { return false }

// Eval appends the document that the rule's actions receive to dst. fired is
// false when WHERE did not hold; dst then comes back unchanged. FROM is not
// looked at: the caller has routed the message already (see Matches).
func (s *Statement) Eval(dst []byte, m *Message) (out []byte, fired bool, err error) {
	return dst, false, nil
}

// A Template is a compiled action parameter with ${expr} substitutions. Like
// a Statement it is immutable and safe for several goroutines.
type Template struct{ text string }

// CompileTemplate compiles an action parameter. Errors are *SyntaxError.
func CompileTemplate(text, version string) (*Template, error) {
	return nil, errors.New("iotsql: not compiled")
}

// Append appends the text after substitution to dst. Undefined and Null become
// nothing.
func (t *Template) Append(dst []byte, m *Message) ([]byte, error) { return dst, nil }

// Const returns the text and true when it has no substitution.
func (t *Template) Const() (string, bool) { return "", false }
