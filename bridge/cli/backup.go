package cli

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"filippo.io/age"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/agent/secretfile"
	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/server"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

var backupCommand = command{name: "backup",
	summary: "back up the data directory, of the bridge that runs or of one that is stopped",
	example: "tidemill-bridge backup                                    # as [backup] of the configuration says\n" +
		"tidemill-bridge backup -to /mnt/backups -recipient age1… -limit 20MB/s -verify",
	run: takeBackup}

func takeBackup(ctx context.Context, c *call) error {
	var in backup.Request
	limit := c.requestFlags(&in)
	c.flags.BoolVar(&in.Verify, "verify", false, "read again what was stored, and compare it")
	c.flags.BoolVar(&in.New, "new", false,
		"begin another repository at a target that had one and has none now; else that is taken for one that is not mounted")
	asJSON := c.flags.Bool("json", false, "print what was made as JSON")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	in.MaxBandwidth = *limit
	var err error
	if in.Target, err = absolute(in.Target); err != nil {
		return err
	}
	return c.with(ctx, func(a *client) error {
		last, err := c.backup(ctx, a, in)
		if err != nil {
			return err
		}
		if t := last.Taken; t != nil && *asJSON {
			err = c.printJSON(t)
		} else if t != nil {
			_, err = fmt.Fprintf(c.stdout, "%s: %d files of %s, %s stored, writers held for %s\n", t.ID, t.Files,
				disk.Text(t.Size), disk.Text(t.Stored), time.Duration(t.About.Held).Round(100*time.Microsecond))
		}
		if last.Error != "" {
			return errors.New(last.Error)
		}
		return err
	})
}

// requestFlags are those of where a backup goes, and of who can read it.
func (c *call) requestFlags(in *backup.Request) (limit *int64) {
	c.flags.StringVar(&in.Target, "to", "", "`target`: a folder, or s3://BUCKET/PREFIX; default: backup.target")
	c.flags.Func("recipient", "`key` of who can read it, age1… or a file of these; several times for several; "+
		"default: backup.recipients", func(s string) (err error) {
		if !strings.HasPrefix(s, "age1") && !strings.HasPrefix(s, "AGE-") {
			s, err = filepath.Abs(s) // the bridge may be in another folder
		}
		in.Recipients = append(in.Recipients, s)
		return err
	})
	return bandwidthFlag(c.flags)
}

// seldom returns a function that is true once in every, first after that.
func seldom(every time.Duration) (due func() bool) {
	shown := time.Now()
	return func() bool {
		if time.Since(shown) <= every {
			return false
		}
		shown = time.Now()
		return true
	}
}

// progressEvery is how often a backup tells how far it is; one that is done before says nothing.
const progressEvery = 10 * time.Second

// backup asks for a backup, tells how far it is, and returns the last line.
func (c *call) backup(ctx context.Context, a *client, in backup.Request) (last admin.BackupLine, err error) {
	due, path := seldom(progressEvery), "/v1/backups"
	if in.Elsewhere() {
		path += "/elsewhere"
	}
	err = a.do(ctx, "POST", path, nil, in, lines(func(l admin.BackupLine) (enough bool) {
		if l.Taken != nil || l.Error != "" {
			last = l
			return true
		}
		if l.Of > 0 && due() {
			fmt.Fprintf(c.stderr, "%s of %s read, %s sent: %s\n", disk.Text(l.Done), disk.Text(l.Of), disk.Text(l.Sent),
				printable(l.File))
		}
		return false
	}))
	return last, err
}

// elsewhere is what begins as places on other machines do: SCHEME://…, HOST:…, USER@HOST:….
var elsewhere = regexp.MustCompile(`^[A-Za-z0-9_.@+-]+:`)

// absolute makes the path of a folder one that holds in every folder.
func absolute(target string) (string, error) {
	if target == "" || strings.HasPrefix(target, "s3://") {
		return target, nil
	}
	if elsewhere.MatchString(target) {
		return "", fmt.Errorf("target %q: want a folder, or s3://BUCKET/PREFIX: mount what is on another machine, and name "+
			"the folder; one that has this name is ./%s", target, target)
	}
	return filepath.Abs(target)
}

// bandwidthFlag is -limit, in bytes a second.
func bandwidthFlag(flags *flag.FlagSet) *int64 {
	n := new(int64)
	flags.Func("limit", "`rate` to and from the target, such as 20MB/s or 512KiB/s; default: backup.max_bandwidth",
		func(s string) (err error) {
			*n, err = parseRate(s)
			return err
		})
	return n
}

// rateUnits are those of a rate.
var rateUnits = []struct {
	unit string
	n    int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}}

// parseRate reads bytes a second.
func parseRate(s string) (int64, error) {
	number, _ := strings.CutSuffix(strings.TrimSpace(s), "/s")
	unit := int64(1)
	for _, r := range rateUnits {
		if n, ok := strings.CutSuffix(number, r.unit); ok {
			number, unit = strings.TrimSpace(n), r.n
			break
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v*float64(unit) >= vault.MinBandwidth) || v*float64(unit) > 1<<50 {
		return 0, fmt.Errorf("%q, want a rate such as 20MB/s, at least %d bytes a second", s, vault.MinBandwidth)
	}
	return int64(v * float64(unit)), nil
}

// place is a target, and where it is.
type place struct {
	vault.Target
	config *config.Config
}

// backupTarget opens the target of -to, or of the configuration.
func (c *call) backupTarget(ctx context.Context, to string, limit int64) (p place, err error) {
	if p.config, err = c.loadConfig(); err != nil {
		return p, err
	}
	if to, err = absolute(cmp.Or(to, p.config.Backup.Target)); err != nil {
		return p, err
	}
	if to == "" {
		return p, usagef("%s: no target: set backup.target, or name one with -to", c.flags.Name())
	}
	o := server.BackupSettings(p.config).Place
	o.MaxBandwidth = cmp.Or(limit, o.MaxBandwidth)
	p.Target, err = vault.Open(ctx, to, o)
	return p, err
}

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
	summary: "read a backup at its target, the newest for no ID: all bytes are there; with -identity also what they hold",
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
		fmt.Fprintf(c.stderr, "%s has the private key: move it off this machine, and keep a second copy. Without it no "+
			"backup can be read; with it every one can.\n", path)
		_, err = fmt.Fprintln(c.stdout, key.Recipient())
		return err
	}}
