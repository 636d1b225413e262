package cli

import (
	"context"
	"fmt"
	"net/url"
	"text/tabwriter"

	"github.com/tidemill/tidemill/bridge/speed/alarm"
)

const noAlarms = "no alarm is set"

var alarmList = command{name: "alarm list", summary: "list the alarms that cloudwatchAlarm actions of rules have set",
	example: "tidemill-bridge alarm list",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.withRunning(ctx, noAlarms, func(a *client) error {
			var all []alarm.Alarm
			if err := a.do(ctx, "GET", "/v1/alarms", nil, nil, &all); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "ALARM\tSTATE\tSINCE\tRULE\tREASON")
			for _, x := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", printable(x.Name), x.State, timeText(x.Since), x.Rule,
					printable(x.Reason))
			}
			return w.Flush()
		})
	}}

var alarmDelete = command{name: "alarm delete", args: "NAME",
	summary: "resolve an alarm and forget it, such as one that no rule sets any more",
	example: "tidemill-bridge alarm delete hot",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.withRunning(ctx, noAlarms, func(a *client) error {
			return a.do(ctx, "DELETE", "/v1/alarms/"+url.PathEscape(c.args[0]), nil, nil, nil)
		})
	}}
