package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/deploy/await"
	"github.com/tidemill/tidemill/hal/sim"
	"golang.org/x/sys/unix"
)

// away is a device without a connection, and its log.
func away(log *lockedLog) Deps {
	return Deps{Board: sim.New(sim.Options{}), NoSocket: true, Log: slog.New(slog.NewTextHandler(log, nil)),
		Dial: func(context.Context, string, string) (net.Conn, error) { return nil, context.DeadlineExceeded }}
}

type lockedLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A store that is gone, empty or damaged is told in the log and in status, at the
// next starts too, and the device goes on, under another spool id.
func TestLostStores(t *testing.T) {
	for _, c := range []struct {
		name, file, want string
		spoil            func(path string) error
	}{
		{"spool missing", "spool.db", "a new spool", os.Remove},
		{"spool empty", "spool.db", "a new spool", func(p string) error { return os.Truncate(p, 0) }},
		{"spool damaged", "spool.db", "1 readings in it were saved, 0 lost", func(p string) error {
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt(make([]byte, 8192), 0)
			return err
		}},
		{"shadow missing", "shadow.db", "desired comes from the cloud", os.Remove},
		{"shadow empty", "shadow.db", "desired comes from the cloud", func(p string) error {
			return os.Truncate(p, 0)
		}},
		{"shadow damaged", "shadow.db", "desired comes from the cloud", func(p string) error {
			return os.Truncate(p, 5000)
		}},
		{"inventory damaged", inventoryFile, "is damaged", func(p string) error {
			return os.WriteFile(p, []byte("{"), 0o600)
		}},
		{"nothing", "spool.db", "", func(string) error { return nil }},
		{"inventory of an older agent", inventoryFile, "", os.Remove},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.Sensors = []config.Sensor{{Name: "n", Driver: "count", Every: config.Duration(time.Hour),
				Timeout: config.Duration(time.Second)}}
			log := &lockedLog{}
			a, err := New(cfg, away(log))
			if err != nil {
				t.Fatal(err)
			}
			stop := start(t, a)
			await.True(t, "a reading", func() bool { return a.Status().Spool.Readings == 1 })
			id := a.spool.Stats().ID
			stop()
			if got := a.Status().Losses; len(got) > 0 {
				t.Fatalf("at the first start: %+v", got)
			}
			if err := c.spoil(filepath.Join(cfg.DataDir, c.file)); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if a, err = New(cfg, away(log)); err != nil {
					t.Fatal(err)
				}
				stop = start(t, a)
				await.True(t, "a reading more", func() bool {
					st := a.Status().Sensors
					return len(st) > 0 && st[0].Readings > 0
				})
				stop()
				losses := a.Status().Losses
				if c.want == "" {
					if len(losses) > 0 {
						t.Fatalf("%+v", losses)
					}
				} else if len(losses) != 1 || losses[0].File != c.file || !strings.Contains(losses[0].Text, c.want) ||
					losses[0].At.IsZero() {
					t.Fatalf("%+v, want %s: %s", losses, c.file, c.want)
				}
			}
			if n := strings.Count(log.String(), "is lost, the device goes on"); n != 1 && c.want != "" || n != 0 &&
				c.want == "" {
				t.Errorf("told %d times:\n%s", n, log)
			}
			if same := a.spool.Stats().ID == id; same == strings.Contains(c.want, "a new spool") {
				t.Errorf("the spool's id is the same: %v", same)
			}
		})
	}
}

