package provision

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// errKilled is what a run ends with that was killed at a step.
var errKilled = errors.New("killed")

// killed runs f, and ends it at the n-th step, from 1; 0 lets it run.
func killed(o Options, n int, f func(Options) error) (err error) {
	steps := 0
	o.Step = func(string) {
		if steps++; steps == n {
			panic(errKilled)
		}
	}
	defer func() {
		if p := recover(); p == errKilled {
			err = errKilled
		} else if p != nil {
			panic(p)
		}
	}()
	return f(o)
}

func provide(t *testing.T) func(Options) error {
	return func(o Options) error { _, _, err := Provision(t.Context(), o); return err }
}

func rotate(t *testing.T, age time.Duration) func(Options) error {
	return func(o Options) error { _, _, err := Rotate(t.Context(), o, age); return err }
}

// whole fails the test if the device and the bridge are not of one mind, or
// something is left of what was not taken up.
func (b *bridge) whole(o Options) *Identity {
	b.t.Helper()
	id, err := Current(o.Dir)
	if err != nil {
		b.t.Fatal(err)
	}
	if active := b.active("pump-7"); id.Thing != "pump-7" || !slices.Equal(active, []string{id.Certificate}) ||
		len(id.Retire) > 0 {
		b.t.Fatalf("the device has %+v, and the bridge %v", id, active)
	}
	var names []string
	all, _ := os.ReadDir(o.Dir)
	for _, e := range all {
		names = append(names, e.Name())
	}
	if want := []string{"identities", "identity", "provision.lock"}; !slices.Equal(names, want) {
		b.t.Fatalf("in the data directory is %v, want %v", names, want)
	}
	if all, _ = os.ReadDir(filepath.Join(o.Dir, identities)); len(all) != 1 {
		b.t.Fatalf("identities are %v", all)
	}
	return id
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestProvision(t *testing.T) {
	b := newBridge(t)
	o := b.options()
	if _, err := Current(o.Dir); !errors.Is(err, ErrNotProvisioned) {
		t.Fatal(err)
	}
	if _, _, err := Rotate(t.Context(), o, 0); !errors.Is(err, ErrNotProvisioned) {
		t.Fatal(err)
	}
	id, made, err := Provision(t.Context(), o)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	var doc map[string]string
	if err := json.Unmarshal(id.Configuration, &doc); err != nil || doc["from"] != "fleet" || id.Template != "fleet" {
		t.Errorf("%+v, %v", id, err)
	}
	b.whole(o)
	if want := []string{"claim-7", "pump-7"}; !slices.Equal(b.connects, want) {
		t.Errorf("connections of %v, want %v", b.connects, want)
	}
	for path, mode := range map[string]os.FileMode{"": 0o700, "identity/": 0o700, "identity/key.pem": 0o600,
		"identity/cert.pem": 0o600} {
		if info, err := os.Stat(filepath.Join(o.Dir, path)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}

	// Once it is there, nothing is asked.
	b.set(func() { b.lost = true })
	again, made, err := Provision(t.Context(), o)
	if err != nil || made || again.Certificate != id.Certificate {
		t.Errorf("%+v, %v, %v", again, made, err)
	}
}

// Killed at each step in turn, from the first to the last, in one device and in
// many, there is one identity.
func TestSteps(t *testing.T) {
	b := newBridge(t)
	o := b.options()
	n := 1
	for ; ; n++ {
		o := b.options()
		if err := killed(o, n, provide(t)); err == nil {
			break
		} else if !errors.Is(err, errKilled) {
			t.Fatal(n, err)
		}
		if err := killed(o, 0, provide(t)); err != nil {
			t.Fatal(n, err)
		}
		id, err := Current(o.Dir)
		if err != nil || !slices.Contains(b.active("pump-7"), id.Certificate) {
			t.Fatalf("%+v, %v", id, err)
		}
		b.set(func() { b.status[id.Certificate] = "INACTIVE" }) // the next device of this name
	}
	for id := range b.thing {
		b.status[id] = "INACTIVE"
	}
	for i := 1; ; i++ { // of three steps one is durable
		err := killed(o, 3, provide(t))
		if err == nil {
			break
		}
		if i > n || !errors.Is(err, errKilled) {
			t.Fatal(i, err)
		}
	}
	before := b.whole(o)
	for n := 1; ; n++ {
		err := killed(o, n, rotate(t, 0))
		if err != nil && !errors.Is(err, errKilled) {
			t.Fatal(n, err)
		}
		if err := killed(o, 0, rotate(t, time.Hour)); err != nil {
			t.Fatal(n, err)
		}
		if _, err := Current(o.Dir); err != nil {
			t.Fatal(err)
		}
		if err == nil {
			break
		}
	}
	if err := killed(o, 0, rotate(t, 0)); err != nil {
		t.Fatal(err)
	}
	if b.whole(o).Certificate == before.Certificate {
		t.Error("the certificate is the first")
	}
}

// Whatever is lost, killed and forgotten on the way, it ends with one identity.
func TestRandom(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			b := newBridge(t)
			o := b.options()
			faulty := true
			b.fault = func(string) string {
				switch n := r.IntN(10); {
				case !faulty || n > 3:
					return ""
				case n > 1:
					return "after"
				case n > 0:
					return "before"
				default:
					return `!{"statusCode":503,"errorCode":"ServiceUnavailable"}`
				}
			}
			roll := func(n int) int {
				b.mu.Lock()
				defer b.mu.Unlock()
				return r.IntN(n)
			}
			for _, f := range []func(Options) error{provide(t), rotate(t, 0), rotate(t, 0)} {
				for range roll(8) {
					_ = killed(o, roll(8), f)
					if roll(4) == 0 {
						b.forget()
					}
				}
				b.set(func() { faulty = false })
				if err := killed(o, 0, f); err != nil {
					t.Fatal(err)
				}
				b.whole(o)
				b.set(func() { faulty = true })
			}
			b.wg.Wait()
		})
	}
}

