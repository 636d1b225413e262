package main

import (
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable is text that others chose, fit for a terminal: what is no printable
// character is written as Go would (\x1b, \u202e), so that nothing moves the
// cursor, colours, or hides what follows.
func printable(s string) string {
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if r == utf8.RuneError || unprintable(r) {
			_, n := utf8.DecodeRuneInString(s[i:])
			q := strconv.QuoteToGraphic(s[i : i+n])
			b.WriteString(q[1 : len(q)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }

// logTime is how the log writes a time: to the millisecond.
const logTime = "2006-01-02T15:04:05.000Z07:00"

func newLog(w io.Writer, format string, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		switch v := a.Value.Resolve(); {
		case a.Key == slog.TimeKey && len(groups) == 0 && v.Kind() == slog.KindTime:
			a.Value = slog.StringValue(v.Time().Format(logTime))
		case v.Kind() == slog.KindDuration:
			a.Value = slog.StringValue(v.Duration().String()) // not nanoseconds
		case v.Kind() == slog.KindString:
			a.Value = slog.StringValue(printable(v.String()))
		case v.Kind() == slog.KindAny:
			switch x := v.Any().(type) {
			case error:
				a.Value = slog.StringValue(printable(x.Error()))
			case []string:
				a.Value = slog.StringValue(printable(strings.Join(x, ", ")))
			case fmt.Stringer: // a duration of the configuration
				a.Value = slog.StringValue(printable(x.String()))
			}
		}
		return a
	}}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
