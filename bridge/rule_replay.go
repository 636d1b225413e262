package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/server"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

var ruleReplay = command{name: "rule replay", summary: "evaluate a changed rule over the messages in the log, next to the one in force",
	example: `tidemill-bridge rule replay -rule new.json -against hot -from 3d   # the last three days
tidemill-bridge rule replay -rule hot.json -from 2026-03-01 -to 2026-03-02T06:00:00Z -examples 10
tidemill-bridge rule replay -against hot -sql "SELECT temp FROM 'dt/#' WHERE temp > 35"`,
	run: func(ctx context.Context, c *call) error {
		file := c.flags.String("rule", "", "`file` of the changed rule, a topic rule payload")
		sql := c.flags.String("sql", "", "the changed statement, or @FILE, instead of -rule")
		version := c.flags.String("sql-version", iotsql.Version2016, "awsIotSqlVersion of -sql")
		against := c.flags.String("against", "", "`name` of the rule in force (default: the changed rule's; if there is none, whatever fires is new)")
		from := c.flags.String("from", "oldest", "arrival of the first messages: a `time` as 2026-03-01T06:00:00Z, a date (UTC), how long ago (2h, 3d), or oldest")
		to := c.flags.String("to", "now", "arrival that ends them, likewise a `time`, which is not taken itself, or now")
		shards := c.flags.String("shard", "", "`shards` of the ingest log, as 0,3 (default: all)")
		examples := c.flags.Int("examples", 3, "how many messages of each kind of difference are shown")
		jobs := c.flags.Int("jobs", 1, "goroutines that evaluate, at most one for each processor")
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		if (*file == "") == (*sql == "") {
			return usagef("rule replay: want -rule or -sql; see -h")
		}
		in := &server.ReplayRequest{Against: *against, Examples: *examples, Jobs: *jobs}
		now := time.Now()
		var err error
		if in.From, err = moment(*from, now); err != nil {
			return usagef("rule replay: -from %w", err)
		}
		if *to != "now" { // else all that is there
			if in.To, err = moment(*to, now); err != nil {
				return usagef("rule replay: -to %w", err)
			}
		}
		switch {
		case *to == "oldest":
			return usagef("rule replay: -to oldest leaves nothing")
		case in.To.Before(in.From) && !in.To.IsZero():
			return usagef("rule replay: -to %s is before -from %s", *to, *from)
		case *examples < 0 || *examples > rules.MaxExamples:
			return usagef("rule replay: -examples %d, want 0 to %d", *examples, rules.MaxExamples)
		case *jobs < 1:
			return usagef("rule replay: -jobs %d, want 1 or more", *jobs)
		}
		if in.Shards, err = shardList(*shards); err != nil {
			return usagef("rule replay: -shard %w", err)
		}
		if err := changedRule(in, *file, *sql, *version); err != nil {
			return err
		}
		return c.with(ctx, func(a *admin) error {
			report, err := c.replay(ctx, a, in)
			if err != nil {
				return err
			}
			if *asJSON {
				return c.printJSON(report)
			}
			_, err = io.WriteString(c.stdout, reportText(report))
			return err
		})
	}}

// changedRule puts the rule of -rule or -sql into the request. Unless its
// document names it, it goes by the name of the rule it is compared with, or
// else by its file's.
func changedRule(in *server.ReplayRequest, file, sql, version string) error {
	if in.Name = in.Against; in.Name == "" {
		in.Name = strings.TrimSuffix(filepath.Base(file), ".json")
	}
	if file != "" {
		doc, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !json.Valid(doc) {
			return fmt.Errorf("%s: it is no JSON", file)
		}
		in.Document = doc
		return nil
	}
	if in.Against == "" {
		in.Name = "replay"
	}
	text, err := argument(sql)
	if err != nil {
		return err
	}
	in.Document, err = json.Marshal(map[string]string{"sql": string(text), "awsIotSqlVersion": version})
	return err
}

// moment reads a time; oldest is zero.
func moment(s string, now time.Time) (time.Time, error) {
	switch s {
	case "oldest":
		return time.Time{}, nil
	case "now":
		return now, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		days, rest = "0", s
	}
	n, err := strconv.ParseUint(days, 10, 16)
	var d time.Duration
	if err == nil && (rest != "" || !ok) {
		d, err = time.ParseDuration(rest)
	}
	if err != nil || d < 0 {
		return time.Time{}, fmt.Errorf("%q: want a time as 2026-03-01T06:00:00Z, a date, how long ago as 90m, 2h or 3d, oldest or now", s)
	}
	return now.Add(-time.Duration(n)*24*time.Hour - d), nil
}

func shardList(s string) (all []int, err error) {
	if s == "" {
		return nil, nil
	}
	for _, text := range strings.Split(s, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
		if err != nil {
			return nil, fmt.Errorf("%q: want numbers with commas between them", s)
		}
		all = append(all, int(n))
	}
	return all, nil
}