// A kill while the folder of a rotation is being deleted leaves no key for the
// next.
func TestNewKey(t *testing.T) {
	b := newBridge(t)
	o := b.options()
	if err := provide(t)(o); err != nil {
		t.Fatal(err)
	}
	_, path := Paths(o.Dir)
	keys := map[string]bool{read(t, path): true}
	for range 3 {
		dir := filepath.Join(o.Dir, rotation+oldEnd)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, keyFile), []byte(read(t, path)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := rotate(t, 0)(o); err != nil {
			t.Fatal(err)
		}
		b.whole(o)
		keys[read(t, path)] = true
	}
	if len(keys) != 4 {
		t.Errorf("%d keys, want 4", len(keys))
	}
}

func TestAge(t *testing.T) {
	b := newBridge(t)
	o := b.options()
	if err := provide(t)(o); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		created time.Duration // ago
		age     time.Duration
		made    bool
	}{{time.Hour, 2 * time.Hour, false}, {3 * time.Hour, 2 * time.Hour, true}, {-time.Minute, time.Hour, false},
		{-100 * time.Hour, time.Hour, true}} {
		id := b.whole(o)
		id.Created = time.Now().Add(-c.created)
		if err := writeJSON(filepath.Join(o.Dir, link, identityFile), id); err != nil {
			t.Fatal(err)
		}
		if _, made, err := Rotate(t.Context(), o, c.age); err != nil || made != c.made {
			t.Errorf("made %v ago, with %v: %v, %v", c.created, c.age, made, err)
		}
	}
}

// A certificate near its end is renewed however young it is to be.
func TestNearEnd(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{NotBefore: start, NotAfter: start.Add(48 * time.Hour)}
	read := func() (tls.Certificate, error) { return tls.Certificate{Leaf: leaf}, nil }
	for after, want := range map[time.Duration]bool{0: false, 31 * time.Hour: false, 33 * time.Hour: true,
		50 * time.Hour: true} {
		if got := nearEnd(read, start.Add(after)); got != want {
			t.Errorf("%v of 48 h: %v, want %v", after, got, want)
		}
	}
	unread := func() (tls.Certificate, error) { return tls.Certificate{}, errors.New("torn") }
	if nearEnd(unread, start) {
		t.Error("what cannot be read is near its end")
	}
}

