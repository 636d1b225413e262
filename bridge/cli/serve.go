package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/server"
	"github.com/tidemill/tidemill/hal/secretfile"
)

var serveCommand = command{name: "serve",
	summary: "run the bridge: MQTT on :8883, the AWS APIs on :8443, health on 127.0.0.1:8081, unless configured " +
		"otherwise",
	example: "tidemill-bridge serve                                     # data in ~/.local/state/tidemill-bridge, " +
		"root's in /var/lib/tidemill-bridge\n" +
		"tidemill-bridge serve -config /etc/tidemill/bridge.toml",
	run: serve}

func serve(ctx context.Context, c *call) error {
	accept := c.flags.Bool("accept-loss", false,
		"go on without parts of the data directory that were there once and are lost, which is logged")
	if err := c.parse(0, 0); err != nil {
		return err
	}
	// Early: a reload that comes while the bridge starts must not end it.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	cfg, err := c.loadConfig()
	if err != nil {
		return err
	}
	cfg.AcceptLoss = *accept
	log := newLog(c, cfg)
	s, err := server.Start(ctx, server.Options{Config: cfg, Reread: c.loadConfig, Version: c.version, Log: log})
	if err != nil {
		return err
	}
	stuck := false
	defer func() {
		if stuck { // the stores do not close either
			return
		}
		if err := s.Close(); err != nil {
			log.Error("closing the stores failed", "err", err)
		}
	}()
	if err := s.Listen(ctx); err != nil {
		return err
	}
	side, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { reloads(side, hup, s, log) })
	wg.Go(func() { paceCollector(side) })
	err = ends(ctx, stopWithin, s.Run)
	cancel()
	if stuck = errors.Is(err, errStuck); stuck {
		return err
	}
	wg.Wait() // before the stores close
	return err
}

// stopWithin is how long a bridge takes to stop at most, our choice: below the
// 90 s after which systemd kills.
const stopWithin = 30 * time.Second

var errStuck = errors.New("the bridge does not stop by itself, is its disk full or away? " +
	"It ends as by kill -9; what was acknowledged is safe")

// ends runs f until it returns, or for as long as within after ctx has ended.
func ends(ctx context.Context, within time.Duration, f func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(within):
		return errStuck
	}
}

// reloads applies the declarations at each SIGHUP until ctx ends.
func reloads(ctx context.Context, hup <-chan os.Signal, s *server.Server, log *slog.Logger) {
	for {
		select {
		case <-hup:
		case <-ctx.Done():
			return
		}
		if n, err := s.Reload(); err != nil {
			log.Error("reload: the parts that are wrong keep their last good version", "err", err)
		} else {
			log.Info("reloaded", "declarations", n)
		}
	}
}

func newLog(c *call, cfg *config.Config) *slog.Logger {
	o := &slog.HandlerOptions{Level: cfg.Log.SlogLevel(), ReplaceAttr: logValue}
	if cfg.Log.Format == "text" {
		return slog.New(slog.NewTextHandler(c.stderr, o))
	}
	return slog.New(slog.NewJSONHandler(c.stderr, o))
}

var reloadCommand = command{name: "reload",
	summary: "apply the files of bridge.d, the access keys, [[access]] and server certificates now (as SIGHUP does)",
	example: "tidemill-bridge reload",
	run: func(ctx context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		return c.with(ctx, func(a *client) error {
			var said struct{ Declarations int }
			if err := a.do(ctx, "POST", "/v1/reload", nil, nil, &said); err != nil {
				return err
			}
			text := "%d declarations are in force\n"
			if !a.live {
				text = "%d declarations are right; no bridge runs\n"
			}
			_, err := fmt.Fprintf(c.stdout, text, said.Declarations)
			return err
		})
	}}

var configSample = command{name: "config sample", summary: "print a commented configuration file",
	example: "tidemill-bridge config sample > bridge.toml", alone: true,
	run: func(_ context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		_, err := fmt.Fprint(c.stdout, config.Sample)
		return err
	}}

var configCheck = command{name: "config check", args: "[FILE]",
	summary: "check a configuration file, or the one that serve would use",
	example: "tidemill-bridge config check bridge.toml",
	run: func(_ context.Context, c *call) error {
		if err := c.parse(0, 1); err != nil {
			return err
		}
		if err := c.argumentOr(&c.config, "-config"); err != nil {
			return err
		}
		cfg, err := c.loadConfig()
		if err != nil {
			return err
		}
		err = server.CheckPeers(cfg.Admin.Peers)
		for setting, f := range map[string]pki.Files{
			"mqtt": {Cert: cfg.MQTT.Cert, Key: cfg.MQTT.Key}, "https": {Cert: cfg.HTTPS.Cert, Key: cfg.HTTPS.Key},
		} {
			if e := pki.CheckFiles(f); e != nil {
				err = errors.Join(err, fmt.Errorf("%s.cert: %w", setting, e))
			}
		}
		err = errors.Join(err, checkFiles(cfg))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.stdout, "it is right; data in %s\n", cfg.DataDir)
		return errors.Join(err, c.printWayBack(cfg.DataDir))
	}}

// printWayBack says what a start over the data directory would raise. While a bridge
// runs over it that is not known, and a directory that cannot be looked at is not what
// is asked about.
func (c *call) printWayBack(dir string) error {
	raised, last, err := datadir.Migrations(dir)
	if err != nil || len(raised) == 0 {
		return nil
	}
	_, err = fmt.Fprintf(c.stdout, "%s\n", datadir.WayBack(raised, last))
	return err
}

// checkFiles returns what is wrong with the secrets and folders that the configuration names. Files
// may be the bridge's own user's where root looks.
func checkFiles(cfg *config.Config) (err error) {
	secrets := map[string]string{"broker.password_file": cfg.Broker.PasswordFile,
		"postgres.password_file": cfg.Postgres.PasswordFile, "predict.token_file": cfg.Predict.TokenFile,
		"alertmanager.password_file": cfg.Alertmanager.PasswordFile}
	for i, a := range cfg.Actions {
		secrets[fmt.Sprintf("actions[%d].password_file", i)] = a.PasswordFile
	}
	for _, key := range slices.Sorted(maps.Keys(secrets)) {
		if path := secrets[key]; path != "" {
			if _, e := secretfile.ReadConfig(path); e != nil {
				err = errors.Join(err, fmt.Errorf("%s: %w", key, e))
			}
		}
	}
	for _, dir := range cfg.Lambda.Directories {
		info, e := os.Stat(dir)
		if e == nil && !info.IsDir() {
			e = fmt.Errorf("%s is not a folder", dir)
		}
		if e != nil {
			err = errors.Join(err, fmt.Errorf("lambda.directories: %w", e))
		}
	}
	return err
}
