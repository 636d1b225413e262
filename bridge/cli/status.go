package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var statusCommand = command{name: "status",
	summary: "tell how the bridge is: room, certificates, the last backup, what goes into the log, what is in trouble",
	example: "tidemill-bridge status\ntidemill-bridge status -json | jq -e '.trouble == []'",
	run: func(ctx context.Context, c *call) error {
		asJSON := c.flags.Bool("json", false, "print it as JSON")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.withRunning(ctx, "there is nothing to tell: tidemill-bridge serve starts one", func(a *client) error {
			if *asJSON {
				return a.do(ctx, "GET", "/v1/status", nil, nil, c.json())
			}
			var s admin.Status
			if err := a.do(ctx, "GET", "/v1/status", nil, nil, &s); err != nil {
				return err
			}
			return c.printStatus(&s)
		})
	}}

func (c *call) printStatus(s *admin.Status) error {
	w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", what, printable(fmt.Sprintf(format, args...)))
	}
	line("version", "%s", s.Version)
	line("up", "%s, since %s", time.Duration(s.Uptime), s.Started.Local().Format(time.DateTime))
	line("data", "%s", s.Data)
	if s.Room > 0 {
		line("room", "%s of %s are free (%d %%)", disk.Text(s.Free), disk.Text(s.Room), s.Free*100/s.Room)
	}
	line("log", "%s; since the start %d records, %.1f a second, %s/s", disk.Text(s.Log.Bytes), s.Log.Records,
		s.Log.RecordsPerSecond, disk.Text(int64(s.Log.BytesPerSecond)))
	if x := s.Certificate; x != nil {
		line("certificates", "%d days left of the first that ends, %s", x.Days, x.Of)
	}
	line("backup", "%s", backupText(&s.Backup))
	if len(s.Trouble) == 0 {
		line("trouble", "none")
	}
	for _, t := range s.Trouble {
		line("trouble", "%s", t)
	}
	return w.Flush()
}

// backupText is the state of backups in words.
func backupText(s *backup.Status) string {
	var all []string
	if s.Running {
		all = append(all, "one is under way")
	}
	if l := s.Last; l != nil {
		all = append(all, fmt.Sprintf("the last good one is %s old, %s of %s in %s",
			time.Since(l.Time).Round(time.Second), l.ID, disk.Text(l.Size), time.Duration(l.Took).Round(time.Second)))
	} else {
		all = append(all, "none yet")
	}
	switch {
	case s.Target == "":
		all = append(all, "no backup.target")
	case s.Every == 0:
		all = append(all, "to "+s.Target+" when it is asked for")
	default:
		all = append(all, "to "+s.Target+" every "+time.Duration(s.Every).String())
	}
	return strings.Join(all, "; ")
}
