package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
)

const noDeliveries = "nothing is delivered"

var firehoseList = command{name: "firehose list",
	summary: "list the delivery streams: what waits and for how long, what was delivered since the start, what failed",
	example: "tidemill-bridge firehose list",
	run:     listDeliveries}

var deliveryList = command{name: "delivery list",
	summary: "the same as firehose list",
	example: "tidemill-bridge delivery list",
	run:     listDeliveries}

func listDeliveries(ctx context.Context, c *call) error {
	if err := c.parse(0, 0); err != nil {
		return err
	}
	return c.withRunning(ctx, noDeliveries, func(a *client) error {
		var all []admin.DeliveryInfo
		if err := a.do(ctx, "GET", "/v1/delivery-streams", nil, nil, &all); err != nil {
			return err
		}
		w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "DELIVERY STREAM\tTO\tWAITING\tBYTES WAITING\tAGE\tOBJECTS\tRECORDS\tBYTES\tFAILED\t"+
			"TO REDRIVE\tTROUBLE")
		for _, d := range all {
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", d.Name, d.To, d.Waiting, d.Backlog.Bytes,
				ageText(d.Oldest), d.Objects, d.Stats.Records, d.Stats.Bytes, d.Failed, d.FailedObjects,
				troubleText(&d))
		}
		return w.Flush()
	})
}

// ageText is how long ago something came; "-" if nothing did.
func ageText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return max(0, time.Since(t)).Round(time.Second).String()
}

// troubleText is why nothing gets in or comes from the source, "-" if it does.
func troubleText(d *admin.DeliveryInfo) string {
	switch {
	case d.Held:
		return heldText
	case !d.Down.IsZero():
		return printable(d.LastError)
	case d.SourceTrouble != "":
		return "source: " + printable(d.SourceTrouble)
	}
	return "-"
}

// keptText names the members that are kept and have no effect.
func keptText(d *admin.DeliveryInfo) string {
	if len(d.Kept) == 0 {
		return "-"
	}
	return printable(strings.Join(slices.Sorted(maps.Keys(d.Kept)), ", "))
}

var firehoseShow = command{name: "firehose show", args: "NAME",
	summary: "show how a delivery stream goes: lag, the last error and the next attempt",
	example: "tidemill-bridge firehose show archive",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.withRunning(ctx, noDeliveries, func(a *client) error {
			var d admin.DeliveryInfo
			if err := a.do(ctx, "GET", deliveryPath(c.args[0], ""), nil, nil, &d); err != nil {
				return err
			}
			source := "records are put"
			if d.Source != "" {
				source = "data stream " + d.Source
			}
			if d.SourceTrouble != "" {
				source += ", which cannot be read: " + printable(d.SourceTrouble)
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			for _, row := range [][2]string{
				{"name", d.Name}, {"destination", d.To}, {"source", source},
				{"waiting", fmt.Sprintf("%d records, %d bytes, the oldest for %s", d.Waiting, d.Backlog.Bytes,
					ageText(d.Oldest))},
				{"delivered since the start", fmt.Sprintf("%d records, %d bytes, %d objects", d.Stats.Records,
					d.Stats.Bytes, d.Objects)},
				{"failed since the start", fmt.Sprintf("%d records, %d lost", d.Failed, d.Lost)},
				{"to redrive", fmt.Sprintf("%d objects", d.FailedObjects)},
				{"attempts since the start", fmt.Sprintf("%d, %d failed", d.Attempts, d.Stats.Failures)},
				{"last error", errorText(&d)}, {"state", stateText(&d)},
				{"without effect here", keptText(&d)},
			} {
				fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
			}
			return w.Flush()
		})
	}}

func errorText(d *admin.DeliveryInfo) string {
	if d.LastError == "" {
		return "none"
	}
	return fmt.Sprintf("%s ago: %s", ageText(d.FailedAt), printable(d.LastError))
}

func stateText(d *admin.DeliveryInfo) string {
	switch {
	case d.Held:
		return heldText
	case d.Down.IsZero():
		return "delivers"
	case d.NextTry.IsZero():
		return fmt.Sprintf("fails for %s, tries now", ageText(d.Down))
	}
	return fmt.Sprintf("fails for %s, tries again in %s", ageText(d.Down),
		max(0, time.Until(d.NextTry)).Round(time.Second))
}

func deliveryPath(name, what string) string {
	return "/v1/delivery-streams/" + url.PathEscape(name) + what
}

var firehoseFailed = command{name: "firehose failed", args: "NAME",
	summary: "list what a delivery stream could not deliver or process, and where it is",
	example: "tidemill-bridge firehose failed archive",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.withRunning(ctx, noDeliveries, func(a *client) error {
			var all []firehose.Failed
			if err := a.do(ctx, "GET", deliveryPath(c.args[0], "/failed"), nil, nil, &all); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ID\tTYPE\tSINCE\tRECORDS\tBYTES\tOBJECT\tERROR")
			for _, f := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s/%s\t%s\n", f.ID, f.Type, f.At.Format(time.RFC3339), f.Records,
					f.Bytes, f.Bucket, printable(f.Key), printable(f.Error))
			}
			return w.Flush()
		})
	}}

var firehoseRedrive = command{name: "firehose redrive", args: "NAME [ID…]",
	summary: "deliver again what a delivery stream could not: all of it, or what is named",
	example: "tidemill-bridge firehose redrive archive\n" +
		"tidemill-bridge firehose redrive archive 00000000000000000000-elasticsearch_failed",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1000); err != nil {
			return err
		}
		return c.withRunning(ctx, noDeliveries, func(a *client) error {
			in, failed, said := admin.RedriveRequest{IDs: c.args[1:]}, 0, 0
			path := deliveryPath(c.args[0], "/redrive")
			err := a.do(ctx, "POST", path, nil, in, lines(func(r firehose.Redriven) bool {
				what := "done"
				if said = r.Done; r.Error != "" {
					what = "stays: " + printable(r.Error)
					failed++
				}
				fmt.Fprintf(c.stdout, "%d of %d: %s, %d records: %s\n", r.Done, r.Of, r.ID, r.Records, what)
				return r.Done == r.Of
			}))
			switch {
			case failed > 0:
				return fmt.Errorf("%d of %d could not be delivered", failed, said)
			case said == 0 && errors.Is(err, io.EOF): // an answer of no lines, to its end
				fmt.Fprintln(c.stdout, "nothing waits to be driven again")
				return nil
			}
			return err
		})
	}}
