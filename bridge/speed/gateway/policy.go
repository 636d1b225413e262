package gateway

import (
	"time"

	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// unasked says whether t is the topic of answers that a client may hear without a
// policy that says so.
func unasked(t string) bool {
	r, _ := topic.Lookup(t)
	return r.Unasked
}

// verdicts remembers answers of a Session by topic. Its size is bounded: topics
// are foreign input.
type verdicts struct {
	m map[string]verdict
}

type verdict struct {
	ok    bool
	until time.Time
}

const (
	maxVerdicts     = 256
	maxVerdictTopic = 256 // bytes; longer ones are asked for each time
)

func (v *verdicts) get(t string, now time.Time) (ok, known bool) {
	e, known := v.m[t]
	if !known || !now.Before(e.until) {
		return false, false
	}
	return e.ok, true
}

func (v *verdicts) put(t string, ok bool, until time.Time) {
	if len(t) > maxVerdictTopic {
		return
	}
	if v.m == nil || len(v.m) >= maxVerdicts {
		v.m = make(map[string]verdict)
	}
	v.m[t] = verdict{ok, until}
}

// topics remembers the names that a client publishes to, so that a name is
// checked, and its string made, once.
type topics struct {
	m map[string]*published
}

type published struct {
	name  string
	right string       // the name that policy is asked for
	ok    [2]bool      // by retain
	until [2]time.Time // by retain
}

// lookup returns what is known of the topic, or why nobody may publish to it.
func (t *topics) lookup(conf *Config, b []byte) (*published, error) {
	if p := t.m[string(b)]; p != nil {
		return p, nil
	}
	name := string(b)
	if err := conf.validName(name); err != nil {
		return nil, err
	}
	p := &published{name: name, right: name}
	if of, _ := topic.Lookup(name); of.RightOf != "" {
		p.right = of.RightOf
	}
	if len(name) <= maxVerdictTopic {
		if t.m == nil || len(t.m) >= maxVerdicts {
			t.m = make(map[string]*published)
		}
		t.m[name] = p
	}
	return p, nil
}

// unfit says why no client may publish to the topic, nil if one may.
func (p *published) unfit(retain bool) error {
	return topic.CheckPublish(p.name, topic.ByPublish, retain)
}

// mayPublish asks policy, or remembers its answer.
func (p *published) mayPublish(s Session, retain bool, now time.Time, ttl time.Duration) bool {
	i := 0
	if retain {
		i = 1
	}
	if !now.Before(p.until[i]) {
		p.ok[i] = p.unfit(retain) == nil && s.MayPublish(p.right, retain)
		p.until[i] = now.Add(ttl) // not after now when the cache is off
	}
	return p.ok[i]
}
