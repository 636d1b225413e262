package connector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bench is one connector over a stream in memory.
type bench struct {
	stream *fakeStream
	out    *objects
	leases *Local
	dead   *letters
}

func newBench(shards int) *bench {
	return &bench{newFakeStream(shards), &objects{}, inMemory(), &letters{}}
}

func (b *bench) config() Config {
	return Config{Name: "c", Source: b.stream, Emitter: b.out, Leases: b.leases, Dead: b.dead}
}

// run runs a connector; stop ends it and returns when it has.
func run(c Config) (conn *Connector, stop func()) {
	conn = New(c)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { conn.Run(ctx) })
	return conn, func() { cancel(); wg.Wait() }
}

type letters struct {
	mu   sync.Mutex
	all  []Letter
	fail error
}

func (l *letters) Put(_ context.Context, more []Letter) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	l.all = append(l.all, more...)
	return nil
}

func (l *letters) limit() int { return 1 << 20 }

func (b *bench) checkpoint(t *testing.T, shard int) string {
	t.Helper()
	all, err := b.leases.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if l.Shard == b.stream.shards[shard].ID {
			return l.Checkpoint.String()
		}
	}
	return "none"
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// A buffer goes when it is full, of records or of bytes, or when its first
// record has waited; without records nothing is emitted.
func TestBufferLimits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(1)
		c := b.config()
		c.Records, c.Bytes, c.Age = 3, 100, time.Minute
		_, stop := run(c)
		defer stop()
		time.Sleep(time.Hour)
		want(t, "emitted of nothing", b.out.written(), 0)
		for range 4 {
			b.stream.put("k", []byte("x"))
		}
		time.Sleep(time.Second)
		want(t, "full of records", b.out.names(), "[shardId-000000000000/91-93]")
		time.Sleep(58 * time.Second)
		want(t, "before its time", b.out.written(), 1)
		time.Sleep(2 * time.Second)
		want(t, "after its time", b.out.names(), "[shardId-000000000000/91-93 shardId-000000000000/94-94]")
		b.stream.put("k", make([]byte, 50))
		b.stream.put("k", make([]byte, 50))
		time.Sleep(time.Second)
		want(t, "full of bytes", b.out.written(), 3)
		want(t, "checkpoint", b.checkpoint(t, 0), "96")
	})
}

// When it stops what is buffered is emitted, the checkpoint moves and the lease
// is free: another goes on at once, without repeating.
func TestStop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(1)
		_, stop := run(b.config())
		b.stream.put("k", []byte("1"))
		time.Sleep(time.Second)
		stop()
		want(t, "emitted", b.out.data(), "[1]")
		b.stream.put("k", []byte("2"))
		_, stop = run(b.config())
		time.Sleep(time.Second)
		stop()
		want(t, "emitted then", b.out.data(), "[1 2]")
		want(t, "writes", b.out.written(), 2)
	})
}

// What a filter passes over moves the checkpoint, though nothing is emitted.
func TestFilteredMovesCheckpoint(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(1)
		c := b.config()
		s, err := iotsql.Compile("SELECT a AS b, topic() AS t FROM 'x' WHERE a > 1", iotsql.Version2016)
		if err != nil {
			t.Fatal(err)
		}
		c.Stages = []Stage{onlyJSON(true), sql("in", s), newline()}
		conn, stop := run(c)
		defer stop()
		b.stream.put("k", []byte(`{"a":1}`))
		b.stream.put("k", []byte(`no JSON`))
		time.Sleep(62 * time.Second)
		want(t, "writes", b.out.written(), 0)
		want(t, "checkpoint", b.checkpoint(t, 0), "92")
		b.stream.put("k", []byte(`{"a":2}`))
		time.Sleep(62 * time.Second)
		want(t, "emitted", strings.Join(b.out.data(), "|"), `{"b":2,"t":"in/k"}`+"\n")
		want(t, "filtered", conn.Status().Filtered, 2)
	})
}

// Items that are refused are tried again, by themselves; what is refused for
// good, or still after the last attempt, goes to the dead letters.
func TestRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(1)
		var attempts []string // these two under b.out.mu
		var times []time.Duration
		began := time.Now()
		b.out.fail = func(batch *Batch) (failed []Failure, _ error) {
			text := ""
			for i, it := range batch.Items {
				text += string(it.Data)
				switch {
				case string(it.Data) == "p":
					failed = append(failed, Failure{Index: i, Err: errors.New("malformed"), Permanent: true})
				case string(it.Data) == "n", string(it.Data) == "l" && len(attempts) < 2:
					failed = append(failed, Failure{Index: i, Err: errors.New("busy"), Permanent: false})
				}
			}
			attempts, times = append(attempts, text), append(times, time.Since(began))
			return failed, nil
		}
		c := b.config()
		c.Age = time.Second
		conn, stop := run(c)
		for _, x := range "aplnb" {
			b.stream.put("k", []byte(string(x)))
		}
		time.Sleep(time.Minute)
		stop()
		want(t, "attempts", attempts, "[aplnb ln ln n]")
		for i, between := range [][2]time.Duration{{500, 1000}, {1000, 2000}, {2000, 4000}} {
			if d := times[i+1] - times[i]; d < between[0]*time.Millisecond || d > between[1]*time.Millisecond {
				t.Errorf("waited %v before retry %d, want %v ms", d, i+1, between)
			}
		}
		if len(b.dead.all) != 2 || !strings.Contains(string(b.dead.all[0].Data), `"errorMessage":"malformed"`) ||
			!strings.Contains(string(b.dead.all[1].Data), `"errorMessage":"busy"`) ||
			!strings.Contains(string(b.dead.all[1].Data), `"sequenceNumber":"94"`) {
			t.Errorf("dead letters: %s", b.dead.all)
		}
		want(t, "checkpoint", b.checkpoint(t, 0), "95")
		s := conn.Status()
		want(t, "counts", []int64{s.Emitted, s.Failed, s.Retries, s.Dead, s.Batches}, []int64{3, 7, 3, 2, 1})
	})
}

