package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/connector/emit"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

var connectorList = command{name: "connector list", summary: "list the connectors, with counts since their start",
	example: "tidemill-bridge connector list",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		all, err := c.connectors(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "CONNECTOR\tFROM\tTO\tSHARDS\tBEHIND\tREAD\tFILTERED\tEMITTED\tBATCHES\tRETRIES\tDEAD\tSTATE")
		for _, i := range all {
			open, behind, state := 0, time.Duration(0), "running"
			for _, s := range i.Shards {
				if s.Checkpoint != connector.ShardEnd {
					open++
				}
				behind = max(behind, s.Behind)
				if s.Trouble != "" {
					state = "shards wait, see connector show"
				}
			}
			if i.Trouble != "" {
				state = printable(i.Trouble)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%v\t%d\t%d\t%d\t%d\t%d\t%d\t%s\n", i.Name, i.Stream, i.To, open,
				behind.Round(time.Millisecond),
				i.Records, i.Filtered, i.Emitted, i.Batches, i.Retries, i.Dead, state)
		}
		return w.Flush()
	}}

var connectorShow = command{name: "connector show", args: "NAME", summary: "show one connector, shard by shard",
	example: "tidemill-bridge connector show to-archive",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		all, err := c.connectors(ctx)
		if err != nil {
			return err
		}
		for _, i := range all {
			if i.Name == c.args[0] {
				return showConnector(c, &i)
			}
		}
		return fmt.Errorf("no connector %s is in force; connector list shows those that are", c.args[0])
	}}

func showConnector(c *call, i *connector.Info) error {
	w := tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "file\t%s\nfrom\t%s\nto\t%s\n", i.File, i.Stream, i.To)
	fmt.Fprintf(w, "read\t%d records, %d filtered out, %d reads failed\n", i.Records, i.Filtered, i.ReadFails)
	fmt.Fprintf(w, "emitted\t%d items, %d bytes, %d batches\n", i.Emitted, i.Bytes, i.Batches)
	fmt.Fprintf(w, "refused\t%d items, %d retries, %d dead letters\n", i.Failed, i.Retries, i.Dead)
	fmt.Fprintf(w, "outages\t%d attempts\n", i.Outages)
	if i.Lost > 0 {
		fmt.Fprintf(w, "lost\t%d shards went before they were read to the end\n", i.Lost)
	}
	if i.Trouble != "" {
		fmt.Fprintf(w, "trouble\t%s\n", printable(i.Trouble))
	}
	fmt.Fprintln(w, "\nSHARD\tOWNER\tBEHIND\tBUFFERED\tCHECKPOINT\tUNDER WAY\tTROUBLE")
	for _, s := range i.Shards {
		fmt.Fprintf(w, "%s\t%s\t%v\t%d\t%s\t%s\t%s\n", s.Shard, s.Owner, s.Behind.Round(time.Millisecond), s.Buffered,
			s.Checkpoint, s.Pending, printable(s.Trouble))
	}
	return w.Flush()
}

// connectors asks the bridge that runs.
func (c *call) connectors(ctx context.Context) (all []connector.Info, err error) {
	err = c.with(ctx, func(a *client) error {
		if !a.live {
			return fmt.Errorf("no bridge runs over %s, so no connector does", a.data)
		}
		return a.do(ctx, "GET", "/v1/connectors", nil, nil, &all)
	})
	return all, err
}

var connectorCheck = command{name: "connector check", args: "FILE", alone: true,
	summary: "check the file of a connector, as the bridge would, or with -alone as connector run would",
	example: "tidemill-bridge connector check to-archive.json",
	run: func(_ context.Context, c *call) error {
		alone := c.flags.Bool("alone", false, "for connector run, not for a bridge")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		f, err := readConnector(c.args[0], !*alone)
		if err != nil {
			return err
		}
		from, to := f.Describe()
		_, err = fmt.Fprintf(c.stdout, "%s: from %s to %s\n", f.ConnectorName, from, to)
		return err
	}}

func emitters(env emit.Env) connector.NewEmitter {
	return func(kind string, doc json.RawMessage) (connector.Emitter, error) { return emit.New(kind, doc, env) }
}

func readConnector(path string, inside bool) (*connector.File, error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var env emit.Env
	if inside { // stand-ins, which are not asked
		env.Objects = &objects.Store{}
		env.Append = func(context.Context, string, string, []byte) error { return nil }
	}
	f, err := connector.ParseFile(doc, emitters(env), inside)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

var connectorRun = command{name: "connector run", args: "FILE", alone: true,
	summary: "run a connector by itself, without a bridge, until interrupted",
	example: "tidemill-bridge connector run to-archive.json\n" +
		"AWS_PROFILE=plant tidemill-bridge connector run to-archive.json",
	run: func(ctx context.Context, c *call) error {
		every := c.flags.Duration("status", time.Minute, "how often the counts are logged; 0: never")
		if err := c.parse(1, 1); err != nil {
			return err
		}
		if *every < 0 {
			return usagef("-status %v: want 0 or more", *every)
		}
		f, err := readConnector(c.args[0], false)
		if err != nil {
			return err
		}
		log := slog.New(slog.NewTextHandler(c.stderr, nil))
		conn, err := f.Open(ctx, connector.Env{Emit: emitters(emit.Env{}), Log: log})
		if err != nil {
			return err
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			conn.Run(ctx)
		}()
		var tick <-chan time.Time
		if *every > 0 {
			t := time.NewTicker(*every)
			defer t.Stop()
			tick = t.C
		}
		for running := true; running; {
			select {
			case <-done:
				running = false
			case <-tick:
			}
			counts, err := json.Marshal(conn.Status().Counts)
			if err != nil {
				return errors.Join(err, conn.Close())
			}
			log.Info("connector", "connector", f.ConnectorName, "counts", string(counts))
		}
		return conn.Close()
	}}
