package iotsql

// An Explanation says step by step why a statement fires on a message or not.
type Explanation struct {
	Fired  bool
	Output []byte // the action document when Fired
	Err    error  // evaluation failed, e.g. a limit
	Steps  []Step
}

// A Step is one clause, or one operand of a clause, with its value.
type Step struct {
	Clause string // "FROM", "SET", "WHERE" or "SELECT"
	Depth  int    // 0 for the clause itself, deeper for its operands
	Text   string // the source text
	Value  string // JSON, or "Undefined"
}

// Explain evaluates like Eval and keeps account of the steps. FROM is looked at too.
func (s *Statement) Explain(m *Message) Explanation { return Explanation{} }

// String lays the steps out as text for a terminal, one a line.
func (e Explanation) String() string { return "" }
