package cli

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/server"
)

// elsewhere is what begins as places on other machines do: SCHEME://…, HOST:…, USER@HOST:….
var elsewhere = regexp.MustCompile(`^[A-Za-z0-9_.@+-]+:`)

// absolute makes the path of a folder one that holds in every folder.
func absolute(target string) (string, error) {
	if target == "" || strings.HasPrefix(target, "s3://") {
		return target, nil
	}
	if elsewhere.MatchString(target) {
		return "", fmt.Errorf("target %q: want a folder, or s3://BUCKET/PREFIX: mount what is on another "+
			"machine, and name "+
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
