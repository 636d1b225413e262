package trial

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/route"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltstore"
	"github.com/tidemill/tidemill/shadow/service"
)

// A bridge is the message path as bridge/server assembles it: gateway, router, ingest,
// streams, shadows. The whole server cannot run in a bubble of testing/synctest: it opens
// sockets of its own for MQTT, HTTPS and the admin socket, and bridge.d is watched by
// inotify, and a goroutine that waits for the kernel keeps virtual time from passing.
type bridge struct {
	fs   *vfs.MemFS // what the log is on; a power cut leaves a part of it
	dir  string     // of the shadows, whose every change is synced by bbolt
	bugs bugs
	rand *rand.Rand

	store *pebble.Store
	log   *slowLog

	shadows *boltstore.Store
	service *service.Service
	end     func()
	gone    chan struct{} // closed when the one before has ended

	mu    sync.Mutex // guards pipes
	pipes *pipes     // where devices connect; nil: the bridge has no power
}

// start opens the bridge on what is there and serves.
func (b *bridge) start() error {
	var fs vfs.FS = b.fs
	if b.bugs.skipSync {
		fs = unsynced{fs}
	}
	store, err := pebble.Open("log", pebbletest.Options(fs))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	b.store, b.log = store, newSlowLog(store, b.bugs)
	running.Go(func() { _ = store.Run(ctx) })
	running.Go(func() { b.log.run(ctx) })
	fail := func(err error) error {
		cancel()
		running.Wait()
		return errors.Join(err, store.Close())
	}
	in, err := ingest.New(b.log, ingest.Options{Shards: 4})
	if err != nil {
		return fail(err)
	}
	if b.shadows, err = boltstore.Open(filepath.Join(b.dir, "shadow.db"), boltstore.Options{}); err != nil {
		return fail(err)
	}
	conf := gateway.Config{Store: store, Log: slog.New(slog.DiscardHandler), DrainTimeout: time.Second}
	subscribers := gateway.NewSubscribers(conf)
	publisher := route.NewPublisher(in, subscribers, nil, nobody{}, func() error { return nil })
	b.service = service.New(b.shadows, publisher, service.Options{})
	router := route.New(route.Options{Publisher: publisher, Shadows: b.service, Log: store,
		Time: func() (time.Time, time.Duration, bool) { return time.Now(), 10 * time.Millisecond, true }})
	server := gateway.New(subscribers, gateway.Hooks{Authorizer: everybody{}, Router: router})
	if err := server.Load(); err != nil {
		return fail(errors.Join(err, b.shadows.Close()))
	}
	at := &pipes{conns: make(chan net.Conn), done: make(chan struct{})}
	b.listen(at)
	serving, stop := context.WithCancel(ctx)
	var front sync.WaitGroup
	front.Go(func() { _ = server.Serve(serving, at) })
	front.Go(func() { _ = server.Run(serving) })
	b.end = func() {
		stop()
		front.Wait()
		b.service.Close()
		cancel()
		running.Wait()
		_ = store.Close() // on a disk that is no longer the bridge's
		_ = b.shadows.Close()
	}
	return nil
}

// listen says where devices connect, nil for nowhere.
func (b *bridge) listen(at *pipes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pipes = at
}

// dial connects a device.
func (b *bridge) dial(ctx context.Context) (net.Conn, error) {
	b.mu.Lock()
	at := b.pipes
	b.mu.Unlock()
	if at == nil {
		return nil, io.ErrClosedPipe
	}
	c, err := at.dial(ctx)
	if err != nil {
		return nil, err
	}
	return b.bugs.spoil(c), nil
}

// A slowLog is a log whose disk takes its time. It is ingest's alone.
type slowLog struct {
	*pebble.Store
	bugs    bugs
	waiting chan func()
	done    chan func()

	mu            sync.Mutex // guards what follows
	before, after time.Duration
}

