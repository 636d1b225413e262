// Package shadowtest runs the shadow vectors against anything that answers
// shadow requests: the service in process, or a broker over the wire.
package shadowtest

import (
	"encoding/base64"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/conformance"
)

// A Scenario is one line of shadow.jsonl: steps on shadows that do not exist
// when it begins.
type Scenario struct {
	ID, Category, Title, Basis string
	Thing                      string
	Steps                      []Step
}

// A Step is one request and what must come of it.
type Step struct {
	Op      string // update, get, delete or list
	Shadow  string
	Thing   string
	Request json.RawMessage
	Raw     *string
	RawB64  *string `json:"raw_b64"`
	Advance int     // seconds the clock moves first
	Expect  struct {
		Accepted, Rejected json.RawMessage
		Delta, Documents   json.RawMessage // absent: not checked; null: not published
	}
}

// A Message is what a System published.
type Message struct {
	Topic   string
	Payload []byte
}

// A System answers requests.
type System interface {
	// Request publishes payload for op ("update", "get", "delete") on a
	// shadow, waits for the answer and returns all messages published since
	// the last call.
	Request(thing, name, op string, payload []byte) ([]Message, error)
	// List returns the answer of ListNamedShadowsForThing.
	List(thing string) ([]byte, error)
	// Advance moves the System's clock.
	Advance(d time.Duration)
}

// Load reads shadow.jsonl.
func Load(t testing.TB) []Scenario { return conformance.All[Scenario](t, "shadow.jsonl") }

// OverREST returns the scenarios as they hold over REST: a get or delete has no
// body there, and so no client token, and an error tells none.
func OverREST(t testing.TB, all []Scenario) []Scenario {
	without := func(doc json.RawMessage) json.RawMessage {
		var m map[string]json.RawMessage
		if doc == nil || json.Unmarshal(expand(doc), &m) != nil {
			return doc
		}
		delete(m, "clientToken")
		out, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var out []Scenario
	for _, sc := range all {
		steps := sc.Steps
		sc.Steps = nil
		for _, s := range steps {
			s.Expect.Rejected = without(s.Expect.Rejected)
			if s.Op == "get" || s.Op == "delete" {
				var e struct{ Code int }
				if s.Expect.Rejected != nil && json.Unmarshal(s.Expect.Rejected, &e) == nil && e.Code == 400 {
					continue // of the body
				}
				s.Request, s.Raw, s.RawB64, s.Expect.Accepted = nil, nil, nil, without(s.Expect.Accepted)
			}
			sc.Steps = append(sc.Steps, s)
		}
		if len(sc.Steps) > 0 {
			out = append(out, sc)
		}
	}
	return out
}

var repeat = regexp.MustCompile(`<repeat:(.+?)\*([0-9]+)>`)

// expand writes out <repeat:c*n>.
func expand(text []byte) []byte {
	return repeat.ReplaceAllFunc(text, func(m []byte) []byte {
		p := repeat.FindSubmatch(m)
		n, _ := strconv.Atoi(string(p[2]))
		unit := string(p[1])
		if s, err := strconv.Unquote(`"` + unit + `"`); err == nil { // \u00e9 in JSON
			unit = s
		}
		return []byte(strings.Repeat(unit, n))
	})
}

// payload returns the bytes to send.
func (s *Step) payload(t testing.TB) []byte {
	switch {
	case s.Raw != nil:
		return expand([]byte(*s.Raw))
	case s.RawB64 != nil:
		b, err := base64.StdEncoding.DecodeString(*s.RawB64)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return expand(s.Request)
}
