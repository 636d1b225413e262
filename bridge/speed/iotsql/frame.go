package iotsql

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"unicode/utf8"
)

// Limits of an evaluation.
const (
	// maxOutput is the largest document or text an evaluation yields, in
	// bytes: the largest MQTT message AWS IoT Core takes. Over a payload of more
	// than half of that it is twice the payload, so that * has room for other
	// items beside it, and for its base64. What holds the payload three times fits
	// for payloads of up to a third of maxOutput. SET variables together have the same limit.
	maxOutput = 128 << 10
	// maxArena bounds everything built on the way to the result; over a large
	// payload it is four times the limit of the document.
	maxArena = 8 * maxOutput
	// maxWork bounds the elements and members that nested queries, IN and
	// comparisons of documents may visit; our choice, some 0.1 s. It grows with a
	// payload of more than maxOutput.
	maxWork = 1 << 19
)

// Errors of an evaluation. Wrong types are none: they yield Undefined.
var (
	// errTooLarge says that a result is over the limit, see maxOutput.
	errTooLarge = errors.New("iotsql: the result is over the size limit")
	// errTooDeep says that the payload is nested deeper than maxPayloadNesting.
	errTooDeep = errors.New("iotsql: the payload is nested too deeply")
	// errTooMuchWork says that nested queries went over too many elements.
	errTooMuchWork = errors.New("iotsql: the statement visits too many elements")
)

// document is what a payload turned out to be.
type document uint8

const (
	docUnknown document = iota // not looked at yet
	docEmpty                   // no bytes
	docObject
	docOther  // JSON, but no object
	docBinary // anything else
)

// A frame holds one evaluation's state. Frames are pooled; arena and the
// slices keep their memory.
type frame struct {
	ctx                    context.Context // of the call; functions that reach outside wait for it
	prog                   *program
	m                      *Input
	doc                    document
	body                   []byte // the payload without space around it
	slots                  []span // of prog.names in body, once doc is known
	vars                   []value
	elems                  []value // elements of the nested queries around, outermost first
	stack                  []value // arguments of the calls in progress
	items                  []value // the SELECT list's values
	draws                  uint64  // of Input.Seed
	tableCalls, protoCalls int     // of this evaluation
	arena                  []byte  // what is built: only appended to, so slices of it stay valid
	left                   int     // work left
	limit                  int     // bytes a document may have
	room                   int     // bytes of the arena
	unmerged               []int   // items of the SELECT list, see Result
	err                    error   // first limit run into
	trace                  *trace  // for Explain
}

var frames = sync.Pool{New: func() any { return new(frame) }}

func newFrame(ctx context.Context, p *program, m *Input) *frame {
	f := frames.Get().(*frame)
	f.ctx = ctx
	f.prog, f.m, f.left, f.limit, f.room = p, m, maxWork, maxOutput, maxArena
	if n := len(m.Payload); n > maxOutput/2 {
		f.limit = 2 * n
		f.room = max(maxArena, 4*f.limit)
		f.left = max(maxWork, maxWork/maxOutput*n)
	}
	return f
}

// release returns the frame to the pool, with no pointers into messages.
func (f *frame) release() {
	clear(f.vars)
	clear(f.elems[:cap(f.elems)])
	clear(f.stack[:cap(f.stack)])
	clear(f.items[:cap(f.items)])
	if cap(f.arena) > maxOutput {
		f.arena = nil
	}
	f.slots, f.vars, f.elems = f.slots[:0], f.vars[:0], f.elems[:0]
	f.stack, f.items, f.arena = f.stack[:0], f.items[:0], f.arena[:0]
	f.ctx = nil
	f.prog, f.m, f.body, f.doc, f.err, f.trace, f.draws = nil, nil, nil, docUnknown, nil, nil, 0
	f.tableCalls, f.protoCalls, f.unmerged = 0, 0, f.unmerged[:0]
	frames.Put(f)
}

// work takes n from what is left; false means that it was too much, or that
// the evaluation has failed already.
func (f *frame) work(n int) bool {
	if f.left -= n; f.left < 0 {
		f.fail(errTooMuchWork)
	}
	return f.err == nil
}

func (f *frame) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// checkArena stops an evaluation that builds too much.
func (f *frame) checkArena() {
	if len(f.arena) > f.room {
		f.fail(errTooLarge)
	}
}

// fits says whether n more bytes may be built; not if the evaluation has
// failed already.
func (f *frame) fits(n int) bool {
	if n > f.limit || len(f.arena)+n > f.room {
		f.fail(errTooLarge)
	}
	return f.err == nil
}

// copies says whether n bytes may be built beside the arena, which is garbage
// right away: it is paid for as work.
func (f *frame) copies(n int) bool { return f.fits(n) && f.work(n/32) }

// A span is where a value stands in the payload; an empty one stands nowhere.
type span struct{ from, to int }

// attr sets v, which is zero, to the payload's member in slot i. The payload is
// scanned at the first use. A value handed through a return is copied twice,
// with loads that wait for narrower stores; to set it where it stands took a
// sixth off the reference rule.
func (f *frame) attr(i int, v *value) {
	if f.doc == docUnknown {
		f.scan()
	}
	if f.doc == docObject {
		at := f.slots[i]
		v.wire(f.body[at.from:at.to])
	}
}

// scan reads the payload once: it finds the members that the program names
// and checks that the whole is JSON.
func (f *frame) scan() {
	p := f.m.Payload
	i := skipSpace(p, 0)
	end := len(p)
	for end > i && (p[end-1] == ' ' || p[end-1] == '\n' || p[end-1] == '\t' || p[end-1] == '\r') {
		end--
	}
	p = p[i:end]
	f.body = p
	f.doc = docBinary
	switch {
	case len(p) == 0:
		f.doc = docEmpty
	case p[0] == '{':
		names := f.prog.names
		for range names {
			f.slots = append(f.slots, span{})
		}
		f.finish(f.scanObject(p, names), docObject)
	default:
		f.finish(skipValue(p, 0, maxPayloadNesting), docOther)
	}
}

func (f *frame) finish(end int, as document) {
	switch {
	case end == tooDeep:
		f.fail(errTooDeep)
	case end == len(f.body) && utf8.Valid(f.body):
		f.doc = as
	}
}

// scanObject is skipObject for the payload's top level; the last of members
// with the same name wins.
func (f *frame) scanObject(p []byte, names []string) int {
	i := skipSpace(p, 1)
	if i < len(p) && p[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(p) || p[i] != '"' {
			return notJSON
		}
		var key []byte
		val := plainRun(p, i+1)
		if val+2 < len(p) && p[val] == '"' && p[val+1] == ':' && p[val+2] > ' ' { // the common way
			key = p[i+1 : val]
			val += 2
		} else {
			var end int
			if end, val = skipName(p, i); end < 0 {
				return end
			}
			key = p[i+1 : end-1]
			if bytes.IndexByte(key, '\\') >= 0 {
				key = unescape(nil, key)
			}
		}
		if i = skipValue(p, val, maxPayloadNesting-1); i < 0 {
			return i
		}
		if f.prog.index != nil {
			if k, ok := f.prog.index[string(key)]; ok {
				f.slots[k] = span{val, i}
			}
		} else {
			for k, name := range names {
				if string(key) == name {
					f.slots[k] = span{val, i}
					break
				}
			}
		}
		if i+1 < len(p) && p[i] == ',' && p[i+1] == '"' {
			i++
			continue
		}
		var more bool
		if i, more = nextMember(p, i); !more {
			return i
		}
	}
}
