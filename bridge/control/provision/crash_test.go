package provision

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
)

var (
	kills    = flag.Int("kills", 8, "how often TestKill kills")
	seedFlag = flag.Uint64("seed", 0, "seed of TestKill; 0: a new one")
)

const killDir = "TIDEMILL_PROVISION_KILL" // folder of the child that is to be killed

func openService(dir string) (*Service, *registry.Registry, error) {
	p, err := pki.Open(filepath.Join(dir, "pki"), pki.Options{})
	if err != nil {
		return nil, nil, err
	}
	r, err := registrytest.Open(filepath.Join(dir, "registry.db"))
	if err != nil {
		return nil, nil, err
	}
	return New(Options{Registry: r, Issuer: p, ARN: func(x string) string { return "arn:aws:iot:r:1:" + x }}), r, nil
}

// A said line is what the child has told a device.
type said struct {
	Token, Certificate, Serial string
	Thing                      string // once it is provisioned
}

// provisionUntilKilled is the child: devices are provisioned, four at a time, and
// all that they are told is printed.
func provisionUntilKilled(dir string) error {
	s, _, err := openService(dir)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(x said) {
		line, _ := json.Marshal(x) // cannot fail
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%s\n", line)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				made, err := s.CreateCertificate(context.Background(), "", nil)
				if err != nil {
					panic(err)
				}
				x := said{Token: made.Token, Certificate: made.ID, Serial: fmt.Sprintf("%d-%d-%d", os.Getpid(), i, n)}
				say(x)
				out, err := s.Provision(context.Background(),
					&Claim{Template: "fleet", Token: x.Token, Parameters: map[string]string{"SerialNumber": x.Serial}})
				if err != nil {
					panic(err)
				}
				x.Thing = out.Thing
				say(x)
			}
		})
	}
	wg.Wait()
	return nil
}

// Whatever instant the bridge is killed at, a device is provisioned as a whole or
// not at all, and one that asks again with its token gets what it got, or comes to
// be provisioned, once.
func TestKill(t *testing.T) {
	if dir := os.Getenv(killDir); dir != "" {
		t.Fatal(provisionUntilKilled(dir))
	}
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (-seed)", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	_, r, err := openService(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = r.Update(func(tx *registry.Tx) error {
		_, err := tx.CreateTemplate(registry.Template{Name: "fleet", Enabled: true}, []byte(fleetTemplate))
		return err
	})
	if err := errors.Join(err, r.Close()); err != nil {
		t.Fatal(err)
	}
	done, asked, things := 0, 0, 0
	for range *kills {
		all := killOne(t, dir, time.Duration(rnd.IntN(150))*time.Millisecond)
		s, r, err := openService(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range all {
			if x.Thing != "" {
				done++
			} else {
				asked++
			}
			for range 2 {
				out, err := s.Provision(t.Context(),
					&Claim{Template: "fleet", Token: x.Token, Parameters: map[string]string{"SerialNumber": x.Serial}})
				if err != nil || out.Thing != "pump-"+x.Serial || x.Thing != "" && x.Thing != out.Thing {
					t.Errorf("%+v: %+v, %v", x, out, err)
				}
			}
		}
		things = wholes(t, r, all)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills: %d devices had their answer, %d had a certificate and asked again; %d things", *kills, done,
		asked, things)
	if done == 0 {
		t.Error("nobody was provisioned; the test shows nothing")
	}
}

// killOne runs the child until it has said something and some time more, and
// returns what it told each device last.
func killOne(t *testing.T, dir string, after time.Duration) map[string]said {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKill$")
	cmd.Env = append(os.Environ(), killDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	all := map[string]said{}
	var end *time.Timer
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var x said
		if !strings.HasPrefix(lines.Text(), "{") || json.Unmarshal(lines.Bytes(), &x) != nil {
			t.Fatalf("the child says %s", lines.Text()) // whole lines: each is one write to a pipe
		}
		if end == nil {
			end = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		all[x.Token] = x
	}
	_ = cmd.Wait() // killed
	return all
}

// wholes checks that nothing in the registry is half made, and counts things.
func wholes(t *testing.T, r *registry.Registry, all map[string]said) (things int) {
	t.Helper()
	err := r.View(func(tx *registry.Tx) error {
		for after := ""; ; {
			page, next, err := tx.Things(after, 0, nil)
			if err != nil {
				return err
			}
			for _, th := range page {
				things++
				ids := tx.ThingCertificates(th.Name)
				if len(ids) != 1 || th.Version != 1 {
					t.Errorf("thing %s: version %d, certificates %v", th.Name, th.Version, ids)
					continue
				}
				c, err := tx.Certificate(ids[0])
				if err != nil || c.Status != registry.Active || len(tx.CertificatePolicies(c.ID)) != 1 {
					t.Errorf("thing %s: %+v, %v", th.Name, c, err)
				}
			}
			if after = next; after == "" {
				break
			}
		}
		for _, x := range all {
			if got := tx.CertificateThings(x.Certificate); len(got) != 1 || got[0] != "pump-"+x.Serial {
				t.Errorf("%+v: things %v", x, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return things
}