// What is not an answer is an error, and the next try does without it.
func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct{ topic, answer, want string }{
		"not JSON":       {"create-from-csr", "certificate", "invalid character"},
		"no certificate": {"create-from-csr", "{}", "no id of a certificate"},
		"an id that is a path": {"create-from-csr",
			`{"certificateId":"../../../etc/x","certificateOwnershipToken":"t"}`, "no id of a certificate"},
		"no token": {"create-from-csr", `{"certificateId":"` + strings.Repeat("ab", 32) + `"}`,
			"no token"},
		"no PEM": {"create-from-csr", `{"certificateId":"` + strings.Repeat("ab", 32) +
			`","certificateOwnershipToken":"t"}`, "not for this device's key"},
		"refused": {"create-from-csr",
			`!{"statusCode":429,"errorCode":"TooManyRequests","errorMessage":"later"}`,
			"refused: 429 TooManyRequests: later"},
		"refused without words":        {"create-from-csr", `!no`, "invalid character"},
		"no thing":                     {"provision", "{}", "makes no thing"},
		"a thing that cannot be one":   {"provision", `{"thingName":"a/b"}`, `"a/b"`},
		"provisioning denied":          {"provision", `!{"statusCode":403,"errorCode":"AccessDenied"}`, "AccessDenied"},
		"connection lost":              {"provision", "before", "connection"},
		"connection lost after it was": {"provision", "after", "connection"},
		"no answer": {"provision", "silent",
			"no answer on $aws/provisioning-templates/fleet/provision/json"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBridge(t)
				o := b.options()
				b.set(func() {
					b.fault = func(topic string) string {
						if strings.Contains(topic, c.topic) {
							return c.answer
						}
						return ""
					}
				})
				if err := provide(t)(o); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
				if _, err := Current(o.Dir); !errors.Is(err, ErrNotProvisioned) {
					t.Error(err)
				}
				synctest.Wait()
				b.set(func() { b.fault = nil })
				if err := provide(t)(o); err != nil {
					t.Fatal(err)
				}
				b.whole(o)
				b.wg.Wait()
			})
		})
	}
}

// A broker that answers a SUBSCRIBE with more or fewer codes than it has filters
// provisions nothing, and does not crash the device.
func TestCodesOfSubscriptions(t *testing.T) {
	for codes, want := range map[int]string{1: "with 1 codes, 2 filters", 3: "with 3 codes, 2 filters"} {
		synctest.Test(t, func(t *testing.T) {
			b := newBridge(t)
			o := b.options()
			b.set(func() { b.codes = codes })
			if err := provide(t)(o); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %s", err, want)
			}
			synctest.Wait()
			b.set(func() { b.codes = 0 })
			if err := provide(t)(o); err != nil {
				t.Fatal(err)
			}
			b.whole(o)
			b.wg.Wait()
		})
	}
}

// A template that gives no configuration gives an empty one.
func TestNoConfiguration(t *testing.T) {
	for _, text := range []string{`{"thingName":"pump-7"}`, `{"thingName":"pump-7","deviceConfiguration":null}`} {
		b := newBridge(t)
		o := b.options()
		b.set(func() {
			b.fault = func(topic string) string {
				if strings.Contains(topic, "provision/json") {
					return text
				}
				return ""
			}
		})
		if err := provide(t)(o); err != nil {
			t.Fatal(err)
		}
		if id := b.whole(o); string(id.Configuration) != "{}" {
			t.Errorf("%s: %s", text, id.Configuration)
		}
	}
}

// The template of the configuration is the one that is asked for, whatever was
// asked for before.
func TestOtherTemplate(t *testing.T) {
	b := newBridge(t)
	o := b.options()
	o.Template = "none"
	if err := provide(t)(o); err == nil || !strings.Contains(err.Error(), "template none: refused: 404") {
		t.Fatal(err)
	}
	o.Template = "press"
	if err := killed(o, 1, provide(t)); !errors.Is(err, errKilled) { // the answer is lost
		t.Fatal(err)
	}
	o.Template = "fleet"
	if err := provide(t)(o); err != nil {
		t.Fatal(err)
	}
	if id := b.whole(o); id.Template != "fleet" {
		t.Error(id.Template)
	}
	if n := b.requests("create-from-csr"); n != 2 {
		t.Errorf("%d certificates, want 2: the second template had used the first", n)
	}
}

// An identity that the bridge refuses is tried for a day, and then another is
// asked for; one that cannot be tried is kept.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBridge(t)
		o := b.options()
		if err := killed(o, 5, provide(t)); !errors.Is(err, errKilled) { // there is an outcome
			t.Fatal(err)
		}
		deleted := b.active("pump-7")[0]
		b.set(func() { delete(b.status, deleted) })
		for range 47 { // the first of a day
			if err := provide(t)(o); !errors.Is(err, errRefused) {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Minute)
		}
		b.set(func() { b.lost = true })
		for range 5 {
			if err := provide(t)(o); err == nil || errors.Is(err, errRefused) {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Minute)
		}
		b.set(func() { b.lost = false })
		if n := b.requests("create-from-csr"); n != 1 {
			t.Fatalf("%d certificates in a day", n)
		}
		if err := provide(t)(o); !errors.Is(err, errRefused) {
			t.Fatal(err)
		}
		if err := provide(t)(o); err != nil {
			t.Fatal(err)
		}
		b.whole(o)
		b.wg.Wait()
	})
}

