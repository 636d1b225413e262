package lambda

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
	"github.com/tidemill/tidemill/deploy/await"
)

// given are keys of a test's functions.
type given struct {
	mu      sync.Mutex
	granted bool
	life    time.Duration // 0: as asked
	made    int
	ended   []string
}

func (g *given) Granted(*Function) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.granted
}

func (g *given) Give(_ *Function, life time.Duration) (Key, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.granted {
		return Key{}, false
	}
	if g.life != 0 {
		life = g.life
	}
	g.made++
	id := fmt.Sprint("ASIA", g.made)
	return Key{id, "secret-" + id, "token-" + id, time.Now().Add(life)}, true
}

func (g *given) End(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = append(g.ended, id)
}

// asks is a function that asks the endpoint of its environment.
const asks = `
import os, urllib.request
def handler(event, context):
    keys = [os.environ.get(n) for n in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")]
    url = os.environ.get("AWS_ENDPOINT_URL")
    answer = url and urllib.request.urlopen(urllib.request.Request(url + "/ask", headers={"X-Key": keys[0]})).read().decode()
    return {"keys": keys, "answer": answer}
`

// A process has a key of its function's role and an endpoint if the role has rights; one
// whose key will not hold, or whose role has got rights or lost them, is replaced; and a
// key ends with its process.
func TestFunctionsHaveKeys(t *testing.T) {
	need(t, "python3")
	for name, box := range map[string]sandbox.Options{"isolated": {}, "plain": {Plain: true, NoCgroup: true}} {
		t.Run(name, func(t *testing.T) {
			keys := &given{}
			api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, r.URL.Path, " by ", r.Header.Get("X-Key"))
			})
			m, all := newManager(t, box, Options{Keys: keys, API: api})
			all.put(t, Function{Name: "f", Runtime: "python3.11", Handler: "app.handler", Reserved: -1},
				map[string]string{"app.py": asks})
			call := func(want string) {
				t.Helper()
				r := invoke(t, m, "f", "{}")
				var got struct {
					Keys   []*string
					Answer *string
				}
				if err := json.Unmarshal(r.Payload, &got); err != nil || r.Failed != "" || len(got.Keys) != 3 {
					t.Fatalf("%v: %s\n%s", err, r.Payload, r.Log)
				}
				said := ""
				if got.Answer != nil {
					said = *got.Answer + " " + *got.Keys[1] + " " + *got.Keys[2]
				} else if got.Keys[0] != nil || got.Keys[2] != nil {
					t.Errorf("keys without an endpoint: %s", r.Payload)
				}
				if said != want {
					t.Errorf("said %q, want %q", said, want)
				}
			}
			set := func(granted bool, life time.Duration) {
				keys.mu.Lock()
				keys.granted, keys.life = granted, life
				keys.mu.Unlock()
			}
			call("")
			set(true, 0)
			call("/ask by ASIA1 secret-ASIA1 token-ASIA1")
			call("/ask by ASIA1 secret-ASIA1 token-ASIA1") // the same process
			set(false, 0)
			call("")
			set(true, 15*time.Second) // less than a call may take
			call("/ask by ASIA2 secret-ASIA2 token-ASIA2")
			call("/ask by ASIA3 secret-ASIA3 token-ASIA3")
			m.End("f")
			await.True(t, "all keys have ended", func() bool {
				keys.mu.Lock()
				defer keys.mu.Unlock()
				return len(keys.ended) == 3 && strings.Contains(strings.Join(keys.ended, " "), "ASIA3")
			})
		})
	}
}
