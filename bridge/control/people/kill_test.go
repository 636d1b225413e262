package people

import (
	"bufio"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
)

// openSynced is openAt as the bridge opens a registry.
func openSynced(t testing.TB, path string) (*Directory, *registry.Registry) {
	t.Helper()
	e, err := bolt.Open(path, bolt.Options{})
	ok(t, err)
	r, err := registry.New(e, time.Now)
	ok(t, err)
	d, err := Open(r, slog.New(slog.DiscardHandler))
	ok(t, err)
	return d, r
}

const killedAt = "TIDEMILL_PEOPLE_KILLED_AT"

// TestHelperCreates makes users and keys in the registry that the environment names,
// and says each one when it is there, until it is killed.
func TestHelperCreates(t *testing.T) {
	path := os.Getenv(killedAt)
	if path == "" {
		t.Skip("a part of TestKilled")
	}
	d, _ := openSynced(t, path)
	users, err := d.Users()
	ok(t, err)
	for i := len(users); ; i++ {
		name := fmt.Sprint("u", i)
		ok(t, d.CreateUser(t.Context(), name, []string{Viewer}, nil))
		id, secret, err := d.CreateKey(t.Context(), name, nil)
		ok(t, err)
		fmt.Println("key", name, id, secret)
		_, id, secret, err = d.RotateKey(t.Context(), id, time.Hour)
		ok(t, err)
		fmt.Println("key", name, id, secret)
	}
}

// Whatever instant the bridge is killed at, a key that was answered is there, and
// one that was not is there as a whole or not at all.
func TestKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	answered := map[string]string{} // secret of a key
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperCreates$")
		cmd.Env = append(os.Environ(), killedAt+"="+path)
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for n, last := 0, 1+rnd.IntN(20); n < last && lines.Scan(); n++ {
			note(answered, lines.Text())
		}
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Microsecond) // into the next change
		ok(t, cmd.Process.Kill())
		for lines.Scan() { // what was answered before
			note(answered, lines.Text())
		}
		_ = cmd.Wait() // killed
		d, r := openSynced(t, path)
		for id, secret := range answered {
			if k := d.Key(id); k == nil || k.Secret != secret {
				t.Errorf("seed %d, round %d: key %s was answered and is %+v", seed, round, id, k)
			}
		}
		users, err := d.Users()
		ok(t, err)
		n := 0
		for _, u := range users {
			for _, k := range u.Keys {
				n++
				if x := d.Key(k.ID); x == nil || len(x.Secret) != 40 || x.Rights.User() != u.Name || k.User != u.Name {
					t.Errorf("seed %d, round %d: half a key %+v", seed, round, k)
				}
			}
		}
		keys, err := d.Keys("")
		ok(t, err)
		if len(keys) != n || n < len(answered) {
			t.Errorf("seed %d, round %d: %d keys, %d of users, %d answered", seed, round, len(keys), n, len(answered))
		}
		ok(t, d.Close(), r.Close())
	}
	if len(answered) == 0 {
		t.Error("nothing was answered")
	}
}

// note takes a line of TestHelperCreates.
func note(answered map[string]string, line string) {
	if f := strings.Fields(line); len(f) == 4 && f[0] == "key" {
		answered[f[2]] = f[3]
	}
}
