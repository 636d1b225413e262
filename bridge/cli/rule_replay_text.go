package cli

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/speed/rules"
)

// grouped writes 1234567 as 1,234,567.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// reportText writes a report for people.
func reportText(r *rules.ReplayReport) string {
	var b strings.Builder
	if r.Partial {
		fmt.Fprintf(&b, "PARTIAL: ended after %s of %s messages; what follows is of those\n\n", grouped(r.Read),
			grouped(r.Records))
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-8s %s\n", name, fmt.Sprintf(format, args...))
	}
	oneLine := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	line("rule", "%s", r.Rule)
	if r.Against != "" {
		line("old", "%s", oneLine(r.OldSQL))
	}
	line("new", "%s", oneLine(r.SQL))
	asked := "the oldest message"
	if !r.From.IsZero() {
		asked = stamp(r.From)
	}
	if r.To.IsZero() {
		asked += " to now"
	} else {
		asked += " to " + stamp(r.To)
	}
	line("range", "%s", asked)
	if !r.RetainedSince.IsZero() {
		line("", "the log holds all messages only since %s: retention has dropped older ones", stamp(r.RetainedSince))
	}
	if r.Messages > 0 {
		line("covered", "messages that arrived from %s to %s", stamp(r.First), stamp(r.Last))
	}
	line("read", "%s messages of %d shards in %v, %s a second", grouped(r.Messages), r.Shards,
		r.Elapsed.Round(time.Millisecond),
		grouped(uint64(float64(r.Read)/max(r.Elapsed.Seconds(), 1e-9))))
	if r.Lost > 0 {
		line("", "%s left the log before they were read", grouped(r.Lost))
	}
	if r.Unreadable > 0 {
		line("", "%s could not be read", grouped(r.Unreadable))
	}
	b.WriteByte('\n')
	reportTables(&b, r)
	for _, d := range r.Differences {
		if len(d.Examples) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s: %d of %s\n", d.Kind, len(d.Examples), grouped(d.Count))
		for _, x := range d.Examples {
			fmt.Fprintf(&b, "  %s  %s  %s  %s\n", stamp(x.Time), printable(x.Topic), x.ID, x.Position)
			fmt.Fprintf(&b, "    payload  %s\n    old      %s\n    new      %s\n", excerptText(x.Payload),
				endText(&x.Old), endText(&x.New))
		}
	}
	if len(r.Notes) > 0 {
		b.WriteByte('\n')
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", printable(note))
	}
	return b.String()
}

func reportTables(b *strings.Builder, r *rules.ReplayReport) {
	row := func(name, old, new string) { fmt.Fprintf(b, "%-22s %14s %14s\n", name, old, new) }
	row("", "old", "new")
	row("matched FROM", grouped(r.Old.Matched), grouped(r.New.Matched))
	row("fired", grouped(r.Old.Fired), grouped(r.New.Fired))
	row("failed", grouped(r.Old.Errors), grouped(r.New.Errors))
	b.WriteByte('\n')
	for _, d := range r.Differences {
		row(d.Kind, "", grouped(d.Count))
	}
	row("both fire, same output", "", grouped(r.Unchanged))
	row("neither fires", "", grouped(r.Neither))
	if len(r.Topics) == 0 {
		return
	}
	more := ""
	if r.MoreTopics {
		more = " or more"
	}
	fmt.Fprintf(b, "\ndifferences by topic: the %d with most of %s%s\n", len(r.Topics), grouped(uint64(r.TopicsInAll)),
		more)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, t := range r.Topics {
		var kinds []string
		for _, d := range r.Differences {
			if n := t.Differences[d.Kind]; n > 0 {
				kinds = append(kinds, grouped(n)+" "+d.Kind)
			}
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", printable(t.Topic), grouped(t.Count), strings.Join(kinds, ", "))
	}
	_ = w.Flush()
}

// excerptText shows the bytes of an excerpt, as text where they are.
func excerptText(x *rules.Excerpt) string {
	s := dataText(&x.Data)
	if x.Of == 0 {
		return s
	}
	if text := strings.ToValidUTF8(string(x.Bytes), ""); len(text) > len(x.Bytes)-utf8.UTFMax &&
		!strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
		s = text
	}
	return fmt.Sprintf("%s… (%d bytes)", s, x.Of)
}

func endText(e *rules.ReplayEnd) string {
	switch {
	case e.Document != nil:
		return excerptText(e.Document)
	case e.Error != "":
		return "fails: " + printable(e.Error)
	}
	return "does not fire: " + e.Result
}
