package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

var ruleTest = command{name: "rule test", alone: true,
	summary: "evaluate a statement on one message, and say why it fires or not",
	example: `tidemill-bridge rule test -sql "SELECT temp FROM 'dt/#' WHERE temp > 30" -topic dt/pi-1/climate -payload '{"temp":31.5}'
tidemill-bridge rule test -sql "SELECT *, topic(1) AS t" -topic '$aws/rules/hot/pi-1' -payload '{}'     # Basic Ingest
tidemill-bridge rule test -sql @rule.sql -topic dt/pi-1 -payload @reading.json -shadow pi-1=@shadow.json -secret api=@key`,
	run: func(ctx context.Context, c *call) error {
		sql := c.flags.String("sql", "", "the statement, or @FILE")
		version := c.flags.String("sql-version", iotsql.Version2016, "awsIotSqlVersion")
		payload := c.flags.String("payload", "", "payload, @FILE, or - for standard input")
		quiet := c.flags.Bool("quiet", false, "print the document only, no explanation")
		sample := newSample(c.flags)
		if err := c.parse(0, 0); err != nil {
			return err
		}
		m := &sample.message
		if *sql == "" || m.Topic == "" {
			return usagef("rule test: -sql and -topic are needed; see -h")
		}
		if err := topic.ValidName(m.Topic); err != nil {
			return usagef("rule test: -topic: %w", err)
		}
		text, err := argument(*sql)
		if err != nil {
			return err
		}
		if m.Payload, err = argument(*payload); err != nil {
			return err
		}
		s, err := sample.services().Compile(string(text), *version)
		if err != nil {
			return err
		}
		if err := s.Check(); err != nil { // as when the rule is made
			return err
		}
		if m.Rule == "" {
			m.Rule, _, _ = topic.CutRule(m.Topic)
		}
		e := s.Explain(ctx, m)
		if !*quiet {
			shown := e
			shown.Output = []byte(printable(string(e.Output)))
			fmt.Fprintln(c.stderr, strings.TrimRight(shown.String(), "\n"))
		}
		if sample.missing != nil {
			fmt.Fprintf(c.stderr, "give %s, or ask a bridge with rule why NAME -payload …\n",
				strings.Join(sample.missing, ", "))
		}
		switch {
		case e.Err != nil:
			return e.Err
		case !e.Fired:
			return errDoesNotFire
		}
		_, err = fmt.Fprintf(c.bytes(false), "%s\n", e.Output)
		return err
	}}

var errDoesNotFire = errors.New("the rule does not fire")

// fileArgument is what argument takes for a FILE of the command line, which
// may be - for standard input.
func fileArgument(path string) string {
	if path == "-" {
		return path
	}
	return "@" + path
}

// argument returns a flag's text, or the file that @FILE or - names.
func argument(v string) ([]byte, error) {
	if v == "-" {
		return io.ReadAll(os.Stdin)
	}
	if path, ok := strings.CutPrefix(v, "@"); ok {
		return os.ReadFile(path)
	}
	return []byte(v), nil
}

var ruleList = command{name: "rule list",
	summary: "list the rules, with counts since the bridge's start, and what is wrong with them or with files of " +
		"bridge.d",
	example: "tidemill-bridge rule list",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.withRunning(ctx, "no rule is in force", func(a *client) error {
			var all []admin.RuleInfo
			if err := a.do(ctx, "GET", "/v1/rules", nil, nil, &all); err != nil {
				return err
			}
			var refused []admin.RefusedInfo
			if err := a.do(ctx, "GET", "/v1/refused", nil, nil, &refused); err != nil {
				return err
			}
			held, err := heldRules(ctx, a)
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "RULE\tSOURCE\tSTATE\tMATCHED\tFIRED\tUNMERGED\tERRORS\tACTIONS\tACTION "+
				"ERRORS\tRETRIES\tLATENCY\tSQL")
			var trouble []string
			for _, r := range all {
				source := "API"
				if r.File != "" {
					source = filepath.Base(r.File)
				}
				state := "enabled"
				if r.Disabled {
					state = "disabled"
				}
				if held[r.Name] {
					state += ", held"
				}
				switch {
				case r.Trouble == "":
				case r.File != "":
					state += ", file error"
				default:
					state = "broken"
					trouble = append(trouble, fmt.Sprintf("%s: not in force: %s", r.Name, r.Trouble))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%v\t%s\n", r.Name, source, state, r.Matched,
					r.Fired, r.Unmerged, r.Errors, r.Actions, r.ActionErrors,
					r.Retries, meanText(r.Durable),
					strings.Join(strings.Fields(r.SQL), " "))
			}
			for _, f := range refused {
				trouble = append(trouble,
					fmt.Sprintf("%s is refused; what it declared before, if anything, stays: %s", f.File, f.Why))
			}
			if err := w.Flush(); err != nil || trouble == nil {
				return err
			}
			_, err = fmt.Fprintf(c.stdout, "\n%s\n", strings.Join(trouble, "\n"))
			return err
		})
	}}

// meanText is a mean latency with three digits, "-" of none.
func meanText(l rules.Latency) string {
	if l.Count == 0 {
		return "-"
	}
	mean, unit := l.Mean(), time.Duration(1)
	for mean/unit >= 1000 {
		unit *= 10
	}
	return mean.Round(unit).String()
}
