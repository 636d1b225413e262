package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var streamList = command{name: "stream list", summary: "list the streams of the log, with sizes",
	example: "tidemill-bridge stream list -all",
	run: func(ctx context.Context, c *call) error {
		all := c.flags.Bool("all", false, "the bridge's own streams too ($ingest, outboxes, buffers)")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var streams []admin.StreamInfo
			if err := a.do(ctx, "GET", "/v1/streams", nil, nil, &streams); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "STREAM\tSHARDS\tRETENTION\tRECORDS\tKEPT\tKEPT BYTES")
			for _, s := range streams {
				if s.Name[0] == '$' && !*all {
					continue
				}
				fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\n", s.Name, s.Shards, retentionText(s.Retention), s.Records,
					s.Kept, s.Bytes)
			}
			return w.Flush()
		})
	}}

var streamCreate = command{name: "stream create", args: "NAME",
	summary: "create a data stream, or give one other shards and retention",
	example: "tidemill-bridge stream create readings -shards 4 -retention 24h",
	run: func(ctx context.Context, c *call) error {
		shards := c.flags.Int("shards", 1, "number of shards")
		retention := c.flags.Duration("retention", 24*time.Hour, "how long records are kept")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			in := admin.StreamInfo{Name: c.args[0], Shards: *shards, Retention: *retention}
			return a.do(ctx, "POST", "/v1/streams", nil, in, nil)
		})
	}}

var streamTail = command{name: "stream tail", args: "NAME", summary: "print the records of a stream as JSON lines",
	example: "tidemill-bridge stream tail readings\ntidemill-bridge stream tail readings -from oldest -follow=false",
	run: func(ctx context.Context, c *call) error {
		return c.tail(ctx, func(q url.Values) string {
			q.Set("name", c.args[0])
			return "/v1/streams/records"
		})
	}}

// tail prints records as JSON lines. path is where they are, and adds to the query.
func (c *call) tail(ctx context.Context, path func(q url.Values) string) error {
	from := c.flags.String("from", "latest", "where to begin: `oldest or latest`; with -follow=false latest prints nothing")
	follow := c.flags.Bool("follow", true, "go on at the end until interrupted")
	raw := c.flags.Bool("raw", false, "byte for byte, also on a terminal; elsewhere it always is")
	if err := c.parse(1, 1); err != nil {
		return err
	}
	if *from != "oldest" && *from != "latest" {
		return usagef("-from %s: want oldest or latest", *from)
	}
	return c.with(ctx, func(a *client) error {
		q := url.Values{"from": {*from}, "follow": {strconv.FormatBool(*follow)}}
		if !a.live { // nobody writes, so there is nothing to wait for
			q.Set("follow", "false")
		}
		records := c.bytes(*raw)
		if records == c.stdout {
			records = c.json()
		}
		err := a.do(ctx, "GET", path(q), q, nil, records)
		switch {
		case ctx.Err() != nil: // interrupted, as it is meant to be
			return nil
		case errors.Is(err, io.ErrUnexpectedEOF), err == nil && *follow && a.live:
			return a.ended(ctx)
		}
		return err
	})
}
