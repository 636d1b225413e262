package iotsql

import (
	"context"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Versions of the dialect. An empty version means Version2015, as for AWS;
// VersionBeta is at present the same as Version2016.
const (
	Version2015 = "2015-10-08"
	Version2016 = "2016-03-23"
	VersionBeta = "beta"
)

// knownVersion fills in the default; an unknown version is an error at the
// begin of the text.
func knownVersion(text, version string) (string, error) {
	switch version {
	case "":
		return Version2015, nil
	case Version2015, Version2016, VersionBeta:
		return version, nil
	}
	return "", newSyntaxError(text, 0, fmt.Sprintf("unknown SQL version %q", version),
		Version2016+", "+Version2015+" or "+VersionBeta)
}

// A Statement is a compiled rule statement. It is immutable; several
// goroutines may use it at the same time.
type Statement struct {
	text     string
	services *Services
	query    *query
	prog     *program
	asks     []string // functions that ask services, each once, sorted
}

// Compile is Services.Compile without services: functions that reach outside
// are refused.
func Compile(sql, version string) (*Statement, error) { return (&Services{}).Compile(sql, version) }

// Compile parses and checks sql in the dialect version given. It takes
// microseconds and evaluates nothing. What is wrong with the text or the
// version comes back as a *SyntaxError, and so does a function whose service
// x lacks. The statement keeps x.
//
// Calls with a wrong number of arguments are refused. Wrong types are no
// error: they yield Undefined, as in AWS. Check finds those that are certain.
func (x *Services) Compile(sql, version string) (*Statement, error) {
	version, err := knownVersion(sql, version)
	if err != nil {
		return nil, err
	}
	s := &Statement{text: sql, services: x}
	p := newParser(sql, version, 0, nil)
	p.services = x
	if err := p.parse(func() { s.query = p.statement() }); err != nil {
		return nil, err
	}
	slices.Sort(p.asks)
	s.asks = slices.Compact(p.asks)
	s.prog = newCompiler(version, x, false).statement(s.query)
	return s, nil
}

// String returns the statement's text.
func (s *Statement) String() string { return s.text }

// Version returns the dialect version in force.
func (s *Statement) Version() string { return s.prog.version }

// Asks returns the functions in the statement that ask a service, in lower
// case and sorted; "decode" is that of protobuf.
func (s *Statement) Asks() []string { return slices.Clone(s.asks) }

// Filter returns the MQTT topic filter of FROM, or "" for a statement without
// FROM, which only Basic Ingest reaches.
func (s *Statement) Filter() string { return s.query.filter }

// Matches reports whether a message on topic is for this statement, by the
// rule of FROM: a/# matches a/ and a/b, but not a. A statement without FROM
// matches nothing; for Basic Ingest topics see BasicIngest.
func (s *Statement) Matches(name string) bool {
	return s.query.hasFrom && topic.MatchRule(s.query.filter, name)
}

// A Result is what an evaluation made.
type Result struct {
	Doc   []byte // what was passed as dst, and after it the document, if the statement fired
	Fired bool   // WHERE held
	// Unmerged tells that SELECT has * beside other items, or path.*, and what that
	// stands for is no JSON object: nothing of it is in the document.
	Unmerged bool
}

// Eval is Evaluate for who only asks for the document.
func (s *Statement) Eval(ctx context.Context, dst []byte, m *Input) (out []byte, fired bool, err error) {
	r, err := s.Evaluate(ctx, dst, m)
	return r.Doc, r.Fired, err
}

// Evaluate appends the document that the rule's actions receive to dst. Fired is
// false when WHERE did not hold; dst then comes back unchanged, and so it does
// with an error: errTooLarge, errTooDeep, errTooMuchWork, errTooManyCalls,
// errSecretKey, or the cause of ctx's end when that came during a call. FROM is
// not looked at: the caller has routed the message already (see Matches).
//
// The document is JSON, except that a statement with nothing but * in SELECT
// hands on the payload's bytes whatever they are, and that SELECT VALUE of
// Undefined yields no bytes.
//
// Evaluate keeps no reference to dst or m. Several goroutines may call it. It
// blocks only in functions that reach outside, until ctx ends or the
// function's time limit.
func (s *Statement) Evaluate(ctx context.Context, dst []byte, m *Input) (Result, error) {
	f := newFrame(ctx, s.prog, m)
	defer f.release()
	f.start()
	if s.prog.where != nil && !f.holds(s.prog.where(f)) || f.err != nil {
		return Result{Doc: dst}, f.err
	}
	out := f.project(dst)
	if len(out)-len(dst) > f.limit {
		f.fail(errTooLarge)
	}
	if f.err != nil {
		return Result{Doc: dst}, f.err
	}
	return Result{out, true, len(f.unmerged) > 0}, nil
}
