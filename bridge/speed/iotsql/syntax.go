package iotsql

// A SyntaxError says what is wrong with a statement or template, and where.
type SyntaxError struct {
	Text     string // the whole statement or template
	Offset   int    // byte offset into Text, 0..len(Text)
	Line     int    // from 1
	Column   int    // from 1, in characters
	Msg      string // what is wrong: `unexpected ")"`
	Expected string // what could stand there instead; may be empty
}

func (e *SyntaxError) Error() string { return e.Msg }
