package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var functionList = command{name: "function list", summary: "list functions, with their calls since the start",
	example: "tidemill-bridge function list",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var all []admin.FunctionInfo
			if err := a.do(ctx, "GET", "/v1/functions", nil, nil, &all); err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "FUNCTION\tRUNTIME\tHANDLER\tMB\tTIMEOUT\tMODIFIED\tCALLS\tERRORS\tTHROTTLES\tPROCESSES")
			for _, f := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%ds\t%s\t%d\t%d\t%d\t%d\n", f.Name, f.Runtime, f.Handler, f.Memory,
					f.Timeout, f.Modified.Format(time.RFC3339), f.Invocations, f.Errors, f.Throttles, f.Processes)
			}
			return w.Flush()
		})
	}}

var functionInvoke = command{name: "function invoke", args: "NAME [EVENT]",
	summary: "call a function and print its answer; EVENT is JSON, or @FILE",
	example: "tidemill-bridge function invoke meter '{\"celsius\":21.5}'\n" +
		"tidemill-bridge function invoke meter @event.json -log",
	run: func(ctx context.Context, c *call) error {
		qualifier := c.flags.String("qualifier", "", "a `version or alias`")
		log := c.flags.Bool("log", false, "the last 4 KB of its log, too, on standard error")
		if err := c.parse(1, 2); err != nil {
			return err
		}
		var event []byte
		if len(c.args) > 1 {
			var err error
			if event, err = argument(c.args[1]); err != nil {
				return err
			}
		}
		return c.with(ctx, func(a *client) error {
			if !a.live {
				return errors.New("function invoke: the bridge does not run, and functions run in it")
			}
			var out admin.FunctionResult
			path := "/v1/functions/" + url.PathEscape(c.args[0]) + "/invocations"
			err := a.do(ctx, "POST", path, url.Values{"qualifier": {*qualifier}}, bytes.NewReader(event), &out)
			if err != nil {
				return err
			}
			if *log {
				fmt.Fprint(c.stderr, out.Log)
			}
			if _, err := fmt.Fprintf(c.json(), "%s\n", out.Answer); err != nil {
				return err
			}
			if out.Failed != "" {
				return errors.New("the function failed")
			}
			return nil
		})
	}}

var functionLogs = command{name: "function logs", args: "NAME",
	summary: "print what a function wrote, with the lines of its calls",
	example: "tidemill-bridge function logs meter",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			return a.do(ctx, "GET", "/v1/functions/"+url.PathEscape(c.args[0])+"/log", nil, nil, c.bytes(false))
		})
	}}
