package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/agent/provision"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/deploy/rig"
)

// diskCalls are the system calls by which the agent changes what is on the disk.
var diskCalls = []string{"fsync", "renameat", "unlinkat", "mkdirat", "symlinkat"}

// killedIn runs the program, and kills it as one of its threads enters its n-th
// call of a kind. It returns that call, or "" if no thread came to as many.
func (d *provisioned) killedIn(kind string, n int, args ...string) string {
	d.f.t.Helper()
	bin, err := buildOnce()
	d.f.must(err)
	ctx, cancel := context.WithTimeout(d.f.ctx, 3*patience)
	defer cancel()
	log := filepath.Join(d.dir, "strace.log")
	cmd := exec.CommandContext(ctx, "strace",
		append([]string{"-f", "-qq", "-y", "-s", "200", "-o", log, "-e", "trace=" + kind,
			"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", kind, n), bin.Agent},
			append(args, "-once", "-config", d.config)...)...)
	// One thread at a time, so that most calls are of the same one.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return ""
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() ||
		status.Signal() != syscall.SIGKILL {
		d.f.t.Fatalf("%v of %s at %s %d: %v\n%s", args, d.serial, kind, n, err, out)
	}
	text, err := os.ReadFile(log)
	d.f.must(err)
	calls := regexp.MustCompile(`(?m)^\d+ +(`+kind+`\(.*)$`).FindAllString(string(text), -1)
	if len(calls) == 0 {
		d.f.t.Fatalf("no call in %s", text)
	}
	return strings.ReplaceAll(calls[len(calls)-1], d.dir, "")
}

// killedInAll does that for each kind and number there is: begin prepares for
// one, and ended looks at what became of it.
func (d *provisioned) killedInAll(begin func() *provisioned, what string,
	ended func(d *provisioned, at string)) (kills []string) {
	d.f.t.Helper()
	for _, kind := range diskCalls {
		for n, ran := 1, 0; ran < 2; n++ { // threads count for themselves
			ran++
			d := begin()
			at := d.killedIn(kind, n, what)
			if at != "" {
				ran = 0
				kills = append(kills, at)
			}
			ended(d, fmt.Sprintf("%s killed at %q", what, at))
		}
	}
	d.f.t.Logf("%s was killed at %d calls:\n%s", what, len(kills), strings.Join(kills, "\n"))
	return kills
}

// The program ends provisioned once, and with another key after each rotation,
// if it is killed at any call that changes the disk. With -v it prints the calls.
func TestProvisionCalls(t *testing.T) {
	need(t, "aws", "awscli")
	need(t, "strace", "strace")
	f := newBridge(t, "", nil)
	newDevice := f.newProvisioning(t)
	keys := map[string]string{} // where each was seen
	keyOf := func(d *provisioned) string {
		_, path := provision.Paths(filepath.Join(d.dir, "data"))
		text, err := os.ReadFile(path)
		f.must(err)
		return string(text)
	}
	ended := func(d *provisioned, at string) *provision.Identity {
		t.Helper()
		id, err := provision.Current(filepath.Join(d.dir, "data"))
		f.must(err)
		if got := d.active(); id.Thing != "press-"+d.serial || id.Certificate != got || len(id.Retire) > 0 {
			t.Errorf("%s: %s has %+v, and the bridge %s", at, d.serial, id, got)
		}
		all, err := os.ReadDir(filepath.Join(d.dir, "data", "identities"))
		f.must(err)
		if len(all) != 1 {
			t.Errorf("%s: %s has the identities %v", at, d.serial, all)
		}
		return id
	}
	n := 0
	d := newDevice("k")
	killed := d.killedInAll(func() *provisioned {
		n++
		return newDevice(fmt.Sprint("k", n))
	}, "provision", func(next *provisioned, at string) {
		d = next
		if out, err := d.command(f.ctx, "provision", "-once"); err != nil {
			t.Fatalf("after %s: %v\n%s", at, err, out)
		}
		ended(d, at)
	})
	keys[keyOf(d)] = "provisioning"
	before := ended(d, "before rotations")
	killed = append(killed, d.killedInAll(func() *provisioned { return d }, "rotate", func(d *provisioned, at string) {
		if out, err := d.command(f.ctx, "rotate", "-once", "-older-than", "1h"); err != nil {
			t.Fatalf("after %s: %v\n%s", at, err, out)
		}
		id := ended(d, at)
		if id.Certificate == before.Certificate {
			return // killed before there was another one
		}
		key := keyOf(d)
		if was, ok := keys[key]; ok {
			t.Errorf("%s: the key is the one of %s", at, was)
		}
		keys[key], before = at, id
	})...)
	t.Logf("%d kills -9, %d keys", len(killed), len(keys))
}

// A rotation whose old certificate cannot be retired makes one new certificate,
// however often it tries, and ends when it can be.
func TestRotateUnretired(t *testing.T) {
	need(t, "aws", "awscli")
	f := newBridge(t, "", nil)
	d := f.newProvisioning(t)("u")
	if out, err := d.command(f.ctx, "provision", "-once"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	shell := &awsShell{f: f, service: "iot"}
	const topic = "topic/$tidemill/*"
	var policy struct{ PolicyDocument string }
	f.must(json.Unmarshal([]byte(shell.says("policyDocument", "get-policy", "--policy-name", "press")), &policy))
	if !strings.Contains(policy.PolicyDocument, topic) {
		t.Fatal(policy.PolicyDocument)
	}
	shell.says("", "create-policy-version", "--policy-name", "press", "--set-as-default", "--policy-document",
		strings.ReplaceAll(policy.PolicyDocument, topic, "topic/none"))
	bin, err := buildOnce()
	f.must(err)
	log := filepath.Join(f.dir, "rotate-u.log")
	p := &rig.Process{Path: bin.Agent, Args: []string{"rotate", "-config", d.config}, LogFile: log}
	f.must(p.Start())
	t.Cleanup(p.Kill)
	f.must(rig.Until(f.ctx, "tries to retire", func() (bool, error) {
		text, err := os.ReadFile(log)
		return strings.Count(string(text), "retire certificate") > 3, err
	}))
	certs := func(status string) (n int) {
		var all []admin.CertificateInfo
		f.must(f.bridge.Get(f.ctx, "/v1/certificates", url.Values{"thing": {"press-u"}}, &all))
		for _, c := range all {
			if c.Status == status {
				n++
			}
		}
		return n
	}
	if n := certs("ACTIVE"); n != 2 {
		t.Errorf("%d certificates are active, want the old one and the new one", n)
	}
	shell.says("", "set-default-policy-version", "--policy-name", "press", "--policy-version-id", "1")
	f.must(rig.Until(f.ctx, "the end of the rotation", func() (bool, error) { return p.Exited() }))
	if a, i := certs("ACTIVE"), certs("INACTIVE"); a != 1 || i != 1 {
		t.Errorf("%d certificates are active and %d inactive, want one each", a, i)
	}
}
