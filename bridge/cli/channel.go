package cli

import (
	"context"
	"fmt"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var channelList = command{name: "channel list",
	summary: "list the channels that iotAnalytics actions fill, with sizes",
	example: "tidemill-bridge channel list",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var all []admin.ChannelInfo
			if err := a.do(ctx, "GET", "/v1/channels", nil, nil, &all); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "CHANNEL\tMESSAGES\tBYTES\tRETENTION\tLAST")
			for _, x := range all {
				fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", x.Name, x.Messages, x.Bytes, retentionText(x.Retention),
					timeText(x.Newest))
			}
			return w.Flush()
		})
	}}

var channelShow = command{name: "channel show", args: "NAME", summary: "show what a channel has, and how much it " +
	"keeps for how long",
	example: "tidemill-bridge channel show raw",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var x admin.ChannelInfo
			if err := a.do(ctx, "GET", channelPath(c), nil, nil, &x); err != nil {
				return err
			}
			most := "no limit"
			if x.MaxBytes > 0 {
				most = fmt.Sprintf("at most %d", x.MaxBytes)
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintf(w, "channel\t%s\nmessages\t%d kept, %d ever\nbytes\t%d, %s\nretention\t%s\nfirst\t%s\n"+
				"last\t%s\n",
				x.Name, x.Messages, x.Ever, x.Bytes, most, retentionText(x.Retention), timeText(x.Oldest),
				timeText(x.Newest))
			return w.Flush()
		})
	}}

var channelTail = command{name: "channel tail", args: "NAME",
	summary: "print the messages of a channel as JSON lines; the key is a message's id",
	example: "tidemill-bridge channel tail raw\ntidemill-bridge channel tail raw -from oldest -follow=false",
	run: func(ctx context.Context, c *call) error {
		return c.tail(ctx, func(url.Values) string { return channelPath(c) + "/messages" })
	}}

func channelPath(c *call) string { return "/v1/channels/" + url.PathEscape(c.args[0]) }

// retentionText is how long records are kept; 0 is for ever.
func retentionText(d time.Duration) string {
	if d <= 0 {
		return "no limit"
	}
	return d.String()
}

// timeText is when something came; "-" if nothing did.
func timeText(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
