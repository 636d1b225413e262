package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var certExpiry = command{name: "cert expiry",
	summary: "days left of the server's certificates, the bridge's CAs and the device certificate that ends soonest",
	example: "tidemill-bridge cert expiry",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var all []admin.Expiry
			if err := a.do(ctx, "GET", "/v1/expiries", nil, nil, &all); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "OF\tDAYS LEFT\tENDS\tCERTIFICATE")
			for _, e := range all {
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", e.Of, daysLeft(e.NotAfter), when(e.NotAfter), e.ID)
			}
			return w.Flush()
		})
	}}
