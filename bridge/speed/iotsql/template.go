package iotsql

import (
	"context"
	"strings"
)

// A Template is a compiled action parameter with ${expr} substitutions. Like
// a Statement it is immutable and safe for several goroutines.
type Template struct {
	text   string
	prog   *program
	pieces []piece
	sets   []assignment // SET variables
}

// A piece is literal text, or an expression.
type piece struct {
	text string
	expr eval
	node *node // of expr
}

// CompileTemplate compiles an action parameter. Errors are *SyntaxError with
// positions in text. Expressions see the payload and all functions, never
// SELECT's aliases; for SET variables see Statement.Template.
//
// Only "${" begins a substitution; a lone $ is text, and so is the "$$" that
// a republish topic may begin with, which is for that action to undo.
func CompileTemplate(text, version string) (*Template, error) {
	version, err := knownVersion(text, version)
	if err != nil {
		return nil, err
	}
	return compileTemplate(text, version, nil, nil)
}

// Template compiles an action parameter of a rule with this statement: it has
// the statement's version and SET variables.
func (s *Statement) Template(text string) (*Template, error) {
	return compileTemplate(text, s.prog.version, s.services, s.query.sets)
}

func compileTemplate(text, version string, services *Services, sets []assignment) (*Template, error) {
	t := &Template{text: text, sets: sets}
	c := newCompiler(version, services, false)
	vars := map[string]bool{}
	used := false
	for off := 0; off < len(text); {
		n := strings.Index(text[off:], "${")
		if n < 0 {
			t.pieces = append(t.pieces, piece{text: text[off:]})
			break
		}
		if n > 0 {
			t.pieces = append(t.pieces, piece{text: text[off : off+n]})
		}
		if !used {
			used = true
			c.assign(sets)
			c.reads = false
			for _, s := range sets {
				vars[s.name] = true
			}
		}
		p := newParser(text, version, off+n+2, vars)
		p.services, p.template = services, true
		var expr *node
		if err := p.parse(func() {
			expr = p.expr()
			if !p.tok.is("}") {
				p.unexpected(`an operator or "}"`)
			}
			off = p.tok.end
		}); err != nil {
			return nil, err
		}
		t.pieces = append(t.pieces, piece{expr: c.expr(expr), node: expr})
	}
	if len(text) > maxStatement {
		p := newParser(text, version, 0, nil)
		return nil, p.parse(func() {})
	}
	t.prog = c.done()
	if !c.reads {
		t.prog.sets = nil // they may ask services, and nothing here needs them
	}
	return t, nil
}

// Append appends the text after substitution to dst. A value is written in
// its string form: a String without quotes, documents as compact JSON.
// Undefined and Null have none and leave nothing. The errors are those of
// Statement.Eval; dst then comes back unchanged.
func (t *Template) Append(ctx context.Context, dst []byte, m *Input) ([]byte, error) {
	if text, ok := t.Const(); ok {
		return append(dst, text...), nil
	}
	f := newFrame(ctx, t.prog, m)
	defer f.release()
	f.start()
	out := dst
	for _, p := range t.pieces {
		out = append(out, p.text...)
		if p.expr != nil {
			out = f.appendText(out, p.expr(f))
		}
		if len(out)-len(dst) > f.limit {
			f.fail(errTooLarge)
		}
		if f.err != nil {
			return dst, f.err
		}
	}
	return out, nil
}

// Text is Append to a text of its own; without a substitution it allocates
// nothing.
func (t *Template) Text(ctx context.Context, m *Input) (string, error) {
	if text, ok := t.Const(); ok {
		return text, nil
	}
	var buf [128]byte
	text, err := t.Append(ctx, buf[:0], m)
	return string(text), err
}

// Const returns the text and true when it has no substitution.
func (t *Template) Const() (string, bool) {
	for _, p := range t.pieces {
		if p.expr != nil {
			return "", false
		}
	}
	return t.text, true
}

// String returns the template as written.
func (t *Template) String() string { return t.text }
