package cli

import (
	"io"
	"os"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// printable is text that a device, a message or a stranger chose, fit for one
// cell of a table or one line: what is no printable character is escaped as
// JSON does (\n, \u001b, \u202e), bytes that are no UTF-8 as \x9b. So nothing moves
// the cursor, colours, begins a line of its own or turns what follows around.
func printable(s string) string {
	if strings.ContainsFunc(s, hidden) {
		return string(appendShown(nil, []byte(s), "", false))
	}
	return s
}

// hidden says whether a character may do something else than be seen: control
// characters (C0, DEL, C1), those of direction, zero width and line ends of
// Unicode. utf8.RuneError may stand for a byte that is none.
func hidden(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }

// appendShown appends p with what is hidden escaped, but for the characters of keep.
// With asJSON p is JSON, and so is what is appended: a byte that is no UTF-8 becomes
// \ufffd, as which readers of JSON take it, and a carriage return, which stands
// between tokens, a space.
func appendShown(dst, p []byte, keep string, asJSON bool) []byte {
	const hex = "0123456789abcdef"
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		switch {
		case r == utf8.RuneError && n == 1 && asJSON:
			dst = appendUnicode(dst, r)
		case r == utf8.RuneError && n == 1:
			dst = append(dst, '\\', 'x', hex[p[0]>>4], hex[p[0]&15])
		case r == utf8.RuneError || !hidden(r) || strings.ContainsRune(keep, r):
			dst = append(dst, p[:n]...)
		case r == '\n':
			dst = append(dst, `\n`...)
		case r == '\r' && asJSON:
			dst = append(dst, ' ')
		case r == '\r':
			dst = append(dst, `\r`...)
		case r == '\t':
			dst = append(dst, `\t`...)
		default:
			if r > 0xffff { // as a pair of surrogates, as in JSON
				r -= 0x10000
				dst = appendUnicode(dst, 0xd800+r>>10)
				r = 0xdc00 + r&0x3ff
			}
			dst = appendUnicode(dst, r)
		}
		p = p[n:]
	}
	return dst
}

func appendUnicode(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}

// A screen writes to w what printable leaves of it, line ends and tabs as they
// are. Whatever a command or the log prints goes through one, so what was missed
// elsewhere does no harm. JSON goes through one that is made for it, see call.json,
// and stays the same JSON. A screen may be used by several goroutines.
type screen struct {
	mu   sync.Mutex
	w    io.Writer
	json bool   // only JSON comes
	tail []byte // the begin of a character
	buf  []byte
}

func newScreen(w io.Writer) *screen { return &screen{w: w} }

// Write implements io.Writer. The error is that of the writer behind it.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append(s.tail, p...)
	whole := len(all)
	for n := 1; n < utf8.UTFMax && n <= len(all); n++ {
		if last := all[len(all)-n:]; utf8.RuneStart(last[0]) {
			if !utf8.FullRune(last) {
				whole -= n
			}
			break
		}
	}
	s.buf = appendShown(s.buf[:0], all[:whole], "\n\t", s.json)
	s.tail = append([]byte(nil), all[whole:]...)
	if _, err := s.w.Write(s.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

// json is where a command's output goes that is JSON, one value or many.
func (c *call) json() io.Writer { return &screen{w: c.out, json: true} }

// isTerminal says whether somebody reads what is written to w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// bytes is where a command's output goes that is data, byte for byte: onto a
// terminal as all else, unless raw is wanted there, too.
func (c *call) bytes(raw bool) io.Writer {
	if raw || !isTerminal(c.out) {
		return c.out
	}
	return c.stdout
}
