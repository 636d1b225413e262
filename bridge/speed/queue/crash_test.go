package queue

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the random tests; 0: a new one")

// Whatever was sent and answered comes until it is deleted and that is answered, and
// then never again; in FIFO queues in the order of each group and without duplicates,
// wherever the power goes.
func TestCrash(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (-seed)", seed)
	for _, name := range []string{"work", "work.fifo"} {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(len(name))))
			m := &model{t: t, r: r, name: name, fs: vfs.NewCrashableMem(), state: map[string]state{}}
			for range 12 {
				m.run()
			}
			m.drain()
		})
	}
}

// A state of a message, as the model has it. What was asked and not answered may
// be so or not.
type state int

const (
	sending state = iota + 1
	there
	deleting
	gone
)

type model struct {
	t     *testing.T
	r     *rand.Rand
	name  string
	fs    *vfs.MemFS
	n     int
	state map[string]state // by body
	held  map[string]held  // of FIFO: by body
}

// A held message was received and keeps back those behind it in its group.
type held struct {
	group string
	until time.Time
}

// run works on the queue for a while and cuts the power, with calls under way.
func (m *model) run() {
	s := start(m.t, m.fs)
	q := m.queue(s)
	m.held = map[string]held{}
	for range 30 + m.r.IntN(30) {
		switch m.r.IntN(3) {
		case 0:
			m.send(q)
		case 1:
			m.receive(q, 1+m.r.IntN(5))
		default:
			time.Sleep(time.Duration(m.r.IntN(20)) * time.Second)
		}
	}
	// The power goes in the middle of calls whose answers nobody hears.
	half := make(chan struct{})
	go func() {
		defer close(half)
		for i := range 5 {
			body := fmt.Sprintf("%d-%d/lost", m.n, i)
			m.state[body] = sending
			q.Send(m.t.Context(), []*Message{m.message(body)})
		}
	}()
	cut := m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: m.r.IntN(101), RNG: m.r})
	<-half
	s.stop()
	m.fs = cut
}

// queue is the one that the model works on. What is received too often goes to
// another.
func (m *model) queue(s *site) *Queue {
	s.queue(m.t, "dead-"+m.name, nil)
	return s.queue(m.t, m.name, func(c *Config) { c.DeadLetter, c.MaxReceives = "dead-"+m.name, 2 })
}

func (m *model) message(body string) *Message {
	msg := &Message{Body: body}
	if FIFO(m.name) {
		group, _, _ := strings.Cut(body, "-")
		msg.Group, msg.DedupID = "g"+group[len(group)-1:], body
	}
	return msg
}

func (m *model) send(q *Queue) {
	var ms []*Message
	for range 1 + m.r.IntN(3) {
		m.n++
		body := fmt.Sprintf("%d-", m.n)
		m.state[body] = sending
		ms = append(ms, m.message(body))
		if FIFO(m.name) && m.r.IntN(4) == 0 {
			ms = append(ms, m.message(body)) // a duplicate
		}
	}
	for i, err := range q.Send(m.t.Context(), ms) {
		if err != nil {
			m.t.Fatal(err)
		}
		m.state[ms[i].Body] = there
	}
}

// receive takes messages and deletes some.
func (m *model) receive(q *Queue, n int) int {
	got, err := q.Receive(m.t.Context(), n, 10*time.Second, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	for body, h := range m.held {
		for _, r := range got {
			if h.until.After(time.Now()) && r.Group == h.group {
				m.t.Fatalf("received %q while %q is hidden", r.Body, body)
			}
		}
	}
	seen, last := map[string]bool{}, map[string]uint64{}
	for _, r := range got {
		if s := m.state[r.Body]; s == 0 || s == gone || seen[r.Body] {
			m.t.Fatalf("received %q, which is %v; twice %v", r.Body, s, seen[r.Body])
		}
		if before, ok := last[r.Group]; ok && r.Group != "" && r.Sequence <= before {
			m.t.Fatalf("%q comes before what was sent earlier", r.Body)
		}
		seen[r.Body], last[r.Group] = true, r.Sequence
		if m.r.IntN(3) == 0 {
			m.state[r.Body] = deleting
			if errs := q.Delete(m.t.Context(), []string{r.Receipt}); errs[0] != nil {
				m.t.Fatal(errs[0])
			}
			m.state[r.Body] = gone
			delete(m.held, r.Body)
		} else if r.Group != "" {
			m.held[r.Body] = held{r.Group, time.Now().Add(10 * time.Second)}
		}
	}
	return len(got)
}

// drain takes what is left and compares.
func (m *model) drain() {
	s := start(m.t, m.fs)
	defer s.stop()
	m.empty(m.queue(s))
	dead, err := s.Get("dead-" + m.name)
	if err != nil {
		m.t.Fatal(err)
	}
	m.empty(dead)
	for body, s := range m.state {
		if s == there {
			m.t.Errorf("%q was sent, and is not there", body)
		}
	}
}

// empty takes all messages of a queue.
func (m *model) empty(q *Queue) {
	for {
		c, err := q.Counts()
		if err != nil {
			m.t.Fatal(err)
		}
		if c == (Counts{}) {
			return
		}
		got, err := q.Receive(m.t.Context(), MaxReceive, time.Hour, time.Second)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, r := range got {
			if s := m.state[r.Body]; s == 0 || s == gone {
				m.t.Fatalf("received %q, which is %v", r.Body, s)
			}
			m.state[r.Body] = gone
			if errs := q.Delete(m.t.Context(), []string{r.Receipt}); errs[0] != nil {
				m.t.Fatal(errs[0])
			}
		}
	}
}