func newSlowLog(s *pebble.Store, b bugs) *slowLog {
	return &slowLog{Store: s, bugs: b, waiting: make(chan func(), 1<<12), done: make(chan func(), 1<<12)}
}

// slow sets how long a batch waits before it is written, and its answer after.
func (l *slowLog) slow(before, after time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.after = before, after
}

func (l *slowLog) CommitAsync(b *streams.Batch, done func(error)) {
	l.waiting <- func() {
		l.Store.CommitAsync(b, func(err error) { l.done <- func() { done(err) } })
	}
}

// Get is of marks alone: ingest keeps nothing else.
func (l *slowLog) Get(key []byte) ([]byte, error) {
	if l.bugs.loseMark {
		return nil, nil
	}
	return l.Store.Get(key)
}

// run works in order, until ctx is done; then at once what is left.
func (l *slowLog) run(ctx context.Context) {
	pass := func(in chan func(), wait func() time.Duration) {
		for {
			select {
			case f := <-in:
				pause(ctx, wait())
				f()
			case <-ctx.Done():
				for {
					select {
					case f := <-in:
						f()
					default:
						return
					}
				}
			}
		}
	}
	var both sync.WaitGroup
	both.Go(func() { pass(l.waiting, func() time.Duration { l.mu.Lock(); defer l.mu.Unlock(); return l.before }) })
	both.Go(func() { pass(l.done, func() time.Duration { l.mu.Lock(); defer l.mu.Unlock(); return l.after }) })
	both.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// unsynced is a file system on which the write-ahead log is not synced.
type unsynced struct{ vfs.FS }

func (u unsynced) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := u.FS.Create(name, c)
	return lazy(name, f), err
}

func (u unsynced) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := u.FS.ReuseForWrite(old, name, c)
	return lazy(name, f), err
}

func lazy(name string, f vfs.File) vfs.File {
	if f == nil || filepath.Ext(name) != ".log" {
		return f
	}
	return lazyFile{f}
}

type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error                { return nil }
func (lazyFile) SyncData() error            { return nil }
func (lazyFile) SyncTo(int64) (bool, error) { return false, nil }

// everybody may do everything as the thing of its client id.
type everybody struct{ thing string }

func (everybody) Connect(_ context.Context, c *gateway.Connect) (gateway.Session, error) {
	return everybody{c.ClientID}, nil
}
func (e everybody) Principal() string          { return "cert/" + e.thing }
func (e everybody) Thing() string              { return e.thing }
func (everybody) MayPublish(string, bool) bool { return true }
func (everybody) MaySubscribe(f string) bool   { return f != "$tidemill/batch" } // it is only taken
func (everybody) MayReceive(string) bool       { return true }

// nobody watches.
type nobody struct{}

func (nobody) Show(*message.Message) {}

// pipes is a listener within the process.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipes) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (l *pipes) dial(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case l.conns <- b:
		return a, nil
	case <-l.done:
		return nil, io.ErrClosedPipe
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// desire changes the desired state of a thing's shadow.
func (b *bridge) desire(thing, state string) error {
	_, err := b.service.Do(context.Background(), thing, "", shadow.OpUpdate, []byte(`{"state":{"desired":`+state+`}}`))
	return err
}

// delivered calls f with what is in the ingest log, thing by thing in the order of the log.
func (b *bridge) delivered(f func(m *message.Message)) error {
	info, err := b.store.Describe(ingest.Stream)
	if err != nil {
		return err
	}
	for shard := range info.Shards {
		for from := uint64(0); ; {
			rs, err := b.store.Read(ingest.Stream, shard, from, 1000, 0)
			if err != nil {
				return err
			}
			if len(rs) == 0 {
				break
			}
			for _, r := range rs {
				m, err := message.Decode(r.Data)
				if err != nil {
					return err
				}
				f(m)
				from = r.Offset + 1
			}
		}
	}
	return nil
}
