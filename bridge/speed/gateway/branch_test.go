package gateway

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Messages come and go, and filters find those that topic.Match does.
func TestRetainedMatch(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	deep := strings.Repeat("d/", deepest)
	path := func(levels ...string) string {
		p := make([]string, 1+r.IntN(4))
		for i := range p {
			p[i] = levels[r.IntN(len(levels))]
		}
		s := strings.Join(p, "/")
		if r.IntN(8) == 0 {
			s = deep[2*r.IntN(4):] + s // about as deep as branches go
		}
		return s
	}
	kept := newRetained(usage{1000, 1 << 20}, usage{})
	model := make(map[string]bool)
	for i := range 20000 {
		name := path("a", "b", "c", "")
		if name == "" {
			continue
		}
		payload := []byte("x")
		if r.IntN(2) == 0 {
			payload = nil
		}
		kept.set(&message.Message{Topic: name, Payload: payload}, time.Now())
		delete(model, name)
		if payload != nil {
			model[name] = true
		}
		filter := path("a", "b", "+", "+", "")
		if r.IntN(3) == 0 {
			filter += "/#"
		}
		if i%100 == 0 {
			filter = "#"
		}
		if topic.ValidFilter(filter) != nil {
			continue
		}
		var got, want []string
		kept.match(filter, func(m *message.Message) bool { got = append(got, m.Topic); return true })
		for name := range model {
			if topic.Match(filter, name) {
				want = append(want, name)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %q matches %q, want %q", seed, filter, got, want)
		}
	}
	for name := range model {
		kept.set(&message.Message{Topic: name}, time.Now())
	}
	if n, bytes := kept.Count(); n != 0 || bytes != 0 || kept.tree.only != nil || len(kept.tree.more) != 0 {
		t.Errorf("%d messages, %d bytes, %+v are left", n, bytes, kept.tree)
	}
	n := 0
	for i := range 100 {
		kept.set(&message.Message{Topic: fmt.Sprint("s/", i), Payload: []byte("x")}, time.Now())
	}
	kept.match("s/+", func(*message.Message) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("%d messages after a stop at the third", n)
	}
}

// BenchmarkRetainedMatch measures what a SUBSCRIBE of one device looks through,
// beside 100,000 retained messages of others.
func BenchmarkRetainedMatch(b *testing.B) {
	r := newRetained(usage{200000, 1 << 30}, usage{})
	for i := range 100000 {
		r.set(&message.Message{Topic: fmt.Sprintf("dev/%d/state", i), Payload: []byte("x")}, time.Now())
	}
	for _, filter := range []string{"dev/5/#", "dev/5/state", "cmd/+", "+/5/+", "+/+/x"} {
		b.Run(strings.ReplaceAll(filter, "/", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.match(filter, func(*message.Message) bool { return true })
			}
		})
	}
}
