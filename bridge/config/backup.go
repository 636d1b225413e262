package config

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Backup is where backups go, and when.
type Backup struct {
	Target       string   `toml:"target"` // folder, or s3://BUCKET/PREFIX; "": none
	EndpointURL  string   `toml:"endpoint_url"`
	Region       string   `toml:"region"`
	Profile      string   `toml:"profile"`
	RoleARN      string   `toml:"role_arn"`
	Recipients   []string `toml:"recipients"` // age1…, or files of them
	Every        Duration `toml:"every"`      // 0: when it is asked for
	Keep         int      `toml:"keep"`       // 0: all
	MaxBandwidth Size     `toml:"max_bandwidth"`
}

// check returns all that is wrong with the settings.
func (b *Backup) check(dataDir string) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("backup."+format, args...)) }
	bucket, isS3 := strings.CutPrefix(b.Target, "s3://")
	abs, err := filepath.Abs(dataDir)
	switch {
	case b.Target == "" && b.Every > 0:
		bad("every: there is no target to which a backup could go")
	case b.Target == "":
	case isS3 && strings.Trim(bucket, "/") == "", !isS3 && !filepath.IsAbs(b.Target):
		bad("target: %q, want the absolute path of a folder, or s3://BUCKET/PREFIX", b.Target)
	case err == nil && (filepath.Clean(b.Target)+"/" == abs+"/" ||
		strings.HasPrefix(filepath.Clean(b.Target), abs+"/")):
		bad("target: %q, which is in data_dir, and is lost with it", b.Target)
	}
	if b.Every > 0 && len(b.Recipients) == 0 {
		bad("recipients: none, want the public key of who may read the backups: tidemill-bridge backup keygen " +
			"makes one")
	}
	for _, r := range b.Recipients {
		switch {
		case strings.HasPrefix(r, "AGE-SECRET-KEY-"):
			bad("recipients: a private key, want the public one, which begins with age1: the private one must " +
				"not be here")
		case !strings.HasPrefix(r, "age1") && !filepath.IsAbs(r):
			bad("recipients: %q, want age1… or the absolute path of a file of them", r)
		}
	}
	if !isS3 {
		for key, v := range map[string]string{"endpoint_url": b.EndpointURL, "region": b.Region, "profile": b.Profile,
			"role_arn": b.RoleARN} {
			if v != "" && b.Target != "" {
				bad("%s: it is of targets s3://…, and the target is %q", key, b.Target)
			}
		}
	}
	return errs
}
