package cli

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"text/tabwriter"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/action"
)

var ruleOutboxList = command{name: "rule outbox list",
	summary: "list the outboxes of rules' actions: what waits in each, for how long, and why",
	example: "tidemill-bridge rule outbox list",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.withRunning(ctx, noOutboxes, func(a *client) error {
			var all []action.OutboxInfo
			if err := a.do(ctx, "GET", "/v1/outboxes", nil, nil, &all); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "RULE\tACTION\tWAITING\tBYTES\tAGE\tATTEMPTS\tFAILED\tRULE IS\tTROUBLE")
			for _, o := range all {
				rule, trouble := "there", "-"
				if o.Unused {
					rule = "gone"
				}
				if o.Held {
					trouble = heldText
				} else if !o.Down.IsZero() {
					trouble = printable(o.LastError)
				}
				waiting, bytes := strconv.FormatUint(o.Records, 10), strconv.FormatInt(o.Bytes, 10)
				if o.Unknown {
					waiting, bytes = "?", "?"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", o.Rule, o.Slot, waiting, bytes,
					ageText(o.Oldest), o.Attempts, o.Failures, rule, trouble)
			}
			return w.Flush()
		})
	}}

const noOutboxes = "no outbox is drained"

func outboxPath(c *call) string {
	return "/v1/outboxes/" + url.PathEscape(c.args[0]) + "/" + url.PathEscape(c.args[1])
}

var ruleOutboxRetry = command{name: "rule outbox retry", args: "RULE ACTION",
	summary: "try now what waits for its next attempt",
	example: "tidemill-bridge rule outbox retry hot 0",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(2, 2); err != nil {
			return err
		}
		return c.withRunning(ctx, noOutboxes, func(a *client) error {
			return a.do(ctx, "POST", outboxPath(c)+"/retry", nil, nil, nil)
		})
	}}

var ruleOutboxDrop = command{name: "rule outbox drop", args: "RULE ACTION",
	summary: "throw away what waits in the outbox of a rule that is gone, and the outbox",
	example: "tidemill-bridge rule outbox drop hot 0",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(2, 2); err != nil {
			return err
		}
		return c.withRunning(ctx, noOutboxes, func(a *client) error {
			var out admin.Dropped
			if err := a.do(ctx, "DELETE", outboxPath(c), nil, nil, &out); err != nil {
				return err
			}
			_, err := fmt.Fprintf(c.stdout, "%d deliveries are gone\n", out.Deliveries)
			return err
		})
	}}