// While the store is away, or dead letters cannot be put, the shard waits and
// says so; nothing is read meanwhile, and nothing is lost.
func TestOutage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(1)
		var away atomic.Bool
		away.Store(true)
		b.out.fail = func(*Batch) ([]Failure, error) {
			if away.Load() {
				return nil, errors.New("connection refused")
			}
			return nil, nil
		}
		c := b.config()
		c.Records = 2
		c.Stages = []Stage{onlyJSON(false)}
		b.stream.page = 2
		conn, stop := run(c)
		for i := range 10 {
			b.stream.put("k", fmt.Append(nil, i))
		}
		b.stream.put("k", []byte("bad"))
		time.Sleep(time.Hour)
		s := conn.Status()
		want(t, "trouble", s.Shards[0].Trouble, "emitting: connection refused")
		want(t, "pending", s.Shards[0].Pending, "91-92")
		want(t, "read", s.Records, 2)
		want(t, "checkpoint", b.checkpoint(t, 0), "TRIM_HORIZON")
		b.dead.mu.Lock()
		b.dead.fail = errors.New("no such stream")
		b.dead.mu.Unlock()
		away.Store(false)
		time.Sleep(time.Hour)
		want(t, "emitted", b.out.data(), "[0 1 2 3 4 5 6 7 8 9]")
		want(t, "checkpoint", b.checkpoint(t, 0), "100")
		want(t, "trouble", conn.Status().Shards[0].Trouble, "writing dead letters: no such stream")
		b.dead.mu.Lock()
		b.dead.fail = nil
		b.dead.mu.Unlock()
		time.Sleep(time.Hour)
		want(t, "checkpoint", b.checkpoint(t, 0), "101")
		want(t, "trouble", conn.Status().Shards[0].Trouble, "")
		stop()
		want(t, "letters", len(b.dead.all), 1)
	})
}

// Without dead letters nothing is thrown away: the shard waits.
func TestNoDeadLetters(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(1)
		b.out.fail = func(*Batch) ([]Failure, error) {
			return []Failure{{Index: 0, Err: errors.New("malformed"), Permanent: true}}, nil
		}
		c := b.config()
		c.Dead = nil
		conn, stop := run(c)
		defer stop()
		b.stream.put("k", []byte("x"))
		time.Sleep(time.Hour)
		want(t, "checkpoint", b.checkpoint(t, 0), "TRIM_HORIZON")
		if s := conn.Status(); !strings.Contains(s.Shards[0].Trouble, "malformed") || s.Dead != 0 {
			t.Errorf("status: %+v", s)
		}
	})
}

// LATEST is when the connector was first there, also after a start before
// anything was emitted; later shards are read from their beginning.
func TestLatest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(1)
		b.stream.put("k", []byte("old"))
		time.Sleep(time.Second)
		c := b.config()
		c.Start = Position{Sequence: Latest}
		_, stop := run(c)
		time.Sleep(time.Minute)
		stop()
		b.stream.put("k", []byte("1"))
		b.stream.split(0)
		b.stream.put("k", []byte("2"))
		_, stop = run(c)
		time.Sleep(2 * time.Minute)
		stop()
		want(t, "emitted", b.out.data(), "[1 2]")
	})
}

// A shard that retention takes before it was read is counted, and does not
// hold up those made of it; its lease goes.
func TestLostShard(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b := newBench(1)
		c := b.config()
		conn, stop := run(c)
		defer stop()
		time.Sleep(time.Second)
		b.stream.mu.Lock()
		b.stream.broken = errors.New("away")
		b.stream.mu.Unlock()
		b.stream.put("k", []byte("lost"))
		b.stream.split(0)
		b.stream.put("k", []byte("kept"))
		b.stream.mu.Lock()
		b.stream.broken, b.stream.shards[0].trimmed = nil, true
		b.stream.mu.Unlock()
		time.Sleep(10 * time.Minute)
		want(t, "lost", conn.Status().Lost, 1)
		want(t, "emitted", b.out.data(), "[kept]")
		want(t, "its lease", b.checkpoint(t, 0), "none")
	})
}
