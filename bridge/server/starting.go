package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// ErrNoRoom is the error of New on a disk with less than min_free.
var ErrNoRoom = errors.New("too little room")

const (
	roomEvery = time.Second      // looks for room of Start
	openGrace = 10 * time.Second // for New to end by itself after ctx has
)

// Open is New that ends with ctx, also where a disk does not answer: New then
// goes on in the background, and the program is to exit.
func Open(ctx context.Context, o Options) (*Server, error) {
	return opening(ctx, openGrace, func() (*Server, error) { return New(o) })
}

func opening(ctx context.Context, grace time.Duration, open func() (*Server, error)) (*Server, error) {
	type opened struct {
		s   *Server
		err error
	}
	done := make(chan opened, 1)
	go func() {
		s, err := open()
		done <- opened{s, err}
	}()
	select {
	case o := <-done:
		return o.s, o.err
	case <-ctx.Done():
	}
	select {
	case o := <-done:
		if o.s != nil {
			o.err = o.s.Close()
		}
		return nil, errors.Join(ctx.Err(), o.err)
	case <-time.After(grace):
		return nil, fmt.Errorf("%w: the stores could not be opened by then, is the disk full or slow?", ctx.Err())
	}
}

// Start is Open for a bridge that is to run: it waits for room on the disk, and
// answers on the admin listener meanwhile, alive and not ready. Run goes on
// with that listener. A data directory that another bridge uses, or that cannot be
// one, is the error even where a port is taken too.
func Start(ctx context.Context, o Options) (*Server, error) {
	cfg, log := o.Config, o.Log
	// Before the lock, which the last backup of a move wants for itself.
	if err := datadir.CheckMove(cfg.DataDir); err != nil {
		return nil, err
	}
	if err := datadir.Free(cfg.DataDir); err != nil {
		return nil, err
	}
	var admin *net.TCPListener
	if cfg.Admin.Listen != "" {
		l, err := listen.TCP(ctx, "admin.listen", cfg.Admin.Listen)
		if err != nil {
			return nil, err
		}
		admin = l.(*net.TCPListener)
	}
	why := new(atomic.Pointer[string])
	say := func(text string) { why.Store(&text) }
	say("the stores are being opened")
	answered := answerStarting(admin, why)
	var s *Server
	var err error
	for logged := false; ; {
		s, err = Open(ctx, o)
		if !errors.Is(err, ErrNoRoom) {
			break
		}
		say(err.Error())
		if !logged {
			log.Error("the bridge waits for room on its disk", "err", err)
			logged = true
		}
		select {
		case <-time.After(roomEvery):
			continue
		case <-ctx.Done():
		}
		err = errors.Join(ctx.Err(), err)
		break
	}
	answered()
	if err != nil {
		if admin != nil {
			err = errors.Join(err, admin.Close())
		}
		return nil, err
	}
	if admin != nil {
		s.admin = admin
	}
	return s, nil
}

// answerStarting answers health checks on l until the function that it returns
// is called; l stays open.
func answerStarting(l *net.TCPListener, why *atomic.Pointer[string]) (stop func()) {
	if l == nil {
		return func() {}
	}
	srv := listen.Within(time.Minute)
	srv.Handler, srv.ReadHeaderTimeout = admin.Health(func() error {
		return errors.New("the bridge starts: " + *why.Load())
	}), 10*time.Second
	srv.SetKeepAlivesEnabled(false) // the next request is the bridge's
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.Serve(lent{l}) }()
	return func() {
		_ = srv.Close()
		<-served
		_ = l.SetDeadline(time.Time{})
	}
}

// lent is a listener that stays open when its user closes it.
type lent struct{ *net.TCPListener }

func (l lent) Close() error { return l.SetDeadline(time.Now()) }

// checkRoom returns ErrNoRoom if the disk of dir has less room than a bridge
// needs to start: without it Pebble waits for room, and with it everybody. A disk
// that will never have as much, or is none, such as /proc, is another error.
func checkRoom(dir string, want int64) error {
	at := dir
	var free, all int64
	for {
		var err error
		if free, all, err = disk.Free(at); err == nil {
			break
		}
		if above := filepath.Dir(at); errors.Is(err, fs.ErrNotExist) && above != at {
			at = above
			continue
		}
		return fmt.Errorf("data_dir: %s: %w", at, err)
	}
	if all < want {
		return fmt.Errorf("data_dir: the file system of %s holds %d MiB in all, want %d at least: name another "+
			"data_dir, or set min_free",
			dir, all>>20, want>>20)
	}
	if free < want {
		return fmt.Errorf("data_dir: %w: the disk of %s has %d MiB free, want %d at least: make room, or set min_free",
			ErrNoRoom, dir, free>>20, want>>20)
	}
	return nil
}
