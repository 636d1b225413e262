package sessions

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/shadow/format"
)

// A table is a Memory that a test changes.
type table struct {
	sessions map[string]*Record
	retained map[string]*Retained
}

func (m *table) Session(id string) *Record       { return m.sessions[id] }
func (m *table) Retained(topic string) *Retained { return m.retained[topic] }
func (m *table) session(id string, expiry int) {
	m.sessions[id] = &Record{Expiry: time.Duration(expiry) * time.Second}
}
func (m *table) retain(topic string, payload string) {
	m.retained[topic] = &Retained{Payload: []byte(payload)}
}

// open runs a Store over a log in memory until the function that it returns is
// called.
func open(t *testing.T) (*Store, *table, func()) {
	log, err := pebble.Open("", pebble.Options{FS: vfs.NewMem(), MemTableSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	m := &table{make(map[string]*Record), make(map[string]*Retained)}
	st := New(log, m)
	ctx, cancel := context.WithCancel(context.Background())
	logCtx, end := context.WithCancel(context.Background())
	ran, ended := make(chan struct{}), make(chan error, 1)
	go func() { st.Run(ctx); close(ran) }()
	go func() { ended <- log.Run(logCtx) }()
	return st, m, func() {
		cancel()
		<-ran
		end()
		if err := errors.Join(<-ended, log.Close()); err != nil {
			t.Error(err)
		}
	}
}

func (st *Store) expiry(t *testing.T, id string) (seconds int) {
	t.Helper()
	b, err := st.log.Get(sessionKey(id))
	if err != nil {
		t.Fatal(err)
	}
	if b == nil {
		return -1
	}
	r, err := parseRecord(b)
	if err != nil {
		t.Fatal(err)
	}
	return int(r.Expiry / time.Second)
}

// Whatever waits for company, and in whatever order batches reach the log, a key
// holds what memory does.
func TestNewestStateIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, m, end := open(t)
		defer end()
		commit := func(b *streams.Batch) {
			if err := st.CommitWait(t.Context(), b, nil); err != nil {
				t.Fatal(err)
			}
		}
		m.session("s", 1)
		st.Session(st, "s") // waits
		m.session("s", 2)
		b := st.NewBatch()
		st.Session(b, "s")
		commit(b)
		time.Sleep(time.Second)
		if got := st.expiry(t, "s"); got != 2 {
			t.Errorf("expiry of %d s, want 2", got)
		}

		delete(m.sessions, "s") // it ends, and another begins
		st.Session(st, "s")
		m.session("s", 3)
		b = st.NewBatch()
		st.Session(b, "s")
		commit(b)
		time.Sleep(time.Second)
		if got := st.expiry(t, "s"); got != 3 {
			t.Errorf("expiry of %d s, want 3", got)
		}

		first, second := st.NewBatch(), st.NewBatch()
		m.retain("r", "first")
		st.Retained(first, "r", 10)
		m.retain("r", "second")
		st.Retained(second, "r", 10)
		commit(second)
		commit(first)
		v, err := st.log.Get(retainedKey("r"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := parseRetained("r", v); err != nil || string(got.Payload) != "second" {
			t.Errorf("%+v %v", got, err)
		}
		delete(m.sessions, "s")
		delete(m.retained, "r")
		st.Session(st, "s")
		st.Retained(st, "r", 0)
		time.Sleep(time.Second)
		if v, err := st.log.Get(retainedKey("r")); st.expiry(t, "s") != -1 || v != nil || err != nil {
			t.Errorf("left: %x %v", v, err)
		}
	})
}

// What was gathered is written before what is committed after it, and told of
// at once if somebody waits.
func TestGatheredComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, _, end := open(t)
		defer end()
		l := Life{"s", 1}
		l.Queue(st, 1, &Queued{QoS: 1, Topic: "t"})
		b := st.NewBatch()
		l.Unqueue(b, 1)
		if err := st.CommitWait(t.Context(), b, nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if v, err := st.log.Get(l.queueKey(1)); v != nil || err != nil {
			t.Errorf("%x %v", v, err)
		}
		began, done := time.Now(), make(chan time.Duration, 1)
		l.Accept(st, 1)
		st.After(func() { done <- time.Since(began) })
		if took := <-done; took != 0 {
			t.Errorf("it took %v", took)
		}
		// A commit goes on though nobody waits for it any more.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b = st.NewBatch()
		l.Release(b, 1)
		if err := st.CommitWait(ctx, b, nil); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if v, err := st.log.Get(l.acceptedKey(1)); v != nil || err != nil {
			t.Errorf("%x %v", v, err)
		}
	})
}

// A nobody takes nothing.
type nobody struct{ Loader }

// Sessions of a newer version are refused.
func TestNewerFormat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, _, end := open(t)
		defer end()
		if err := st.Load(nobody{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // it is gathered
		synctest.Wait()
		if v, err := st.log.Get([]byte(formatKey)); err != nil || !bytes.Equal(v, []byte{0, 0, 0, 1}) {
			t.Fatalf("the number is %x, %v", v, err)
		}
		st.Set([]byte(formatKey), []byte{0, 0, 0, 2})
		time.Sleep(time.Second)
		synctest.Wait()
		err := st.Load(nobody{})
		if !errors.Is(err, format.ErrNewer) || !strings.Contains(err.Error(), "format 2, this program knows up to 1") {
			t.Errorf("%v", err)
		}
	})
}