// A device that waits for long until it is let in remembers some of the
// certificates that it was given, and has them retired over one connection.
func TestAbandoned(t *testing.T) {
	b := newBridge(t)
	o := b.options()
	expired := false
	b.fault = func(topic string) string {
		if strings.Contains(topic, "/provision/") && !expired {
			return `!{"statusCode":403,"errorCode":"AccessDenied"}`
		}
		expired = false
		return ""
	}
	for range 3 * maxAbandoned {
		if err := provide(t)(o); err == nil || !strings.Contains(err.Error(), "AccessDenied") {
			t.Fatal(err)
		}
		b.forget()
		b.set(func() { expired = true })
	}
	var p pending
	if err := readJSON(filepath.Join(o.Dir, provisioning, pendingFile), &p); err != nil ||
		len(p.Abandoned) != maxAbandoned {
		t.Fatalf("%d are remembered, want %d, %v", len(p.Abandoned), maxAbandoned, err)
	}
	b.set(func() { b.fault = nil })
	if err := provide(t)(o); err != nil {
		t.Fatal(err)
	}
	b.whole(o)
	if n := b.requests("retire"); n != maxAbandoned {
		t.Errorf("%d were retired", n)
	}
	b.set(func() {
		if n := b.filters; n > 50 {
			t.Errorf("%d filters on one connection, and AWS IoT Core takes 50", n)
		}
	})
}

// A certificate that could not be retired is at the next run, and no other is
// made before; with an identity in place the agent does not wait long for it.
func TestRetireLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBridge(t)
		o := b.options()
		o.Timeout = time.Minute
		if err := provide(t)(o); err != nil {
			t.Fatal(err)
		}
		b.set(func() {
			b.fault = func(topic string) string {
				if strings.Contains(topic, "retire") {
					return "before"
				}
				return ""
			}
		})
		id, made, err := Rotate(t.Context(), o, 0)
		if err == nil || !made || !strings.Contains(err.Error(), "policy may not allow it") {
			t.Fatalf("%+v, %v, %v", id, made, err)
		}
		for range 3 {
			if _, made, err := Rotate(t.Context(), o, 0); err == nil || made {
				t.Fatal(made, err)
			}
		}
		if n := b.requests("create-from-csr"); n != 2 {
			t.Errorf("%d certificates, want 2", n)
		}
		o.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		begin := time.Now()
		if _, made, err := Provision(t.Context(), o); err != nil || made || time.Since(begin) > retireFor {
			t.Errorf("%v, %v after %v", made, err, time.Since(begin))
		}
		synctest.Wait()
		b.set(func() { b.fault = nil })
		o.Dial = b.options().Dial
		if _, made, err := Rotate(t.Context(), o, time.Hour); err != nil || made {
			t.Fatal(made, err)
		}
		b.whole(o)
		b.wg.Wait()
	})
}

// One process works at a time, and the others know.
func TestBusy(t *testing.T) {
	b := newBridge(t)
	o := b.options()
	if Busy(o.Dir) {
		t.Error("busy before there is anything")
	}
	inside := func(string) {
		if !Busy(o.Dir) {
			t.Error("not busy in the middle")
		}
		if _, _, err := Rotate(t.Context(), o, 0); !errors.Is(err, errBusy) && !errors.Is(err, ErrNotProvisioned) {
			t.Error(err)
		}
		if _, err := Current(o.Dir); err == nil {
			if _, made, err := Provision(t.Context(), o); err != nil || made { // the agent may start
				t.Error(made, err)
			}
		}
	}
	with := o
	with.Step = inside
	if err := provide(t)(with); err != nil {
		t.Fatal(err)
	}
	if err := rotate(t, 0)(with); err != nil {
		t.Fatal(err)
	}
	if Busy(o.Dir) {
		t.Error("busy at the end")
	}
	b.whole(o)
}

func TestSerial(t *testing.T) {
	for text, want := range map[string]string{
		"10000000a3c41f2b\x00":               "10000000a3c41f2b",
		"0123456789abcdef0123456789abcdef\n": "0123456789abcdef0123456789abcdef",
		"0000000000000000\x00":               "", "uninitialized\n": "", "": "", "\n": "", "Not Specified": "",
		"a\x01b": "",
	} {
		if got := serial([]byte(text)); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