// replay asks for a replay and tells how it goes on. When ctx ends it has the
// bridge end it too, and returns what was found until then.
func (c *call) replay(ctx context.Context, a *admin, in *server.ReplayRequest) (*rules.ReplayReport, error) {
	asking, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	r, w := io.Pipe()
	asked := make(chan error, 1)
	go func() {
		err := a.do(asking, "POST", "/v1/replays", nil, in, w)
		w.CloseWithError(err)
		asked <- err
	}()
	show := newMeter(c.stderr)
	keep, ended := func() bool { return true }, make(chan struct{})
	var last server.ReplayLine
	dec := json.NewDecoder(r)
	var err error
	for first := true; err == nil && last.Report == nil && last.Error == ""; first = false {
		last = server.ReplayLine{}
		if err = dec.Decode(&last); err != nil {
			break
		}
		if first {
			path := "/v1/replays/" + url.PathEscape(last.ID)
			keep = context.AfterFunc(ctx, func() {
				defer close(ended)
				_ = a.do(asking, "DELETE", path, nil, nil, nil) // it may have come to its end
			})
		}
		show.progress(&last, time.Now())
	}
	show.end()
	r.Close()
	failed := <-asked
	leave()
	if !keep() {
		<-ended
	}
	switch {
	case last.Report != nil:
		return last.Report, nil
	case last.Error != "":
		return nil, errors.New(last.Error)
	case failed != nil && !errors.Is(failed, io.ErrClosedPipe):
		return nil, failed
	}
	return nil, fmt.Errorf("the answer broke off: %w", err)
}

// A meter shows progress: on a terminal as one line that is written over, else
// as a line every few seconds.
type meter struct {
	w        io.Writer
	terminal bool
	shown    time.Time
	written  bool // a line on the terminal
}

const meterEvery = 5 * time.Second

func newMeter(w io.Writer) *meter {
	m := &meter{w: w, shown: time.Now()}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		m.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return m
}

func (m *meter) progress(l *server.ReplayLine, now time.Time) {
	if l.Report != nil || l.Error != "" || !m.terminal && now.Sub(m.shown) < meterEvery {
		return
	}
	m.shown = now
	text := fmt.Sprintf("read %s of %s messages, %.0f %%, %s a second", grouped(l.Read), grouped(l.Of), 100*float64(l.Read)/float64(max(1, l.Of)), grouped(uint64(l.Rate)))
	if m.terminal {
		fmt.Fprintf(m.w, "\r%s\x1b[K", text)
		m.written = true
		return
	}
	fmt.Fprintln(m.w, text)
}

// end leaves the line for what comes next.
func (m *meter) end() {
	if m.written {
		fmt.Fprint(m.w, "\r\x1b[K")
	}
}

// grouped writes 1234567 as 1,234,567.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func reportText(r *rules.ReplayReport) string {
	var b strings.Builder
	if r.Partial {
		fmt.Fprintf(&b, "PARTIAL: ended after %s of %s messages; what follows is of those\n\n", grouped(r.Read), grouped(r.Records))
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
	line("read", "%s messages of %d shards in %v, %s a second", grouped(r.Messages), r.Shards, r.Elapsed.Round(time.Millisecond),
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
			fmt.Fprintf(&b, "  %s  %s  %s  %s\n", stamp(x.Time), x.Topic, x.ID, x.Position)
			fmt.Fprintf(&b, "    payload  %s\n    old      %s\n    new      %s\n", excerptText(x.Payload), endText(&x.Old), endText(&x.New))
		}
	}
	if len(r.Notes) > 0 {
		b.WriteByte('\n')
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", note)
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
	fmt.Fprintf(b, "\ndifferences by topic: the %d with most of %s%s\n", len(r.Topics), grouped(uint64(r.TopicsInAll)), more)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, t := range r.Topics {
		var kinds []string
		for _, d := range r.Differences {
			if n := t.Differences[d.Kind]; n > 0 {
				kinds = append(kinds, grouped(n)+" "+d.Kind)
			}
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", t.Topic, grouped(t.Count), strings.Join(kinds, ", "))
	}
	_ = w.Flush()
}

// excerptText shows the bytes of an excerpt, as text where they are.
func excerptText(x *rules.Excerpt) string {
	s := dataText(&x.Data)
	if x.Of == 0 {
		return s
	}
	if text := strings.ToValidUTF8(string(x.Bytes), ""); len(text) > len(x.Bytes)-utf8.UTFMax && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) {
		s = text
	}
	return fmt.Sprintf("%s… (%d bytes)", s, x.Of)
}

func endText(e *rules.ReplayEnd) string {
	switch {
	case e.Document != nil:
		return excerptText(e.Document)
	case e.Error != "":
		return "fails: " + e.Error
	}
	return "does not fire: " + e.Result
}
