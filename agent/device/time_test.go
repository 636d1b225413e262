package device

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/hal/sim"
)

// A clockless is a machine whose clock starts at 1970, runs 100 ppm fast and jumps. The
// bubble's time is the true one.
type clockless struct {
	mu    sync.Mutex
	since time.Time
	step  time.Duration
	link  bool
	taken map[[2]int64]time.Time // true time of each reading, by life and number
}

func (m *clockless) read() kernel.Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	up := 10*time.Second + time.Since(m.since)
	up += up / 10_000
	return kernel.Reading{Boot: up, Wall: time.Unix(0, 0).Add(up + m.step)}
}

func (m *clockless) set(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// boot runs an agent on the machine until do returns.
func (m *clockless) boot(t *testing.T, c *cloud, cfg config.Config, name string, do func(*Agent)) {
	t.Helper()
	m.set(func() { m.since, m.step = time.Now(), 0 })
	d := c.deps(sim.New(sim.Options{}))
	d.Clock, d.Boot, d.NoSocket = m.read, name, true
	d.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !m.link {
			return nil, errors.New("no link")
		}
		return c.dial(ctx, network, addr)
	}
	a, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = a.Watch(ctx, func(r Reading) error {
			var key [2]int64
			for _, v := range r.Values {
				switch v.Name {
				case "life":
					key[0] = number(t, v.Text)
				case "n":
					key[1] = number(t, v.Text)
				}
			}
			m.set(func() { m.taken[key] = time.Now() })
			return nil
		})
	})
	synctest.Wait() // it watches
	end := start(t, a)
	do(a)
	end()
	stop()
	wg.Wait()
}

func number(t *testing.T, text string) (n int64) {
	for _, c := range text {
		if n = 10*n + int64(c-'0'); c < '0' || c > '9' {
			t.Errorf("%q is no number", text)
		}
	}
	return n
}

func clocklessConfig(t *testing.T, dir string) config.Config {
	cfg := testConfig(t)
	cfg.DataDir, cfg.Shadow.Enabled = dir, false
	cfg.Spool.FlushEvery = config.Duration(time.Minute)
	cfg.Uplink.BackoffMin, cfg.Uplink.BackoffMax = config.Duration(time.Second), config.Duration(time.Minute)
	cfg.Sensors = []config.Sensor{{Name: "n", Driver: "count",
		Every: config.Duration(10 * time.Second), Timeout: config.Duration(time.Second)}}
	return cfg
}

// answerTime makes the cloud tell the time, after a while.
func answerTime(late time.Duration) func(net.Conn, *packets.PublishPacket) {
	return func(conn net.Conn, p *packets.PublishPacket) {
		text, err := telemetry.AnswerTime(p.Payload, time.Now(), 3*time.Millisecond)
		if err != nil {
			return
		}
		time.Sleep(late)
		m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
		m.TopicName, m.Payload = telemetry.TimeAnswerTopic, text
		_ = m.Write(conn)
	}
}

// got is how many batches the cloud has.
func (c *cloud) got() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.batches)
}

// check compares what the cloud got with what was taken.
func (m *clockless) check(t *testing.T, c *cloud, known bool) (readings int) {
	t.Helper()
	var before int64
	for seq := uint64(1); seq <= uint64(len(c.batches)); seq++ {
		b := c.batches[seq]
		if b == nil {
			t.Fatalf("batch %d of %d is missing", seq, len(c.batches))
		}
		if known != (b.Clock == telemetry.ClockSynced) {
			t.Fatalf("batch %d: clock %d", seq, b.Clock)
		}
		bound := time.Duration(max(b.Time.Bound, telemetry.PlainBound)) * time.Millisecond
		s := &b.Series[0]
		for i, ts := range s.Times {
			var key [2]int64
			for _, col := range s.Columns {
				switch col.Name {
				case "life":
					key[0] = col.Ints[i]
				case "n":
					key[1] = col.Ints[i]
				}
			}
			at, ok := m.taken[key]
			if !ok {
				t.Fatalf("batch %d: reading %v was never taken, or came twice", seq, key)
			}
			delete(m.taken, key)
			if off := time.UnixMilli(ts).Sub(at); known && off.Abs() > bound {
				t.Fatalf("batch %d: reading %v is off by %v, said to be %v at most", seq, key, off, bound)
			}
			if ts < before || ts < time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli() {
				t.Fatalf("batch %d: reading %v at %v, after %v", seq, key, time.UnixMilli(ts), time.UnixMilli(before))
			}
			before = ts
			readings++
		}
	}
	if len(m.taken) > 0 {
		t.Errorf("%d readings are lost", len(m.taken))
	}
	return readings
}