// A disk that is full: status says which, since when and what is at risk; the
// log when it begins and ends, and nothing is lost that fits into memory.
func TestFullDisk(t *testing.T) {
	cfg := testConfig(t)
	cfg.DataDir = filepath.Join(cfg.DataDir, "card")
	if err := os.Mkdir(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tidemill-test", cfg.DataDir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("no file system of a known size can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(cfg.DataDir, unix.MNT_DETACH) })
	log := &lockedLog{}
	a, err := New(cfg, away(log))
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, a)
	await.True(t, "readings on the disk", func() bool { return a.Status().Spool.Readings > 0 })
	ballast := filepath.Join(cfg.DataDir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1024); err == nil; {
		_, err = f.Write(block)
	}
	f.Close()
	await.True(t, "failing", func() bool { return a.Status().Spool.Failing != nil })
	await.True(t, "readings at risk", func() bool { return a.Status().Spool.Unflushed > 20 })
	st := a.Status()
	if f := st.Spool.Failing; f == nil || !strings.Contains(f.Error, "no space left") || f.Since.IsZero() ||
		f.Refused != 0 ||
		st.Disk.Device != "tidemill-test" || st.Disk.Mount != cfg.DataDir || st.Disk.Free != 0 {
		t.Errorf("%+v, %+v", st.Spool.Failing, st.Disk)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	await.True(t, "written again", func() bool { return a.Status().Spool.Failing == nil })
	stop()
	st = a.Status()
	var taken uint64
	for _, s := range st.Sensors {
		taken += s.Readings
	}
	if st.Spool.Appended != taken || st.Spool.Refused != 0 {
		t.Errorf("%d readings of %d are on the disk, %d refused", st.Spool.Appended, taken, st.Spool.Refused)
	}
	for _, text := range []string{"readings cannot be written", "readings are written again"} {
		if n := strings.Count(log.String(), text); n != 1 {
			t.Errorf("%q is %d times in the log:\n%s", text, n, log)
		}
	}
}

