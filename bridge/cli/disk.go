package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/tidemill/tidemill/bridge/disk"
)

var diskCommand = command{name: "disk",
	summary: "tell what each part of the bridge takes of the disk, its limits, and whether something is refused",
	example: "tidemill-bridge disk",
	run: func(ctx context.Context, c *call) error {
		asJSON := c.flags.Bool("json", false, "print it as JSON")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return getAndPrint(ctx, c, *asJSON, "/v1/disk", nil, c.showDisk)
	}}

func (c *call) showDisk(s disk.Status) error {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PART\tUSED\tLIMIT\tOF IT")
	row := func(name string, used, limit int64) {
		most, part := "", ""
		if limit > 0 {
			most, part = disk.Text(limit), fmt.Sprintf("%d %%", min(used*100/limit, 999))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, disk.Text(used), most, part)
	}
	row("disk", s.Size-s.Free, s.Size-s.Reserve)
	row("bridge", s.Used, s.Budget)
	for _, p := range s.Parts {
		name := p.Name
		if p.Of != "" {
			name = p.Of + "/" + name
		}
		row(name, p.Used, p.Limit)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "\n%s of %s are free, %s stay so\n", disk.Text(s.Free), printable(s.Dir),
		disk.Text(s.Reserve))
	for _, what := range s.Full {
		fmt.Fprintf(c.stdout, "80 %% are used of %s\n", printable(what))
	}
	if s.Refused == "" {
		_, err := fmt.Fprintln(c.stdout, "nothing is refused")
		return err
	}
	_, err := fmt.Fprintf(c.stdout, "refused: %s: %s\n", s.Refused, printable(s.Why))
	return err
}
