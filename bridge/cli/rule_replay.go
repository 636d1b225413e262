package cli

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
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

var ruleReplay = command{name: "rule replay", args: "[FILE]",
	summary: "evaluate a changed rule over the messages in the log, next to the one in force",
	example: `tidemill-bridge rule replay new.json -against hot -from 3d   # the last three days
tidemill-bridge rule replay hot.json -from 2026-03-01 -to 2026-03-02T06:00:00Z -examples 10
tidemill-bridge rule replay -against hot -sql "SELECT temp FROM 'dt/#' WHERE temp > 35"`,
	run: func(ctx context.Context, c *call) error {
		file := c.flags.String("rule", "", "in place of FILE: `file` of the changed rule, a topic rule payload")
		sql := c.flags.String("sql", "", "the changed statement, or @FILE, instead of FILE")
		version := c.flags.String("sql-version", iotsql.Version2016, "awsIotSqlVersion of -sql")
		against := c.flags.String("against", "",
			"`name` of the rule in force (default: the changed rule's; if there is none, whatever fires is new)")
		from := c.flags.String("from", "oldest",
			"arrival of the first messages: a `time` as 2026-03-01T06:00:00Z, a date (UTC), how long ago (2h, 3d), or oldest")
		to := c.flags.String("to", "now",
			"arrival that ends them, likewise a `time`, which is not taken itself, or now")
		shards := c.flags.String("shard", "", "`shards` of the ingest log, as 0,3 (default: all)")
		examples := c.flags.Int("examples", 3, "how many messages of each kind of difference are shown")
		jobs := c.flags.Int("jobs", 1, "goroutines that evaluate, at most one for each processor")
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(0, 1); err != nil {
			return err
		}
		if err := c.argumentOr(file, "-rule"); err != nil {
			return err
		}
		if (*file == "") == (*sql == "") {
			return usagef("rule replay: want FILE or -sql; see -h")
		}
		in := &admin.ReplayRequest{Against: *against, Examples: *examples, Jobs: *jobs}
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
		return c.with(ctx, func(a *client) error {
			report, err := c.replay(ctx, a, in)
			if err != nil {
				return err
			}
			return c.printReport(report, *asJSON)
		})
	}}

var errPartial = errors.New("the replay was interrupted; its report is of a part of the messages")

// printReport prints a report; one of a part of the messages is errPartial.
func (c *call) printReport(r *rules.ReplayReport, asJSON bool) (err error) {
	if asJSON {
		err = c.printJSON(r)
	} else {
		_, err = io.WriteString(c.stdout, reportText(r))
	}
	if err == nil && r.Partial {
		err = errPartial
	}
	return err
}

// changedRule puts the rule of -rule or -sql into the request. Unless its
// document names it, it goes by the name of the rule it is compared with, or
// else by its file's.
func changedRule(in *admin.ReplayRequest, file, sql, version string) error {
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
		return time.Time{}, fmt.Errorf(
			"%q: want a time as 2026-03-01T06:00:00Z, a date, how long ago as 90m, 2h or 3d, oldest or now", s)
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
func (c *call) replay(ctx context.Context, a *client, in *admin.ReplayRequest) (*rules.ReplayReport, error) {
	asking, leave := context.WithCancel(context.WithoutCancel(ctx))
	defer leave()
	show := newMeter(c.errs)
	keep, ended := func() bool { return true }, make(chan struct{})
	var last admin.ReplayLine
	err := a.do(asking, "POST", "/v1/replays", nil, in, lines(func(line admin.ReplayLine) bool {
		if last.ID == "" {
			path := "/v1/replays/" + url.PathEscape(line.ID)
			keep = context.AfterFunc(ctx, func() {
				defer close(ended)
				_ = a.do(asking, "DELETE", path, nil, nil, nil) // it may have come to its end
			})
		}
		last = line
		show.progress(&line, time.Now())
		return line.Report != nil || line.Error != ""
	}))
	show.end()
	leave()
	if !keep() {
		<-ended
	}
	if err == nil && last.Error != "" {
		err = errors.New(last.Error)
	}
	return last.Report, err
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
	return &meter{w: w, shown: time.Now(), terminal: isTerminal(w)}
}

func (m *meter) progress(l *admin.ReplayLine, now time.Time) {
	if l.Report != nil || l.Error != "" || !m.terminal && now.Sub(m.shown) < meterEvery {
		return
	}
	m.shown = now
	text := fmt.Sprintf("read %s of %s messages, %.0f %%, %s a second", grouped(l.Read), grouped(l.Of),
		100*float64(l.Read)/float64(max(1, l.Of)), grouped(uint64(l.Rate)))
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
