package shape

import (
	"encoding"
	"encoding/base64"
	"encoding/binary"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

// flushAt is how much a Writer gathers before it writes.
const flushAt = 256 << 10

// A Writer writes a value: maps and lists are opened and closed, and what is
// between them follows in order. Lists' elements are begun by Item, maps' by
// Name. It is not for several goroutines.
type Writer struct {
	codec Codec
	buf   []byte
	comma bool // JSON: whether a comma comes before the next element

	// To gets what is written as soon as there is much of it; nil: nobody.
	To  io.Writer
	err error
}

// NewWriter returns a Writer that appends to buf.
func NewWriter(c Codec, buf []byte) *Writer { return &Writer{codec: c, buf: buf} }

// Bytes returns what is not written to To.
func (w *Writer) Bytes() []byte { return w.buf }

// Flush writes all to To.
func (w *Writer) Flush() error {
	if w.err == nil && len(w.buf) > 0 {
		_, w.err = w.To.Write(w.buf)
	}
	w.buf = w.buf[:0]
	return w.err
}

// open begins a map or list: AWS writes CBOR without lengths.
func (w *Writer) open(json, cbor byte) {
	w.comma = false
	if w.codec == CBOR {
		json = cbor
	}
	w.buf = append(w.buf, json)
}

func (w *Writer) close(json byte) {
	w.comma = true
	if w.codec == CBOR {
		json = breakCode
	}
	w.buf = append(w.buf, json)
	if w.To != nil && len(w.buf) >= flushAt {
		_ = w.Flush() // remembered
	}
}

// OpenMap and the others begin and end a map or list.
func (w *Writer) OpenMap()   { w.open('{', cborMap<<5|31) }
func (w *Writer) CloseMap()  { w.close('}') }
func (w *Writer) OpenList()  { w.open('[', cborList<<5|31) }
func (w *Writer) CloseList() { w.close(']') }

// Item begins an element of a list.
func (w *Writer) Item() {
	if w.comma && w.codec == JSON {
		w.buf = append(w.buf, ',')
	}
	w.comma = false
}

// Name begins a member of a map.
func (w *Writer) Name(name string) {
	w.Item()
	w.Text(name)
	if w.comma = false; w.codec == JSON {
		w.buf = append(w.buf, ':')
	}
}

// Text writes a string; what is no UTF-8 in it becomes U+FFFD.
func (w *Writer) Text(s string) {
	w.comma = true
	if w.codec == JSON {
		w.buf = appendJSON(w.buf, s)
		return
	}
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	w.buf = append(w.head(cborText, uint64(len(s))), s...)
}

// Blob writes bytes: in JSON as base64.
func (w *Writer) Blob(b []byte) {
	w.comma = true
	if w.codec == CBOR {
		w.buf = append(w.head(cborBytes, uint64(len(b))), b...)
		return
	}
	w.buf = append(w.buf, '"')
	w.buf = append(base64.StdEncoding.AppendEncode(w.buf, b), '"')
}

// Int writes a whole number.
func (w *Writer) Int(n int64) {
	w.comma = true
	switch {
	case w.codec == JSON:
		w.buf = strconv.AppendInt(w.buf, n, 10)
	case n < 0:
		w.buf = w.head(cborNegative, uint64(-1-n))
	default:
		w.buf = w.head(cborUint, uint64(n))
	}
}

// Bool writes true or false.
func (w *Writer) Bool(yes bool) {
	w.comma = true
	switch {
	case w.codec == JSON:
		w.buf = strconv.AppendBool(w.buf, yes)
	case yes:
		w.buf = append(w.buf, cborSimple<<5|21)
	default:
		w.buf = append(w.buf, cborSimple<<5|20)
	}
}

// Time writes seconds since 1970 with three decimals; in CBOR tag 1 with whole
// milliseconds, other than RFC 8949 has it.
func (w *Writer) Time(t time.Time) {
	ms := t.UnixMilli()
	if w.codec == CBOR {
		w.buf = append(w.buf, cborTag<<5|1)
		w.Int(ms)
		return
	}
	w.comma = true
	if ms < 0 {
		w.buf = append(w.buf, '-')
		ms = -ms
	}
	w.buf = strconv.AppendInt(w.buf, ms/1000, 10)
	if ms %= 1000; ms != 0 {
		w.buf = append(w.buf, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
}

// Digits writes the text that v appends, which needs no escapes and has less than
// 256 bytes.
func (w *Writer) Digits(v encoding.TextAppender) {
	w.comma = true
	if w.codec == JSON {
		w.buf, _ = v.AppendText(append(w.buf, '"'))
		w.buf = append(w.buf, '"')
		return
	}
	w.buf = append(w.buf, cborText<<5|24, 0)
	at := len(w.buf)
	w.buf, _ = v.AppendText(w.buf)
	w.buf[at-1] = byte(len(w.buf) - at)
}

// head appends the head of a CBOR value.
func (w *Writer) head(major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(w.buf, major|byte(n))
	case n < 1<<8:
		return append(w.buf, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(w.buf, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(w.buf, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(w.buf, major|27), n)
}

// appendJSON appends s between quotes.
func appendJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				b = append(append(b, s[from:i]...), "\ufffd"...)
				from = i + 1
			}
			i += n
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, `\n`...)
		default:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		}
		i++
		from = i
	}
	return append(append(b, s[from:]...), '"')
}
