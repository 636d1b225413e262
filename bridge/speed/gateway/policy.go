package gateway

import (
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// BatchTopic is where agents publish their batches; nobody can subscribe to it.
const BatchTopic = "$tidemill/batch"

// RefusedTopic is where a client hears which readings of its batches policy
// refused; nobody can publish to it. Whoever may send batches may subscribe to it
// and receive from it, since what is there is the answer to its own (Server.Answer),
// as the reason code of a PUBACK is in MQTT 5.
const RefusedTopic = "$tidemill/batch/refused"

const (
	rulesPrefix        = "$aws/rules/"
	thingsPrefix       = "$aws/things/"
	certificatesPrefix = "$tidemill/certificates/"
)

// reservedName says whether nobody may publish to t, whatever policy says.
// Below $ clients have the topics of things, those of rules, the batches and the
// requests of provisioning; the rest of AWS's are for the service to publish
// ($aws/events/..) or have no service here that would listen. None of them is
// retained.
func reservedName(t string, retain bool) bool {
	return strings.HasPrefix(t, "$") &&
		(retain || !strings.HasPrefix(t, thingsPrefix) && !strings.HasPrefix(t, rulesPrefix) && t != BatchTopic && !IsPrivate(t))
}

// IsPrivate says whether t is the topic of a request that concerns the asking
// client and the bridge alone, since it or its answer (see Server.Answer) holds
// keys and tokens: those of AWS IoT's device provisioning MQTT API, in JSON or
// CBOR, and ours of $tidemill/certificates/{id}/retire. The topics of the answers
// are no requests, and no client may publish to them.
func IsPrivate(t string) bool {
	if !strings.HasPrefix(t, "$") {
		return false
	}
	rest, ok := strings.CutSuffix(t, "/json")
	if !ok {
		rest, ok = strings.CutSuffix(t, "/cbor")
	}
	switch {
	case !ok:
		return false
	case rest == "$aws/certificates/create", rest == "$aws/certificates/create-from-csr":
		return true
	}
	name, ok := strings.CutPrefix(rest, "$aws/provisioning-templates/")
	end := "/provision"
	if !ok {
		name, ok = strings.CutPrefix(rest, certificatesPrefix)
		end = "/retire"
	}
	name, ended := strings.CutSuffix(name, end)
	return ok && ended && name != "" && !strings.Contains(name, "/")
}

// reservedFilter says whether nobody may subscribe to f: below $ there are only
// AWS's topics, of which those of rules are for publishing alone, and the answers
// about a client's certificates.
func reservedFilter(f string) bool {
	if !strings.HasPrefix(f, "$") || strings.HasPrefix(f, certificatesPrefix) || f == RefusedTopic {
		return false
	}
	rest, ok := strings.CutPrefix(f, "$aws/")
	if !ok {
		return true
	}
	second, _, _ := strings.Cut(rest, "/")
	switch second {
	case "things", "events", "certificates", "provisioning-templates", "+", "#":
		return false
	}
	return true
}

// withinLimits checks the configured size of a name or filter, without the
// prefix $aws/rules/{rule}/.
func (c *Config) withinLimits(t string) bool {
	if rest, ok := strings.CutPrefix(t, rulesPrefix); ok {
		if _, after, ok := strings.Cut(rest, "/"); ok {
			t = after
		}
	}
	return (c.MaxTopic == 0 || len(t) <= c.MaxTopic) && (c.MaxSlashes == 0 || topic.Levels(t)-1 <= c.MaxSlashes)
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
	ok    [2]bool      // by retain
	until [2]time.Time // by retain
}

// lookup returns what is known of the topic, or nil if it cannot be published to
// by anybody.
func (t *topics) lookup(conf *Config, b []byte) *published {
	if p := t.m[string(b)]; p != nil {
		return p
	}
	name := string(b)
	if topic.ValidName(name) != nil || !conf.withinLimits(name) {
		return nil
	}
	p := &published{name: name}
	if len(name) <= maxVerdictTopic {
		if t.m == nil || len(t.m) >= maxVerdicts {
			t.m = make(map[string]*published)
		}
		t.m[name] = p
	}
	return p
}

// mayPublish asks policy, or remembers its answer.
func (p *published) mayPublish(s Session, retain bool, now time.Time, ttl time.Duration) bool {
	i := 0
	if retain {
		i = 1
	}
	if !now.Before(p.until[i]) {
		p.ok[i] = !reservedName(p.name, retain) && s.MayPublish(p.name, retain)
		p.until[i] = now.Add(ttl) // not after now when the cache is off
	}
	return p.ok[i]
}
