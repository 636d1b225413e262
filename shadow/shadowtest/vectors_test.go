package shadowtest

import (
	"context"
	"encoding/json"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/shadow/boltstore"
	"github.com/tidemill/tidemill/shadow/service"
)

// inProcess is the service over a bbolt file.
type inProcess struct {
	s *service.Service

	mu    sync.Mutex
	now   time.Time
	since []Message
}

func (p *inProcess) Publish(topic string, payload []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = append(p.since, Message{topic, payload})
}

func (p *inProcess) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func (p *inProcess) Advance(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

func (p *inProcess) Request(thing, name, op string, payload []byte) ([]Message, error) {
	topic := "$aws/things/" + thing + "/shadow/"
	if name != "" {
		topic += "name/" + name + "/"
	}
	done := make(chan error, 1)
	p.s.Handle(context.Background(), topic+op, payload, func(err error) { done <- err })
	if err := <-done; err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.since
	p.since = nil
	return got, nil
}

func (p *inProcess) List(thing string) ([]byte, error) {
	names, _, err := p.s.List(thing, "", 0)
	if err != nil {
		return nil, err
	}
	if names == nil {
		names = []string{}
	}
	return json.Marshal(map[string]any{"results": names, "timestamp": p.clock().Unix()})
}

func TestVectorsInProcess(t *testing.T) {
	Run(t, Load(t), func(t *testing.T) System {
		store, err := boltstore.Open(filepath.Join(t.TempDir(), "shadow.db"), boltstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		p := &inProcess{now: time.Unix(1_700_000_000, 0)}
		p.s = service.New(store, p, service.Options{Now: p.clock})
		t.Cleanup(func() {
			p.s.Close()
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		return p
	})
}

// The matcher must be able to fail.
func TestMatcherFinds(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{`{"a":1}`, `{"a":1.0}`, true},
		{`{"a":1}`, `{"a":2}`, false},
		{`{"a":1}`, `{"a":"1"}`, false},
		{`{"a":1}`, `{"a":1,"b":2}`, false},
		{`{"a":1,"b":2}`, `{"a":1}`, false},
		{`{"a?":1}`, `{}`, true},
		{`{"a?":1}`, `{"a":2}`, false},
		{`{"a":"<ts>"}`, `{"a":5}`, true},
		{`{"a":"<ts>"}`, `{"a":"5"}`, false},
		{`{"a":"<gt:4>"}`, `{"a":5}`, true},
		{`{"a":"<gt:5>"}`, `{"a":5}`, false},
		{`{"a":"<prefix:No>"}`, `{"a":"Now"}`, true},
		{`{"a":"<prefix:No>"}`, `{"a":"now"}`, false},
		{`{"a":"<any>"}`, `{"a":null}`, true},
		{`{"a":"<any>"}`, `{}`, false},
		{`{"a":"<repeat:x*3>"}`, `{"a":"xxx"}`, true},
		{`{"a":"<ts@0>","timestamp":7}`, `{"a":7,"timestamp":7}`, true},
		{`{"a":"<ts@0>","timestamp":7}`, `{"a":8,"timestamp":7}`, false},
		{`{"a":[1,2]}`, `{"a":[1]}`, false},
		{`{"a":null}`, `{"a":false}`, false},
	} {
		m := &matcher{times: make([]*big.Int, 1)}
		if err := m.document("x", []byte(c.want), []byte(c.got), true); (err == nil) != c.ok {
			t.Errorf("%s on %s: %v", c.want, c.got, err)
		}
	}
}
