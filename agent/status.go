package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/agent/budget"
	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/agent/health"
)

// statusTimeout is how long the agent may take to answer.
const statusTimeout = 5 * time.Second

func runStatus(ctx context.Context, c *call) error {
	load := configFlags(c)
	asJSON := c.flags.Bool("json", false, "print JSON")
	socket := c.flags.String("socket", os.Getenv("TIDEMILL_SOCKET"),
		"the agent's Unix `socket`; default: what the configuration says")
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

// stamp prints a time, or "never".
func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format(time.RFC3339)
}

func printStatus(c *call, st *device.Status) error {
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	var line lineWriter = func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("thing", "%s", st.Thing)
	line("agent", "%s, started %s, clock %s", st.Version, since(st.Started), st.Clock)
	printTime(line, &st.Time)
	l := &st.Link
	line("link", "%s since %s, to %s", l.State, stamp(l.Since), l.Endpoint)
	line("", "%d batches acknowledged since the start, the last %s; %d messages on their way", l.Acked,
		since(l.LastAck), l.Inflight)
	if l.Error != "" {
		line("last error", "%s, %s: %s", since(l.ErrorAt), l.ErrorKind, l.Error)
	}
	if b := st.Budget; b != nil {
		printBudget(line, b)
	}
	printSpool(line, st)
	for _, loss := range st.Losses {
		line("LOST", "%s, %s %s", stamp(loss.At), loss.File, loss.Text)
	}
	if r := st.Refused; r != nil {
		line("REFUSED", "%d readings by the bridge's policy, lost, the last %s, on %s", r.Readings, since(r.Last),
			strings.Join(r.Topics, ", "))
	}
	if r := st.Remote; r != nil {
		line("configured", "by provisioning: deviceConfiguration %s", r.State)
		for _, text := range r.Errors {
			line("", "%s", text)
		}
	}
	if st.Shadow != nil {
		printShadow(line, st)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(st.Sensors) == 0 {
		return nil
	}
	printSensors(w, st.Sensors)
	return w.Flush()
}

// printBudget says what the link has taken of the month's bytes.
func printBudget(line lineWriter, b *device.BudgetStatus) {
	name, text := "budget", ""
	if b.Level != budget.Plenty {
		name, text = "BUDGET", ", flushed each "+time.Duration(b.Flush*float64(time.Second)).String()
	}
	if b.Waits {
		text += ", batches wait for the next month"
	}
	line(name, "%.1f MB of %.1f MB used: %s%s", float64(b.Used)/1e6, float64(b.Monthly)/1e6, b.Level, text)
	if b.Forecast > 0 {
		line("", "%.1f MB by %s if it goes on so", float64(b.Forecast)/1e6, stamp(b.Ends))
	}
}

// printTime says what the agent knows of the time. "known" is what readings are good
// for as they come.
func printTime(line lineWriter, t *device.TimeStatus) {
	now, within := t.Now.UTC().Format(time.RFC3339), time.Duration(t.Error*float64(time.Second)).Round(time.Millisecond)
	if t.Known {
		line("time", "known to within %v, by the %s: %s, the system's clock is %s", within, t.Source, now,
			apart(t.Offset))
	} else {
		line("TIME", "not known: it may be %s, and is not before %s", now,
			t.Now.Add(-within).UTC().Format(time.RFC3339))
	}
	if t.Waiting > 0 {
		line("", "%d batches wait for it, until %s at most", t.Waiting, stamp(t.Until))
	}
	if t.Refused != "" {
		line("", "%s", t.Refused)
	}
}

// apart says how far the system's clock is off.
func apart(offset float64) string {
	d := time.Duration(offset * float64(time.Second)).Round(time.Millisecond)
	switch {
	case d.Abs() < time.Second:
		return "right"
	case d > 0:
		return d.String() + " behind"
	}
	return (-d).String() + " ahead"
}

// A lineWriter writes a line of status: what it is about, and the text.
type lineWriter func(name, format string, args ...any)

func printSpool(line lineWriter, st *device.Status) {
	s := &st.Spool
	oldest := ""
	switch {
	case s.Batches == 0:
	case s.Oldest.IsZero():
		oldest = ", the oldest of a time when the clock was not set"
	default:
		oldest = ", the oldest written " + st.Time.Now.Sub(s.Oldest).Round(time.Second).String() + " ago"
	}
	line("spool", "%d readings in %d batches wait (%d bytes)%s; %d readings in memory", s.Readings, s.Batches, s.Bytes,
		oldest, s.Unflushed)
	line("", "since it was made: %d readings written, %d acknowledged, %d dropped; %d refused since the start",
		s.Appended, s.Acked, s.Dropped, s.Refused)
	if s.Thinned > 0 {
		line("", "%d of those dropped made room by a lower resolution of what is oldest", s.Thinned)
	}
	printWrites(line, st)
	if f := s.Failing; f != nil {
		d := &st.Disk
		line("DISK", "cannot be written since %s (%s): %s", stamp(f.Since), since(f.Since), f.Error)
		line("", "it is %s at %s, for %s, with %d bytes free", cmp.Or(d.Device, "the disk"), cmp.Or(d.Mount, d.Path),
			d.Path, d.Free)
		line("", "at risk: %d readings in memory, lost if the power goes; %d refused for want of memory", s.Unflushed,
			f.Refused)
	}
}

// printWrites says what the power costs and what the card bears.
func printWrites(line lineWriter, st *device.Status) {
	l, w := &st.Loss, &st.Writes
	text := fmt.Sprintf("a power cut now loses %.1f s of readings", l.Seconds)
	if l.Bound > 0 {
		every := time.Duration(l.Bound * float64(time.Second)).Round(time.Second / 10)
		text += fmt.Sprintf("; they are written every %v", every)
	}
	switch l.GivesWay {
	case "flush_every":
		text += fmt.Sprintf(", not %v, to keep spool.max_writes", time.Duration(l.Wanted*float64(time.Second)))
	case "max_writes":
		text += ": more than spool.max_writes, since spool.max_loss allows no longer"
	}
	line("", "%s", text)
	const mb = 1e6
	if w.Bytes != nil {
		text := fmt.Sprintf("%.2f MB by the agent since the start, %.0f bytes a reading", float64(*w.Bytes)/mb,
			w.PerReading)
		if w.PerDay > 0 {
			text += fmt.Sprintf(", %.1f MB a day", w.PerDay/mb)
		}
		if w.MaxPerDay > 0 {
			text += fmt.Sprintf(" (spool.max_writes: %.1f MB)", float64(w.MaxPerDay)/mb)
		}
		line("written", "%s", text)
	}
	if c := w.Card; c != nil {
		text := fmt.Sprintf("%s, %.1f GB: %.2f MB by all since the start", c.Name, float64(c.Capacity)/1e9,
			float64(c.Bytes)/mb)
		if c.PerDay > 0 {
			text += fmt.Sprintf(", %.1f MB a day: %.1f years at %d cycles (card.cycles)", c.PerDay/mb, c.Years,
				c.Cycles)
		}
		if c.Used != "" {
			text += "; it says itself that " + c.Used + " of its life is used"
		}
		if c.Reserved != "" {
			text += ", its reserve is " + c.Reserved
		}
		line("card", "%s", text)
	}
}

func printShadow(line lineWriter, st *device.Status) {
	sh := st.Shadow
	line("shadow", "cloud version %d, local version %d", sh.Cloud, sh.Local)
	if sh.Error != "" {
		line("", "not on the disk since %s: %s", stamp(sh.Since), sh.Error)
	}
	if sh.LeftOut > 0 {
		line("", "%d of %d sensors are not in it since %s: a shadow holds 8 KB", sh.LeftOut, len(st.Sensors),
			stamp(sh.Since))
	}
	if sh.Refused != "" {
		line("", "the cloud refuses what is reported: %s", sh.Refused)
	}
}

func printSensors(w io.Writer, all []device.SensorStatus) {
	fmt.Fprintln(w, "\nSENSOR\tDRIVER\tEVERY\tREADINGS\tLAST\tERRORS\tSTATE")
	for _, s := range all {
		state := s.State
		if s.Error != "" {
			state += " since " + stamp(s.Since) + ": " + s.Error
		} else if s.Note != "" {
			state += "; " + s.Note
		}
		for _, channel := range slices.Sorted(maps.Keys(s.Outputs)) {
			state += fmt.Sprintf(", %s %v", channel, s.Outputs[channel])
		}
		for _, n := range []struct {
			n    uint64
			what string
		}{{s.Missed, "ticks missed"}, {s.Implausible, "implausible values"},
			{s.Dropped, "readings dropped"}} {
			if n.n > 0 {
				state += fmt.Sprintf(", %d %s", n.n, n.what)
			}
		}
		if s.Held {
			state += " (safe: the bridge is not heard)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\t%s\n", printable(s.Name), printable(s.Driver),
			s.Every, s.Reads, since(s.Last), s.Errors, printable(state))
	}
}