// A file system that is read-only at the start, as Linux makes one that has an error: the
// agent reads its sensors, says that it cannot write, and does when it can.
func TestReadOnlyDisk(t *testing.T) {
	cfg := testConfig(t)
	cfg.Spool.FlushEvery = config.Duration(20 * time.Millisecond)
	cfg.DataDir = filepath.Join(cfg.DataDir, "card")
	if err := os.Mkdir(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	cfg.Socket = filepath.Join(cfg.DataDir, "agent.sock")
	if err := unix.Mount("tidemill-test", cfg.DataDir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(cfg.DataDir, unix.MNT_DETACH) })
	for _, round := range []string{"without a spool", "with one"} {
		if err := unix.Mount("", cfg.DataDir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		log := &lockedLog{}
		deps := away(log)
		deps.NoSocket = false
		a, err := New(cfg, deps)
		if err != nil {
			t.Fatal(round, err)
		}
		stop := start(t, a)
		await.True(t, "readings at risk", func() bool { return a.Status().Spool.Unflushed > 20 })
		st := a.Status()
		if f := st.Spool.Failing; f == nil || !strings.Contains(f.Error, "read-only") || st.Loss.Bound != 0 ||
			st.Loss.Seconds <= 0 || st.Shadow != nil {
			t.Errorf("%s: %+v, %+v", round, st.Spool.Failing, st.Loss)
		}
		if err := unix.Mount("", cfg.DataDir, "", unix.MS_REMOUNT, ""); err != nil {
			t.Fatal(err)
		}
		await.True(t, "written again", func() bool {
			st := a.Status()
			return st.Spool.Failing == nil && st.Spool.Readings > 20
		})
		before := a.Status().Spool.Readings
		await.True(t, "and on", func() bool { return a.Status().Spool.Readings > before })
		stop()
		sp := a.spool.Stats()
		var taken uint64
		for _, s := range a.Status().Sensors {
			taken += s.Readings
		}
		if sp.Stored != taken || sp.Refused != 0 || len(a.Status().Losses) > 0 {
			t.Errorf("%s: %d readings of %d are on the disk, %d refused; %+v", round, sp.Stored, taken, sp.Refused,
				a.Status().Losses)
		}
		for text, want := range map[string]int{"readings cannot be written": 1, "readings are written again": 1,
			"works without a shadow": 1, "no place for a socket": 1} {
			if n := strings.Count(log.String(), text); n != want {
				t.Errorf("%s: %q is %d times in the log:\n%s", round, text, n, log)
			}
		}
	}
}

// A damaged spool on a disk without room for a salvage is no loss, not yet: what
// could be saved is told when there is room.
func TestDamagedSpoolWaitsForRoom(t *testing.T) {
	cfg := testConfig(t)
	cfg.Spool.FlushEvery = config.Duration(20 * time.Millisecond)
	cfg.DataDir = filepath.Join(cfg.DataDir, "card")
	if err := os.Mkdir(cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tidemill-test", cfg.DataDir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("no file system of a known size can be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(cfg.DataDir, unix.MNT_DETACH) })
	a, err := New(cfg, away(&lockedLog{}))
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, a)
	await.True(t, "readings on the disk", func() bool { return a.Status().Spool.Readings > 0 })
	stop()
	id, readings := a.spool.Stats().ID, a.Status().Spool.Readings
	f, err := os.OpenFile(filepath.Join(cfg.DataDir, "spool.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = f.WriteAt(make([]byte, 8192), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	ballast := filepath.Join(cfg.DataDir, "ballast")
	if f, err = os.Create(ballast); err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1024); err == nil; {
		_, err = f.Write(block)
	}
	f.Close()
	if a, err = New(cfg, away(&lockedLog{})); err != nil {
		t.Fatal(err)
	}
	stop = start(t, a)
	await.True(t, "readings at risk", func() bool { return a.Status().Spool.Unflushed > 0 })
	if st := a.Status(); len(st.Losses) > 0 || st.Spool.Dropped > 0 || st.Spool.Failing == nil ||
		!strings.Contains(st.Spool.Failing.Error, "damaged") {
		t.Errorf("%+v, %+v", st.Losses, st.Spool)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	await.True(t, "saved", func() bool {
		st := a.Status()
		return st.Spool.Failing == nil && st.Spool.Readings > readings
	})
	stop()
	losses := a.Status().Losses
	if len(losses) != 1 || !strings.Contains(losses[0].Text,
		fmt.Sprintf("%d readings in it were saved, 0 lost", readings)) || a.spool.Stats().ID != id {
		t.Errorf("%+v, want %d readings", losses, readings)
	}
	if a, err = New(cfg, away(&lockedLog{})); err != nil {
		t.Fatal(err)
	}
	start(t, a)()
	if again := a.Status().Losses; len(again) != 1 {
		t.Errorf("at the next start: %+v", again)
	}
}

// What the shadow desires holds until it is not desired any more; then it is the
// file's again, at once.
func TestDesiredCleared(t *testing.T) {
	c := newCloud(t, `{"sensors":{"n":{"every":0.02},"hall":{"every":7}},"outputs":{"lamp":{"level":true}}}`)
	cfg := testConfig(t)
	cfg.Sensors[2].Options = map[string]any{"line": "sim:4", "initial": false}
	a, err := New(cfg, c.deps(sim.New(sim.Options{})))
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, a)
	every := func() (n, hall string, lamp bool) {
		for _, s := range a.Status().Sensors {
			switch s.Name {
			case "n":
				n = s.Every
			case "hall":
				hall = s.Every
			case "lamp":
				lamp = s.Level != nil && *s.Level
			}
		}
		return n, hall, lamp
	}
	await.True(t, "what is desired holds", func() bool {
		n, hall, lamp := every()
		return n == "20ms" && hall == "7s" && lamp
	})
	c.mu.Lock()
	c.doc, c.version = `{"sensors":{"hall":{"every":7}}}`, c.version+1
	_ = c.conn.Close()
	c.mu.Unlock()
	await.True(t, "the file's values hold again", func() bool {
		n, hall, lamp := every()
		return n == "1h0m0s" && hall == "7s" && !lamp
	})
	stop()
	c.wg.Wait()
}

