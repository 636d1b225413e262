package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

var ruleWhy = command{name: "rule why", args: "NAME",
	summary: "say step by step what a rule made of a message, or would make of a sample",
	example: `tidemill-bridge rule why hot                     # the newest messages that the rule met
tidemill-bridge rule why hot -failed
tidemill-bridge rule why hot -message 7e146a2c-95b5-4caf-98b9-50e3969734c7
tidemill-bridge rule why hot -message 3/1207      # SHARD/OFFSET of the ingest log
tidemill-bridge rule why hot -topic dt/pi-1/climate -payload '{"temp":31.5}'`,
	run: func(ctx context.Context, c *call) error {
		rule := c.flags.String("rule", "", "in place of NAME: `name` of the rule")
		message := c.flags.String("message", "", "trace `id` of a message, or SHARD/OFFSET")
		failed := c.flags.Bool("failed", false, "list those messages only that failed")
		since := c.flags.Duration("since", time.Hour, "how far back the log is searched for what is not kept")
		name := c.flags.String("topic", "", "topic of a sample")
		payload := c.flags.String("payload", "", "payload of a sample, @FILE, or - for standard input")
		clientID := c.flags.String("client", "test", "client id of a sample's publisher")
		asJSON := c.flags.Bool("json", false, "print JSON")
		if err := c.parse(0, 1); err != nil {
			return err
		}
		if err := c.argumentOr(rule, "-rule"); err != nil {
			return err
		}
		switch {
		case *rule == "":
			return usagef("rule why: want NAME; see -h")
		case *message != "" && *name != "":
			return usagef("rule why: -message and -topic exclude each other; see -h")
		case *name == "" && *payload != "":
			return usagef("rule why: a sample needs -topic; see -h")
		}
		path := "/v1/rules/" + url.PathEscape(*rule)
		q := url.Values{"since": {since.String()}, "failed": {strconv.FormatBool(*failed)}}
		return c.with(ctx, func(a *client) error {
			switch {
			case *name != "":
				if err := topic.ValidName(*name); err != nil {
					return usagef("rule why: -topic: %w", err)
				}
				body, err := argument(*payload)
				if err != nil {
					return err
				}
				var w rules.Why
				if err := a.do(ctx, "POST", path+"/why", nil,
					admin.Sample{Topic: *name, Payload: body, ClientID: *clientID}, &w); err != nil {
					return err
				}
				return c.printWhy(&w, *asJSON)
			case *message != "":
				q.Set("message", *message)
				w, err := c.askWhy(ctx, a, path+"/why", q)
				if err != nil {
					return err
				}
				return c.printWhy(w, *asJSON)
			}
			var all []rules.Recent
			if err := a.do(ctx, "GET", path+"/recent", q, nil, &all); err != nil {
				return err
			}
			return c.printRecent(all, *failed, *asJSON)
		})
	}}

// askWhy asks, telling how the search goes on.
func (c *call) askWhy(ctx context.Context, a *client, path string, q url.Values) (*rules.Why, error) {
	var last admin.WhyLine
	err := a.do(ctx, "GET", path, q, nil, lines(func(line admin.WhyLine) bool {
		last = line
		if line.Of > 0 {
			fmt.Fprintf(c.stderr, "searched %d of %d messages\n", line.Searched, line.Of)
		}
		return line.Why != nil || line.Error != ""
	}))
	if err == nil && last.Error != "" {
		err = errors.New(last.Error)
	}
	return last.Why, err
}

