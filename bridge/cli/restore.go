package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/speed/hold"
)

var restoreCommand = command{name: "restore", args: "[DIR]",
	summary: "make a data directory of a backup: DIR, or data_dir of the configuration, which is not there or empty",
	example: "tidemill-bridge restore -from /mnt/backups -identity backup.key -revocations latest\n" +
		"tidemill-bridge restore -from s3://backups/plant -id 20261130T021500Z-1f2e3d4c -identity backup.key \\\n" +
		"  -revocations revocations.json -dry-run /var/lib/tidemill-bridge\n" +
		"tidemill-bridge restore -from /mnt/backups -identity backup.key -stream readings -as readings-of-monday",
	run: restore}

func restore(ctx context.Context, c *call) error {
	o := backup.RestoreOptions{Version: c.version}
	from := c.flags.String("from", "", "`target` with the backup: a folder, or s3://BUCKET/PREFIX; "+
		"default: backup.target")
	c.flags.StringVar(&o.ID, "id", vault.Latest, "`backup` to restore, of backup list")
	identity := c.flags.String("identity", "", "`file` with the private key of a recipient, of backup keygen")
	revoked := c.flags.String("revocations", "", "`file` of what was revoked since, newer than the backup; latest: "+
		"the one beside the backups; none: nothing was")
	part := c.flags.String("part", "", "restore one `part` alone into the directory of this bridge, which is stopped: "+
		"registry. What was there is kept beside it")
	var stream, as string
	c.flags.StringVar(&stream, "stream", "", "restore one data `stream` alone into the directory of this bridge, which "+
		"is stopped and has none of that name")
	c.flags.StringVar(&as, "as", "", "`name` that -stream gets")
	limit := bandwidthFlag(c.flags)
	c.flags.BoolVar(&o.Deliver, "deliver", false, "deliver at the start what waited in the backup, though the old "+
		"bridge may have; else it is held, see restore held")
	c.flags.BoolVar(&o.DryRun, "dry-run", false, "tell what would be, and change nothing")
	if err := c.parse(0, 1); err != nil {
		return err
	}
	if err := checkRestore(*identity, *revoked, *part, stream, as); err != nil {
		return err
	}
	t, err := c.backupTarget(ctx, *from, *limit)
	if err != nil {
		return err
	}
	o.Target, o.Account, o.Dir = t.Target, t.config.Account, t.config.DataDir
	if len(c.args) == 1 {
		o.Dir = c.args[0]
	}
	if o.Identities, err = readIdentities(*identity); err != nil {
		return err
	}
	if o.Revocations, err = readRevocations(ctx, t.Target, *revoked); err != nil {
		return err
	}
	due := seldom(time.Second)
	o.Progress = func(p backup.RestoreProgress) {
		if due() {
			fmt.Fprintf(c.stderr, "%s of %s: %s\n", disk.Text(p.Done), disk.Text(p.Total), printable(p.File))
		}
	}
	began := time.Now()
	var r backup.Restored
	switch {
	case stream != "":
		r, err = backup.RestoreStream(ctx, o, stream, as)
	case *part != "":
		r, err = backup.RestorePart(ctx, o, *part)
	default:
		r, err = backup.Restore(ctx, o)
	}
	if err != nil {
		return err
	}
	return c.printRestored(&r, &o, time.Since(began))
}

// checkRestore says which flags are missing, or do not go together.
func checkRestore(identity, revoked, part, stream, as string) error {
	switch {
	case identity == "":
		return usagef("restore: want -identity, the file with the private key; see -h")
	case stream != "" && part != "", stream == "" && as != "":
		return usagef("restore: want -part, or -stream, with which goes -as; see -h")
	case stream != "" && revoked != "":
		return usagef("restore: -stream takes no -revocations: nobody is let in by what is in a stream; see -h")
	case revoked == "" && stream == "":
		return usagef("restore: want -revocations: a file, latest or none. Without it what was revoked after the " +
			"backup would be let in again; see -h")
	}
	return nil
}

func readRevocations(ctx context.Context, t vault.Target, from string) (*backup.Sealed, error) {
	switch from {
	case "none", "": // of a stream
		return nil, nil
	case "latest":
		s, err := backup.NewestRevocations(ctx, t)
		if errors.Is(err, vault.ErrNotFound) {
			err = fmt.Errorf("%w: name a file of revocations export, or none if nothing was revoked", err)
		}
		return s, err
	}
	info, err := os.Stat(from)
	if err != nil {
		return nil, fmt.Errorf("-revocations: %w", err)
	}
	if info.Size() > backup.MaxRevocations {
		return nil, fmt.Errorf("-revocations: %s is no such file: it has %d bytes", from, info.Size())
	}
	raw, err := os.ReadFile(from)
	if err != nil {
		return nil, fmt.Errorf("-revocations: %w", err)
	}
	return backup.ParseRevocations(raw)
}

