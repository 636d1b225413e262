package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var auditCommand = command{name: "audit", summary: "print who changed what, as JSON lines",
	example: "tidemill-bridge audit\ntidemill-bridge audit -from 24h -follow",
	run: func(ctx context.Context, c *call) error {
		follow := c.flags.Bool("follow", false, "go on at the end until interrupted")
		from := c.flags.String("from", "",
			"leave away what is older: a `time` such as 2026-11-30T08:00:00Z, or how long ago, such as 24h")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		since, err := auditFrom(*from, time.Now())
		if err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			q := url.Values{"name": {audit.Stream}, "from": {"oldest"},
				"follow": {strconv.FormatBool(*follow && a.live)}}
			out := c.json()
			err := a.do(ctx, "GET", "/v1/streams/records", q, nil, readLines(func(dec *json.Decoder) error {
				for {
					var line admin.StreamRecord
					if err := dec.Decode(&line); err != nil {
						return err
					}
					if time.UnixMilli(line.Time).Before(since) {
						continue
					}
					if _, err := fmt.Fprintf(out, "%s\n", line.JSON); err != nil {
						return err
					}
				}
			}))
			switch {
			case errors.Is(err, io.EOF) && *follow && a.live, errors.Is(err, io.ErrUnexpectedEOF) && ctx.Err() == nil:
				return a.ended(ctx)
			case errors.Is(err, io.EOF), ctx.Err() != nil:
				return nil
			}
			return err
		})
	}}

// auditFrom reads -from: a time, or how long before now.
func auditFrom(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, usagef("audit: -from %s: want a time such as 2026-11-30T08:00:00Z, or a duration such as 24h", text)
	}
	return t, nil
}
