package server

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

var (
	auditKills = flag.Int("audit-kills", 6, "how often TestAuditKill kills")
	auditSeed  = flag.Uint64("audit-seed", 0, "seed of TestAuditKill; 0: a new one")
)

const auditKillDir = "TIDEMILL_AUDIT_KILL" // data directory of the child that is to be killed

// configureAt is the configuration of a bridge over a data directory.
func configureAt(dir string) (*config.Config, error) {
	cfg, err := config.Load("", func(string) string { return "" }, map[string]string{"data_dir": dir,
		"mqtt.listen": "127.0.0.1:0", "https.listen": "127.0.0.1:0", "admin.listen": "127.0.0.1:0"})
	if err == nil {
		cfg.MQTT.Events = false
	}
	return cfg, err
}

// changeUntilKilled is the child: a bridge whose policies and streams are changed,
// four at a time; what is acknowledged is printed.
func changeUntilKilled(dir string) error {
	cfg, err := configureAt(dir)
	if err != nil {
		return err
	}
	s, err := New(Options{Config: cfg, Version: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	if err := s.Listen(context.Background()); err != nil {
		return err
	}
	go func() { panic(s.Run(context.Background())) }()
	for s.ready() != nil {
		time.Sleep(time.Millisecond)
	}
	h := s.Handler()
	do := func(method, path, body string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		if w.Code != http.StatusOK {
			panic(w.Body.String())
		}
	}
	var said sync.Mutex // held over a line
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				target := fmt.Sprintf("policies/p-%d-%d-%d", os.Getpid(), i, n)
				if n%8 == 7 {
					target = fmt.Sprintf("streams/s-%d-%d-%d", os.Getpid(), i, n)
					do("POST", "/v1/streams", `{"name":"`+strings.TrimPrefix(target, "streams/")+`","shards":1}`)
				} else {
					do("PUT", "/v1/"+target, policyOf("s"))
				}
				said.Lock()
				fmt.Println(target)
				said.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

// Whatever instant the bridge is killed at, each change that was acknowledged has its
// record, and so has each change of the registry that was made and not acknowledged.
func TestAuditKill(t *testing.T) {
	if dir := os.Getenv(auditKillDir); dir != "" {
		t.Fatal(changeUntilKilled(dir))
	}
	seed := *auditSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (-audit-seed)", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	dir, err := os.MkdirTemp("", "audit") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	dir = filepath.Join(dir, "data")
	acknowledged := map[string]bool{}
	for range *auditKills {
		killChanging(t, dir, time.Duration(rnd.IntN(300))*time.Millisecond, acknowledged)
	}
	cfg, err := configureAt(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, cfg)
	made := 0
	if err := b.registry.View(func(tx *registry.Tx) error {
		for after := "p-"; ; {
			page, next, err := tx.Policies(after, registry.MaxPage)
			for _, p := range page {
				if strings.HasPrefix(p.Name, "p-") {
					acknowledged["policies/"+p.Name] = true // as good
					made++
				}
			}
			if after = next; err != nil || next == "" {
				return err
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	var records map[string]string
	b.eventually("each change has its record", func() bool {
		records = map[string]string{}
		for _, r := range b.audited(t) {
			if id, ok := records[r.Target]; ok && id != r.ID {
				t.Fatalf("two records of %s: %s and %s", r.Target, id, r.ID)
			}
			if records[r.Target] = r.ID; r.Error != "" || r.Source != audit.SourceAdmin {
				t.Fatalf("%+v", r)
			}
		}
		for target := range acknowledged {
			if records[target] == "" {
				return false
			}
		}
		return true
	})
	if made == 0 || len(records) < made {
		t.Errorf("%d policies, %d records", made, len(records))
	}
	t.Logf("%d changes in %d kills, %d policies, %d records", len(acknowledged), *auditKills, made, len(records))
}

// killChanging runs the child, kills it some time after its first change, and adds
// what was acknowledged.
func killChanging(t *testing.T, dir string, after time.Duration, acknowledged map[string]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestAuditKill$")
	cmd.Env = append(os.Environ(), auditKillDir+"="+dir)
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, n := bufio.NewReader(out), 0
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // a line that was cut is not acknowledged
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		if line = strings.TrimSuffix(line, "\n"); !strings.Contains(line, "/") {
			t.Fatalf("%s\n%s", line, log.String())
		}
		acknowledged[line] = true
		if n++; n == 1 {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait() // it was killed
	if n == 0 {
		t.Fatalf("nothing was changed:\n%s", log.String())
	}
}