// in2027 moves the bubble to a time after this program was written.
func in2027() { time.Sleep(time.Until(time.Date(2027, 2, 1, 12, 0, 0, 0, time.UTC))) }

// A device without a clock is offline for six hours, restarts three times, and its clock
// is set back by an hour. Then a bridge tells it the time, after 20 s.
func TestOfflineWithoutClock(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		in2027()
		c := newCloud(t, "{}")
		c.time = answerTime(20 * time.Second)
		m := &clockless{taken: map[[2]int64]time.Time{}}
		cfg := clocklessConfig(t, dir)
		for _, name := range []string{"a", "b", "c"} {
			m.boot(t, c, cfg, name, func(*Agent) {
				time.Sleep(time.Hour)
				m.set(func() { m.step -= time.Hour })
				time.Sleep(time.Hour)
			})
			time.Sleep(5 * time.Minute)
		}
		m.set(func() { m.link = true })
		m.boot(t, c, cfg, "d", func(a *Agent) {
			if st := a.Status(); st.Time.Known || st.Time.Now.Year() < 2026 {
				t.Errorf("%+v", st.Time)
			}
			time.Sleep(19 * time.Second)
			if st := a.Status(); c.got() > 0 || st.Time.Waiting == 0 {
				t.Errorf("%d batches were sent before the time was known, %+v", c.got(), st.Time)
			}
			time.Sleep(10 * time.Minute)
			st := a.Status()
			if !st.Time.Known || st.Time.Source != "bridge" || st.Time.Waiting != 0 || st.Spool.Batches != 0 {
				t.Errorf("%+v, %+v", st.Time, st.Spool)
			}
		})
		c.wg.Wait()
		if n := m.check(t, c, true); n < 6*360 {
			t.Errorf("%d readings", n)
		}
	})
}

// A bridge of before tells no time, and gets batches that it takes, after a while, which
// say that their time is not known.
func TestBridgeOfBefore(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		in2027()
		c := newCloud(t, "{}")
		m := &clockless{taken: map[[2]int64]time.Time{}, link: true}
		cfg := clocklessConfig(t, dir)
		cfg.Clock.Wait = config.Duration(2 * time.Minute)
		m.boot(t, c, cfg, "a", func(a *Agent) {
			time.Sleep(119 * time.Second)
			if st := a.Status().Time; c.got() > 0 || st.Waiting != 1 || time.Until(st.Until) > 2*time.Second {
				t.Errorf("%d batches, %+v", c.got(), st)
			}
			time.Sleep(10 * time.Minute)
		})
		c.wg.Wait()
		for seq, b := range c.batches {
			if (b.Time != telemetry.Time{}) {
				t.Errorf("batch %d is of version 2", seq)
			}
		}
		if n := m.check(t, c, false); n < 70 {
			t.Errorf("%d readings", n)
		}
		if len(c.topics[telemetry.TimeTopic]) > 0 {
			t.Error("it was asked for the time")
		}
	})
}

// withTime's configurations go by the agent's time, and plain TCP stays plain.
func TestJudged(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	conf, err := withTime(func() (*tls.Config, error) { return &tls.Config{ServerName: "x"}, nil },
		func() time.Time { return at })()
	if err != nil || conf.ServerName != "x" || !conf.Time().Equal(at) {
		t.Errorf("%+v, %v", conf, err)
	}
	if conf, err := withTime(func() (*tls.Config, error) { return nil, nil }, nil)(); conf != nil || err != nil {
		t.Errorf("%+v, %v", conf, err)
	}
}
