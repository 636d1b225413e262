package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/agent/health"
)

// statusTimeout is how long the agent may take to answer.
const statusTimeout = 5 * time.Second

func runStatus(ctx context.Context, c *call) error {
	load := configFlags(c)
	asJSON := c.flags.Bool("json", false, "print JSON")
	socket := c.flags.String("socket", os.Getenv("TIDEMILL_SOCKET"), "the agent's Unix `socket`; default: what the configuration says")
	if err := c.parse(0); err != nil {
		return err
	}
	if *socket == "" {
		cfg, err := load()
		if err != nil {
			return err
		}
		*socket = cfg.Socket
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	body, err := health.Query(ctx, *socket, "/status")
	if err != nil {
		return err
	}
	if *asJSON {
		_, err = fmt.Fprintf(c.stdout, "%s\n", body)
		return err
	}
	var st device.Status
	if err := json.Unmarshal(body, &st); err != nil {
		return fmt.Errorf("the agent's answer is no status: %w", err)
	}
	return printStatus(c, &st)
}

// since prints a time as its age.
func since(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return time.Since(t).Round(time.Second).String() + " ago"
}

func printStatus(c *call, st *device.Status) error {
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "thing\t%s\n", st.Thing)
	fmt.Fprintf(w, "agent\t%s, started %s, clock %s\n", st.Version, since(st.Started), st.Clock)
	l := &st.Link
	fmt.Fprintf(w, "link\t%s since %s, to %s\n", l.State, l.Since.Format(time.RFC3339), l.Endpoint)
	fmt.Fprintf(w, "last ack\t%s, %d batches acknowledged, %d messages in flight\n", since(l.LastAck), l.Acked, l.Inflight)
	if l.Error != "" {
		fmt.Fprintf(w, "last error\t%s, %s: %s\n", since(l.ErrorAt), l.ErrorKind, l.Error)
	}
	s := &st.Spool
	oldest := "none"
	if !s.Oldest.IsZero() && s.Batches > 0 {
		oldest = since(s.Oldest)
	}
	fmt.Fprintf(w, "spool\t%d readings in %d batches, %d bytes, oldest %s\n", s.Readings, s.Batches, s.Bytes, oldest)
	fmt.Fprintf(w, "\t%d durable in all, %d acknowledged, %d dropped, %d refused, %d in memory\n", s.Appended, s.Acked, s.Dropped, s.Refused, s.Unflushed)
	if st.Shadow != nil {
		fmt.Fprintf(w, "shadow\tcloud version %d, local version %d\n", st.Shadow.Cloud, st.Shadow.Local)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(st.Sensors) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nSENSOR\tDRIVER\tEVERY\tREADINGS\tLAST\tERRORS\tSTATE")
	for _, s := range st.Sensors {
		state := "ok"
		switch {
		case s.Stuck:
			state = "the driver hangs"
		case s.Error != "":
			state = s.Error
		case !s.Open:
			state = "not open"
		case s.Level != nil:
			state = fmt.Sprintf("ok, level %v", *s.Level)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\t%s\n", s.Name, s.Driver, s.Every, s.Readings, since(s.Last), s.Errors, state)
	}
	return w.Flush()
}
