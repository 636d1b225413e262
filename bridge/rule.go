package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/server"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

var ruleTest = command{name: "rule test", alone: true, summary: "evaluate a statement on one message, and say why it fires or not",
	example: `tidemill-bridge rule test -sql "SELECT temp FROM 'dt/#' WHERE temp > 30" -topic dt/pi-1/climate -payload '{"temp":31.5}'`,
	run: func(ctx context.Context, c *call) error {
		sql := c.flags.String("sql", "", "the statement, or @FILE")
		version := c.flags.String("sql-version", iotsql.Version2016, "awsIotSqlVersion")
		name := c.flags.String("topic", "", "topic the message is published on")
		payload := c.flags.String("payload", "", "payload, @FILE, or - for standard input")
		client := c.flags.String("client", "test", "client id of the publisher")
		quiet := c.flags.Bool("quiet", false, "print the document only, no explanation")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		if *sql == "" || *name == "" {
			return usagef("rule test: -sql and -topic are needed; see -h")
		}
		if err := topic.ValidName(*name); err != nil {
			return usagef("rule test: -topic: %w", err)
		}
		text, err := argument(*sql)
		if err != nil {
			return err
		}
		body, err := argument(*payload)
		if err != nil {
			return err
		}
		s, err := iotsql.Compile(string(text), *version)
		if err != nil {
			return err
		}
		m := &iotsql.Message{Topic: *name, Payload: body, ClientID: *client, Time: time.Now().UnixMilli(), RuleName: "test"}
		if !*quiet {
			fmt.Fprintln(c.stderr, strings.TrimRight(s.Explain(ctx, m).String(), "\n"))
		}
		if !s.Matches(*name) {
			return errDoesNotFire
		}
		out, fired, err := s.Eval(ctx, nil, m)
		if err != nil {
			return err
		}
		if !fired {
			return errDoesNotFire
		}
		_, err = fmt.Fprintf(c.stdout, "%s\n", out)
		return err
	}}

var errDoesNotFire = errors.New("the rule does not fire")

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

var ruleList = command{name: "rule list", summary: "list the rules in force, with counts",
	example: "tidemill-bridge rule list",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *admin) error {
			if !a.live {
				return fmt.Errorf("no bridge runs over %s, so no rule is in force", a.data)
			}
			var rules []server.RuleInfo
			if err := a.do(ctx, "GET", "/v1/rules", nil, nil, &rules); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "RULE\tMATCHED\tFIRED\tERRORS\tACTIONS\tACTION ERRORS\tSQL")
			for _, r := range rules {
				fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", r.Name, r.Matched, r.Fired, r.Errors, r.Actions, r.ActionErrors,
					strings.Join(strings.Fields(r.SQL), " "))
			}
			return w.Flush()
		})
	}}
