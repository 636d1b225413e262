package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/clock"
)

var clockShow = command{name: "clock show", summary: "tell whether the bridge trusts the machine's clock",
	example: "tidemill-bridge clock show",
	run: func(ctx context.Context, c *call) error {
		return c.clock(ctx, "GET", "/v1/clock")
	}}

var clockAccept = command{name: "clock accept",
	summary: "trust the machine's clock as it is now, after a jump that was meant",
	example: "tidemill-bridge clock accept",
	run: func(ctx context.Context, c *call) error {
		return c.clock(ctx, "POST", "/v1/clock/accept")
	}}

func (c *call) clock(ctx context.Context, method, path string) error {
	if err := c.parse(0, 0); err != nil {
		return err
	}
	return c.with(ctx, func(a *client) error {
		var s clock.Status
		if err := a.do(ctx, method, path, nil, nil, &s); err != nil {
			return err
		}
		if !s.Held {
			_, err := fmt.Fprintln(c.stdout, "the clock is trusted")
			return err
		}
		way := "ahead of"
		if s.Ahead < 0 {
			way = "behind"
		}
		_, err := fmt.Fprintf(
			c.stdout, "the clock is not trusted since %v: it is %v %s the time that is expected; nothing is "+
				"deleted for its age by the new time\n",
			s.For.Round(time.Second), s.Ahead.Abs().Round(time.Second), way)
		return err
	})
}