// A shadow holds 8 KB. What has no room is left out and said; the rest is there.
func TestManySensors(t *testing.T) {
	c := newCloud(t, `{}`)
	cfg := testConfig(t)
	earlier := cfg
	earlier.Sensors = cfg.Sensors[1:2] // not counted later
	cfg.Sensors = nil
	for i := range 200 {
		cfg.Sensors = append(cfg.Sensors,
			config.Sensor{Name: fmt.Sprintf("hall-%03d-%s", i, strings.Repeat("x", 50)), Driver: "count",
				Every: config.Duration(time.Hour), Timeout: config.Duration(time.Second)})
	}
	log := &lockedLog{}
	d := c.deps(sim.New(sim.Options{}))
	d.Log = slog.New(slog.NewTextHandler(log, nil))
	a, err := New(earlier, d)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, a)
	c.until("the earlier sensor reported", func() bool { return c.reportedAt(3600.0, "sensors", "n", "every") })
	a.Reload(cfg)
	c.until("sensors reported", func() bool { return c.reportedAt(3600.0, "sensors", cfg.Sensors[0].Name, "every") })
	await.True(t, "said in status", func() bool { return a.Status().Shadow.LeftOut > 0 })
	st := a.Status().Shadow
	sensors, _ := a.shadow.Reported()["sensors"].(map[string]any)
	if len(sensors) != 200-st.LeftOut || len(sensors) < 50 || st.Since.IsZero() || st.Error != "" || st.Refused != "" {
		t.Errorf("%d sensors in the shadow, %+v", len(sensors), st)
	}
	cfg.Sensors = cfg.Sensors[:20]
	a.Reload(cfg)
	await.True(t, "all have room again", func() bool { return a.Status().Shadow.LeftOut == 0 })
	stop()
	c.wg.Wait()
	for text, want := range map[string]int{"no room for all sensors": 1, " sensors=200 ": 1, "and whole": 1,
		" thing=press-7 thing=": 0} {
		if n := strings.Count(log.String(), text); n != want {
			t.Errorf("%q is %d times in the log, want %d", text, n, want)
		}
	}
	for line := range strings.Lines(log.String()) {
		if strings.Count(line, "thing=") != 1 {
			t.Errorf("the thing is not once in %s", line)
		}
	}
}

// A damaged shadow on a full disk does not keep the agent from starting: a new file
// takes the damaged one's room, and where there is none at all the agent works
// without a shadow.
func TestDamagedShadowOnAFullDisk(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"sound": func(string) error { return nil },
		"damaged": func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(make([]byte, 8192), 0)
			return errors.Join(err, f.Close())
		},
		"gone": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t)
			cfg.DataDir = filepath.Join(cfg.DataDir, "card")
			if err := os.Mkdir(cfg.DataDir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("tidemill-test", cfg.DataDir, "tmpfs", 0, "size=4m"); err != nil {
				t.Skipf("no file system of a known size can be mounted here: %v", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(cfg.DataDir, unix.MNT_DETACH) })
			a, err := New(cfg, away(&lockedLog{}))
			if err != nil {
				t.Fatal(err)
			}
			stop := start(t, a)
			await.True(t, "readings on the disk", func() bool { return a.Status().Spool.Readings > 0 })
			stop()
			path := filepath.Join(cfg.DataDir, "shadow.db")
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			f, err := os.Create(filepath.Join(cfg.DataDir, "ballast"))
			if err != nil {
				t.Fatal(err)
			}
			for block := make([]byte, 1024); err == nil; {
				_, err = f.Write(block)
			}
			f.Close()
			log := &lockedLog{}
			if a, err = New(cfg, away(log)); err != nil {
				t.Fatal(err)
			}
			stop = start(t, a)
			await.True(t, "readings", func() bool { return a.Status().Spool.Unflushed > 0 })
			st := a.Status()
			stop()
			if (st.Shadow == nil) != (name == "gone") {
				t.Errorf("shadow %+v\n%s", st.Shadow, log)
			}
			if said := map[string]string{"damaged": "there is no room to keep it",
				"gone": "works without a shadow"}[name]; !strings.Contains(log.String(), said) {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

// A power cut loses what was not flushed and nothing else.
func TestPowerCut(t *testing.T) {
	cfg := testConfig(t)
	cfg.Sensors = []config.Sensor{{Name: "n", Driver: "count", Every: config.Duration(20 * time.Millisecond),
		Timeout: config.Duration(time.Second)}}
	cfg.Spool.FlushEvery = config.Duration(time.Hour)
	a, err := New(cfg, away(&lockedLog{}))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	await.True(t, "readings", func() bool { return a.Status().Spool.Unflushed > 1 })
	if err := a.spool.Flush(); err != nil {
		t.Fatal(err)
	}
	durable := a.Status().Spool.Readings
	await.True(t, "readings in memory", func() bool { return a.Status().Spool.Unflushed > 1 })
	cut(ErrPowerCut)
	if err := <-done; !errors.Is(err, ErrPowerCut) {
		t.Errorf("%v, want ErrPowerCut", err)
	}
	if a, err = New(cfg, away(&lockedLog{})); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if st := a.Status(); st.Spool.Readings != durable || st.Spool.Unflushed != 0 || len(st.Losses) > 0 {
		t.Errorf("%+v, want %d readings", st.Spool, durable)
	}
}
