package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/disk"
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
		"begin another repository at a target that had one and has none now; else that is taken for one that is "+
			"not mounted")
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
