// Package shadowtest runs the shadow vectors against anything that answers
// shadow requests: the service in process, or a broker over the wire.
package shadowtest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
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

// File returns the path of a vector file in $TIDEMILL_VECTORS, by default
// shared/conformance beside the project, and skips the test if there is none.
func File(t testing.TB, name string) string {
	dir := os.Getenv("TIDEMILL_VECTORS")
	if dir == "" {
		dir = filepath.Join(root(t), "..", "shared", "conformance")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no vectors: %v (set TIDEMILL_VECTORS to their folder)", err)
	}
	return path
}

// root returns the nearest folder above that has a go.mod.
func root(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test")
		}
		dir = up
	}
}

// Load reads shadow.jsonl.
func Load(t testing.TB) []Scenario {
	f, err := os.Open(File(t, "shadow.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []Scenario
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var s Scenario
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Fatalf("shadow.jsonl: %v", err)
		}
		out = append(out, s)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

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
