package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var deliveryList = command{name: "delivery list",
	summary: "list the delivery streams, with counts since their start, and what of their configurations has no effect here",
	example: "tidemill-bridge delivery list",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			if !a.live {
				return errors.New(
					"no bridge runs over this data directory: its delivery streams are what it makes of bridge.d/delivery-streams")
			}
			var all []admin.DeliveryInfo
			if err := a.do(ctx, "GET", "/v1/delivery-streams", nil, nil, &all); err != nil {
				return err
			}
			slices.SortFunc(all, func(a, b admin.DeliveryInfo) int { return cmp.Compare(a.Name, b.Name) })
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "DELIVERY STREAM\tWAITING\tOBJECTS\tRECORDS\tBYTES\tFAILED")
			for _, d := range all {
				fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\n", d.Name, d.Waiting, d.Objects, d.Records, d.Bytes, d.Failed)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			for _, d := range all {
				for _, member := range slices.Sorted(maps.Keys(d.Kept)) {
					fmt.Fprintf(c.stdout, "%s keeps %s, which has no effect here: %s\n", d.Name, member,
						printable(string(d.Kept[member])))
				}
			}
			return nil
		})
	}}