func (c *call) printJSON(v any) error {
	enc := json.NewEncoder(c.json())
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func (c *call) printRecent(all []rules.Recent, failed, asJSON bool) error {
	if asJSON {
		return c.printJSON(all)
	}
	if len(all) == 0 {
		text := "no message that met the rule"
		if failed {
			text += " and failed"
		}
		fmt.Fprintln(c.stderr, text+" is kept, nor in the log as far as -since reaches back")
		return nil
	}
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MESSAGE\tPOSITION\tARRIVED\tTOPIC\tRESULT")
	for _, m := range all {
		name, result := m.Topic, m.Result
		if name == "" {
			name = "(dropped by retention)"
		}
		if m.Reason != "" {
			result += ": " + m.Reason
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.ID, m.Position, stamp(m.Time), printable(name), printable(result))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if !all[0].Kept {
		fmt.Fprintln(c.stderr, "none is kept of this rule: these are of the log, and evaluated now")
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func (c *call) printWhy(w *rules.Why, asJSON bool) error {
	if asJSON {
		return c.printJSON(w)
	}
	var b strings.Builder
	whyText(&b, w)
	if w.Today != nil {
		b.WriteString("\nThe rule in force now comes to another end:\n")
		whySteps(&b, w.Today)
	}
	for _, note := range w.Notes {
		fmt.Fprintf(&b, "\nnote: %s", printable(note))
	}
	if len(w.Notes) > 0 {
		b.WriteByte('\n')
	}
	_, err := io.WriteString(c.stdout, b.String())
	return err
}

func whyText(b *strings.Builder, w *rules.Why) {
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "%-8s %s\n", name, printable(value))
		}
	}
	m := w.Message
	line("rule", w.Rule)
	line("message", strings.TrimSpace(m.ID+" "+m.Position))
	if !m.Time.IsZero() && w.Found != "sample" {
		line("arrived", stamp(m.Time))
	}
	line("topic", m.Topic)
	line("client", m.ClientID)
	line("payload", dataText(m.Payload))
	b.WriteByte('\n')
	whySteps(b, w)
	for _, a := range w.Actions {
		if a.Slot == "error" {
			fmt.Fprintf(b, "\nerror action: %s\n", a.Kind)
		} else {
			fmt.Fprintf(b, "\naction %s: %s\n", a.Slot, a.Kind)
		}
		for _, p := range a.Parameters {
			fmt.Fprintf(b, "  %-18s %s\n", printable(p.Name), printable(p.Value))
		}
		fmt.Fprintf(b, "  %s\n", printable(outcomeText(w, &a)))
	}
}

// whySteps writes the steps of the evaluation and its end.
func whySteps(b *strings.Builder, w *rules.Why) {
	fmt.Fprintf(b, "%s\n", strings.Join(strings.Fields(w.SQL), " "))
	x := iotsql.Explanation{Matched: w.Matched, Fired: w.Fired, Steps: w.Steps, Output: []byte(dataText(w.Document))}
	if w.Error != "" {
		x.Err = errors.New(printable(w.Error))
	}
	if w.Steps == nil {
		x.Output = []byte("what is not known any more")
	}
	b.WriteString(x.String())
}

// dataText shows JSON, or else text or Base64.
func dataText(d *rules.Data) string {
	switch {
	case d == nil:
		return ""
	case d.JSON != nil:
		return printable(string(d.JSON)) // line ends between its tokens, too
	}
	return strconv.Quote(string(d.Bytes))
}

// outcomeText says what came of an action.
func outcomeText(w *rules.Why, a *rules.ActionWhy) string {
	o := a.Outcome
	switch {
	case o == nil && a.Error != "":
		return "cannot be had: " + a.Error
	case o == nil && a.Parameters == nil:
		return "does not run"
	case o == nil && w.Found == "sample":
		return "would run"
	case o == nil:
		return "what came of it is not kept"
	}
	s := o.State
	where := ""
	if o.Stream != "" {
		where = fmt.Sprintf(" stream %s shard %d offset %d", o.Stream, o.Shard, o.Offset)
	}
	switch o.State {
	case rules.StateCommitted:
		if where != "" {
			s += " to" + where
		}
	case rules.StateWaiting:
		if where != "" {
			s += " in" + where
		}
		if o.Attempts > 0 {
			s += fmt.Sprintf(", %s, the last", attempts(o.Attempts))
		}
	case rules.StateDelivered, rules.StateGivenUp:
		s += " after " + attempts(o.Attempts)
	case rules.StateEnded:
		return "it is in its outbox no more; how it ended is not kept"
	}
	if !o.Time.IsZero() && (o.State != rules.StateWaiting || o.Attempts > 0) {
		s += " at " + stamp(o.Time)
	}
	if o.Error != "" {
		s += ": " + o.Error
	}
	return s
}

func attempts(n int) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}
