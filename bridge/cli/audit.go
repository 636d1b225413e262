package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var auditCommand = command{name: "audit", summary: "print who changed what, and who was refused",
	example: "tidemill-bridge audit -since 24h\ntidemill-bridge audit -source sign-in -follow\n" +
		"tidemill-bridge audit -target 'things/pump-*' -json",
	run: func(ctx context.Context, c *call) error {
		follow := c.flags.Bool("follow", false, "go on at the end until interrupted")
		since := c.flags.String("since", "",
			"leave away what is older: a `time` such as 2026-11-30T08:00:00Z, or how long ago, such as 24h")
		asJSON := c.flags.Bool("json", false, "print the records as JSON lines")
		var want auditFilter
		for _, f := range []struct {
			name, usage string
			to          *string
		}{
			{"source", "print those of a `source` alone: admin, aws, bridge.d, provisioning, first-connection, sign-in, " +
				"connection or bridge", &want.source},
			{"who", "print those by `whom` alone, such as an access key; * stands for any text here and below",
				&want.who},
			{"action", "print those of an `action` alone, such as DeletePolicy or 'Delete*'", &want.action},
			{"target", "print those about a `target` alone, such as '*thing/pump-1'", &want.target},
		} {
			c.flags.StringVar(f.to, f.name, "", f.usage)
		}
		if err := c.parse(0, 0); err != nil {
			return err
		}
		var err error
		if want.since, err = auditSince(*since, time.Now()); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			print := func(text []byte, r *audit.Record) error { return printRecord(c.stdout, r) }
			if *asJSON {
				out := c.json()
				print = func(text []byte, _ *audit.Record) error {
					_, err := fmt.Fprintf(out, "%s\n", text)
					return err
				}
			}
			q := url.Values{"name": {audit.Stream}, "from": {"oldest"},
				"follow": {strconv.FormatBool(*follow && a.live)}}
			err := a.do(ctx, "GET", "/v1/streams/records", q, nil, readLines(want.each(print)))
			switch {
			case errors.Is(err, io.EOF) && *follow && a.live, errors.Is(err, io.ErrUnexpectedEOF) && ctx.Err() == nil:
				return a.ended(ctx)
			case errors.Is(err, io.EOF), ctx.Err() != nil:
				return nil
			}
			return err
		})
	}}

// auditSince reads -since: a time, or how long before now.
func auditSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usagef("audit: -since %s: want a time such as 2026-11-30T08:00:00Z, or a duration such as 24h", text)
	}
	return t, nil
}

// An auditFilter says which records are printed. Of texts "" is any, and * in one
// stands for any text.
type auditFilter struct {
	since                       time.Time
	source, who, action, target string
}

// takes says whether r is printed.
func (f *auditFilter) takes(r *audit.Record) bool {
	return !r.Time.Before(f.since) && like(f.source, r.Source) && like(f.who, r.Who) && like(f.action, r.Action) &&
		like(f.target, r.Target)
}

// like says whether text is as pattern has it.
func like(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(parts) == 1 {
		return text == pattern
	}
	if !strings.HasPrefix(text, first) {
		return false
	}
	text = text[len(first):]
	for _, p := range parts[1 : len(parts)-1] {
		_, rest, ok := strings.Cut(text, p)
		if !ok {
			return false
		}
		text = rest
	}
	return strings.HasSuffix(text, last)
}

// maxSeen is how many ids are remembered: a record that is there twice, after a
// crash, is among the last that were moved, of which there are fewer.
const maxSeen = 10_000

// each calls print for the records of a tail that f takes, until it ends.
func (f *auditFilter) each(print func(text []byte, r *audit.Record) error) func(*json.Decoder) error {
	seen, order := map[string]bool{}, []string{}
	return func(dec *json.Decoder) error {
		for {
			var line admin.StreamRecord
			if err := dec.Decode(&line); err != nil {
				return err
			}
			var r audit.Record
			if err := json.Unmarshal(line.JSON, &r); err != nil {
				continue // of a later version, or none
			}
			if r.ID != "" && seen[r.ID] || !f.takes(&r) {
				continue
			}
			if seen[r.ID] = true; len(order) == maxSeen {
				delete(seen, order[0])
				order = order[1:]
			}
			order = append(order, r.ID)
			if err := print(line.JSON, &r); err != nil {
				return err
			}
		}
	}
}

// printRecord prints a record for people: a line, and one for each thing more that
// it says. Nothing in it is anything but text for a terminal.
func printRecord(w io.Writer, r *audit.Record) error {
	var b bytes.Buffer
	outcome := ""
	if r.Error != "" {
		outcome = " REFUSED"
	}
	fmt.Fprintf(&b, "%s %s %s%s", r.Time.Format(logTime), printable(r.Source), printable(r.Action), outcome)
	if r.Target != "" {
		fmt.Fprintf(&b, " %s", printable(r.Target))
	}
	b.WriteByte('\n')
	var by []string
	for _, x := range []struct{ name, text string }{{"by", r.Who}, {"key", r.Key}, {"from", r.From},
		{"client", r.Client}, {"request", r.Request}} {
		if x.text != "" {
			by = append(by, x.name+" "+printable(x.text))
		}
	}
	left := ""
	if r.Left > 0 {
		left = fmt.Sprintf("%d more of this kind", r.Left)
	}
	for _, x := range []struct{ name, text string }{{"", strings.Join(by, ", ")}, {"error: ", printable(r.Error)},
		{"before: ", printable(string(r.Before))}, {"after: ", printable(string(r.After))}, {"", left}} {
		if x.text != "" {
			fmt.Fprintf(&b, "    %s%s\n", x.name, x.text)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}
