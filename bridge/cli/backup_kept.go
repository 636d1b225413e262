package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"filippo.io/age"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/hal/secretfile"
)

var backupList = command{name: "backup list", summary: "list the backups of a target; no key is needed",
	example: "tidemill-bridge backup list -to /mnt/backups",
	run: func(ctx context.Context, c *call) error {
		to := c.flags.String("to", "", "`target`; default: backup.target")
		asJSON := c.flags.Bool("json", false, "print all that is known as JSON")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		t, err := c.backupTarget(ctx, *to, 0)
		if err != nil {
			return err
		}
		all, err := vault.List(ctx, t)
		if len(all) == 0 && err == nil { // nobody shall take a wrong target for an empty one
			err = vault.Exists(ctx, t)
		}
		if len(all) == 0 && err != nil {
			return err
		}
		if *asJSON {
			return errors.Join(c.printJSON(all), err)
		}
		w := tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tTIME\tACCOUNT\tVERSION\tFILES\tSIZE\tSTORED")
		for _, i := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\n", i.ID, i.Time.Local().Format(time.DateTime),
				printable(i.Account), printable(i.Version), i.Files, disk.Text(i.Size), disk.Text(i.Stored))
		}
		return errors.Join(w.Flush(), err)
	}}

var backupVerify = command{name: "backup verify", args: "[ID]",
	summary: "read a backup at its target, the newest for no ID: all bytes are there; with -identity also what " +
		"they hold",
	example: "tidemill-bridge backup verify -to /mnt/backups\n" +
		"tidemill-bridge backup verify -to /mnt/backups -identity backup.key 20261130T021500Z-1f2e3d4c",
	run: func(ctx context.Context, c *call) error {
		to := c.flags.String("to", "", "`target`; default: backup.target")
		identity := c.flags.String("identity", "", "`file` with the private key of a recipient, of backup keygen")
		limit := bandwidthFlag(c.flags)
		if err := c.parse(0, 1); err != nil {
			return err
		}
		id := "latest"
		if len(c.args) == 1 {
			id = c.args[0]
		}
		t, err := c.backupTarget(ctx, *to, *limit)
		if err != nil {
			return err
		}
		var keys []age.Identity
		if *identity != "" {
			if keys, err = readIdentities(*identity); err != nil {
				return err
			}
		}
		due := seldom(time.Second)
		r, err := vault.Verify(ctx, t, id, keys, func(p vault.Progress) {
			if due() {
				fmt.Fprintf(c.stderr, "%s of %s\n", disk.Text(p.Done), disk.Text(p.Total))
			}
		})
		if err != nil {
			return err
		}
		what := "its packs have the sums that were noted; -identity also looks at what they hold"
		if keys != nil {
			what = fmt.Sprintf("%d files can be restored as they were", r.Files)
		}
		_, err = fmt.Fprintf(c.stdout, "%s is whole: %s read, %s\n", r.ID, disk.Text(r.Bytes), what)
		return err
	}}

// readIdentities reads the private keys of a file.
func readIdentities(path string) ([]age.Identity, error) {
	text, err := secretfile.ReadConfig(path)
	if err != nil {
		return nil, fmt.Errorf("-identity: %w", err)
	}
	keys, err := age.ParseIdentities(strings.NewReader(string(text)))
	if err != nil {
		return nil, fmt.Errorf("-identity: %s: want lines AGE-SECRET-KEY-1…", path) // not the line itself
	}
	return keys, nil
}

var backupPrune = command{name: "backup prune",
	summary: "remove old backups of a target, and what no other needs; no key is needed",
	example: "tidemill-bridge backup prune -keep 30 -within 720h   # 30 days",
	run: func(ctx context.Context, c *call) error {
		to := c.flags.String("to", "", "`target`; default: backup.target")
		keep := c.flags.Int("keep", 0, "`number` of the newest that stay; default: backup.keep")
		within := c.flags.Duration("within", 0, "those that are not `older` than the newest by more stay, too")
		if err := c.parse(0, 0); err != nil {
			return err
		}
		t, err := c.backupTarget(ctx, *to, 0)
		if err != nil {
			return err
		}
		k := vault.Keep{Last: *keep, Within: *within}
		if k == (vault.Keep{}) {
			k.Last = t.config.Backup.Keep
		}
		if k.Last < 0 || k.Within < 0 || k == (vault.Keep{}) {
			return usagef("backup prune: nothing says what is kept: want -keep or -within, above 0; see -h")
		}
		p, err := vault.Prune(ctx, t, k, backup.KnownIndex(t.config.DataDir, t.Target))
		for _, id := range p.Backups {
			fmt.Fprintln(c.stdout, "removed", id)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.stdout, "%d objects of %s are removed\n", p.Objects, disk.Text(p.Bytes))
		return err
	}}

var backupKeygen = command{name: "backup keygen", args: "FILE",
	summary: "make the key that reads backups, into a new file (0600), and print the public one for backup.recipients",
	example: "tidemill-bridge backup keygen backup.key   # on your own machine, or on paper: not on the bridge's",
	alone:   true,
	run: func(_ context.Context, c *call) error {
		if err := c.parse(1, 1); err != nil {
			return err
		}
		path := c.args[0]
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there already, and a key in it would be lost: name another file", path)
		}
		key, err := age.GenerateX25519Identity()
		if err != nil {
			return err
		}
		text := fmt.Sprintf("# created: %s\n# public key: %s\n%s\n", time.Now().UTC().Format(time.RFC3339),
			key.Recipient(), key)
		if err := durable.Write(path, []byte(text), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(c.stderr, "%s has the private key: move it off this machine, and keep a second copy. Without "+
			"it no "+
			"backup can be read; with it every one can.\n", path)
		_, err = fmt.Fprintln(c.stdout, key.Recipient())
		return err
	}}
