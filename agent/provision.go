package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemill/tidemill/agent/clock"
	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/agent/provision"
	"github.com/tidemill/tidemill/hal/secretfile"
)

func runProvision(ctx context.Context, c *call) error {
	return identityCommand(ctx, c, func(ctx context.Context, cfg *config.Config, o provision.Options) error {
		o.Template = cfg.Provision.Template
		id, made, err := provision.Provision(ctx, o)
		if err != nil {
			return err
		}
		if cfg.Provision.RemoveClaim {
			removeClaim(o.Log, cfg.Provision.ClaimKey)
		}
		return tell(c.stdout, id, made, "was provisioned before")
	})
}

func runRotate(ctx context.Context, c *call) error {
	age := c.flags.Duration("older-than", 0, "leave a younger certificate as it is, unless less than a third of its time is left")
	done := false
	return identityCommand(ctx, c, func(ctx context.Context, cfg *config.Config, o provision.Options) error {
		o.Template = cfg.Provision.RotateTemplate
		if done { // what is left is to retire the old one
			*age = math.MaxInt64
		}
		id, made, err := provision.Rotate(ctx, o, *age)
		done = done || made
		if errors.Is(err, provision.ErrNotProvisioned) {
			return backoff.Permanent(err)
		}
		if err != nil {
			return err
		}
		return tell(c.stdout, id, done, "keeps its certificate")
	})
}

// removeClaim deletes the claim's key, which may be done before. The identity is
// in place and durable, so that failing is told and holds nothing up; the next
// start tries again.
func removeClaim(log *slog.Logger, path string) {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		var d *os.File
		if d, err = os.Open(filepath.Dir(path)); err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
	}
	if err != nil {
		log.Error("the claim's key is not deleted; is it in a folder that this user may write, such as data_dir?",
			"path", path, "err", err)
		return
	}
	log.Info("the claim's key is deleted", "path", path)
}

func tell(w io.Writer, id *provision.Identity, made bool, otherwise string) error {
	what := otherwise
	if made {
		what = "is provisioned"
	}
	_, err := fmt.Fprintf(w, "thing %s %s, certificate %s\n", printable(id.Thing), what, printable(id.Certificate))
	return err
}

// identityCommand reads the configuration and repeats try until it succeeds,
// unless it is told once.
func identityCommand(ctx context.Context, c *call,
	try func(context.Context, *config.Config, provision.Options) error) error {
	load := configFlags(c)
	once := c.flags.Bool("once", false, "try once; by default until it is done")
	if err := c.parse(0); err != nil {
		return err
	}
	cfg, err := load()
	if err != nil {
		return err
	}
	if cfg.Provision.Template == "" {
		_, err := fmt.Fprintln(c.stdout, "nothing to do: there is no provision.template, so this identity came by hand or in a kit,\n"+
			"and a new kit, or thing create, brings the next one")
		return err
	}
	log := newLog(c.stderr, cfg.Log.Format, levelOf(cfg))
	o := provisionOptions(&cfg, log)
	if *once {
		return try(ctx, &cfg, o)
	}
	b := backoff.NewExponentialBackOff(backoff.WithInitialInterval(time.Duration(cfg.Uplink.BackoffMin)),
		backoff.WithMaxInterval(time.Duration(cfg.Uplink.BackoffMax)), backoff.WithMaxElapsedTime(0),
		backoff.WithRandomizationFactor(0.5))
	return backoff.RetryNotify(func() error {
		return try(ctx, &cfg, o)
	}, backoff.WithContext(b, ctx), func(err error, again time.Duration) {
		log.Warn("not done yet", "err", err, "again_in", again.Round(time.Millisecond))
	})
}

func provisionOptions(cfg *config.Config, log *slog.Logger) provision.Options {
	parameters := map[string]string{}
	for k, v := range cfg.Provision.Parameters {
		parameters[k], _ = v.(string) // checked
	}
	o := provision.Options{
		Dir: cfg.DataDir, Endpoint: cfg.Uplink.Endpoint, ServerName: cfg.Uplink.ServerName,
		ClientID:   cfg.Provision.ClientID,
		Parameters: parameters, Retire: cfg.Provision.Retire, Timeout: time.Duration(cfg.Uplink.AckTimeout), Log: log,
		Roots: func() (*x509.CertPool, error) { return provision.Roots(cfg.Uplink.CA) },
		Claim: func() (tls.Certificate, error) {
			pair, err := secretfile.KeyPair(cfg.Provision.ClaimCert, cfg.Provision.ClaimKey)
			if err != nil {
				err = fmt.Errorf("provision.claim_cert, claim_key: %w", err)
			}
			return pair, err
		},
	}
	judge := device.ClockOptions(*cfg)
	judge.ReadOnly, judge.Log = true, log
	by := clock.Open(judge, nil)
	o.Time, o.Retry = by.CertTime, by.Refused
	if cfg.Uplink.ClientID != cfg.Thing {
		o.ThingClientID = cfg.Uplink.ClientID
	}
	return o
}