func (c *call) printRestored(r *backup.Restored, o *backup.RestoreOptions, took time.Duration) error {
	did := "restored"
	if o.DryRun {
		did = "would be restored"
	}
	fmt.Fprintf(c.stdout, "backup %s %s to %s: %d files, %s, as the bridge was at %s\n", r.Info.ID, did, r.Dir, r.Files,
		disk.Text(r.Bytes), r.About.Cut.Local().Format(time.DateTime))
	if at := r.Revocations; !at.IsZero() {
		fmt.Fprintf(c.stdout, "what was revoked is known up to %s, and not beyond\n", at.Local().Format(time.DateTime))
	}
	for _, n := range r.Notes {
		fmt.Fprintln(c.stdout, "note:", printable(n))
	}
	if o.DryRun {
		return nil
	}
	if r.Resume > 0 {
		fmt.Fprintf(c.stdout, "%s of it were there from an earlier run\n", disk.Text(r.Resume))
	}
	fmt.Fprintf(c.stdout, "it took %s\n", took.Round(time.Millisecond))
	if r.Stream != nil {
		fmt.Fprintf(c.stdout, "the stream has %d records, %s\n", r.Stream.Records, disk.Text(r.Stream.Bytes))
	}
	for _, x := range r.Revoked {
		fmt.Fprintln(c.stdout, "revoked since:", printable(x))
	}
	if len(r.Held) > 0 {
		waiting := uint64(0)
		for _, h := range r.Held {
			waiting += h.Waiting
		}
		fmt.Fprintf(c.stdout, "%d deliveries and messages that waited are held, since the old bridge may have "+
			"delivered them: restore held lists them, restore release lets them go\n", waiting)
	}
	return nil
}

// heldText is the state of what is held.
const heldText = "held since a restore: restore release"

// heldRules are the rules of which an outbox is held.
func heldRules(ctx context.Context, a *client) (map[string]bool, error) {
	var all []hold.Held
	err := a.do(ctx, "GET", "/v1/held", nil, nil, &all)
	rules := map[string]bool{}
	for _, h := range all {
		if rest, ok := strings.CutPrefix(h.Name, "outbox/"); ok {
			rule, _, _ := strings.Cut(rest, "/")
			rules[rule] = true
		}
	}
	return rules, err
}

const noHolds = "nothing of it is held or released"

var restoreHeld = command{name: "restore held", summary: "list what waited in the backup and is held since the restore",
	example: "tidemill-bridge restore held",
	run: func(ctx context.Context, c *call) error {
		asJSON := c.flags.Bool("json", false, "print it as JSON")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return getAndPrint(ctx, c, *asJSON, "/v1/held", nil, func(all []hold.Held) error {
			if len(all) == 0 {
				_, err := fmt.Fprintln(c.stdout, "nothing is held")
				return err
			}
			w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tWAITING\tBYTES\tRESTORED\tBACKUP")
			for _, h := range all {
				fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\n", printable(h.Name), h.Waiting, h.Bytes,
					h.Since.Local().Format(time.DateTime), printable(h.Backup))
			}
			return w.Flush()
		})
	}}

var restoreRelease = command{name: "restore release", args: "[NAME]",
	summary: "deliver what is held under a name of restore held; messages of sessions come with the next start",
	example: "tidemill-bridge restore release outbox/hot/0\ntidemill-bridge restore release -all",
	run: func(ctx context.Context, c *call) error {
		all := c.flags.Bool("all", false, "release everything")
		if err := c.parse(0, 1); err != nil {
			return err
		}
		if *all == (len(c.args) == 1) {
			return usagef("restore release: want a name of restore held, or -all; see -h")
		}
		return c.withRunning(ctx, noHolds, func(a *client) error {
			names := c.args
			if *all {
				var held []hold.Held
				if err := a.do(ctx, "GET", "/v1/held", nil, nil, &held); err != nil {
					return err
				}
				for _, h := range held {
					names = append(names, h.Name)
				}
			}
			for _, n := range names {
				err := a.do(ctx, "POST", "/v1/held/release", url.Values{"name": {n}}, nil, nil)
				if err != nil {
					return err
				}
				fmt.Fprintln(c.stdout, "released", printable(n))
			}
			return nil
		})
	}}

var revocationsExport = command{name: "revocations export", args: "FILE",
	summary: "write what is active and what is not, signed: a restore takes what was revoked after its backup from it",
	example: "tidemill-bridge revocations export revocations.json",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var raw json.RawMessage
			if err := a.do(ctx, "GET", "/v1/revocations", nil, nil, &raw); err != nil {
				return err
			}
			s, err := backup.ParseRevocations(raw)
			if err != nil {
				return err
			}
			if err := durable.Write(c.args[0], raw, 0o600); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.stdout, s.Summary())
			return err
		})
	}}

var revocationsShow = command{name: "revocations show", args: "FILE",
	summary: "tell what a file of revocations has; its signature is looked at by restore", alone: true,
	example: "tidemill-bridge revocations show revocations.json",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		s, err := readRevocations(ctx, nil, c.args[0])
		if err != nil {
			return err
		}
		if s == nil {
			return usagef("revocations show: %s is no file; see -h", c.args[0])
		}
		fmt.Fprintln(c.stdout, printable(s.Summary()))
		for _, line := range s.List() {
			fmt.Fprintln(c.stdout, printable(line))
		}
		return nil
	}}
