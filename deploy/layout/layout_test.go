package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tidemill/tidemill"

// root is the project's root, seen from this package.
const root = "../.."

// topLevel lists all that may stand in the root besides dot files.
var topLevel = []string{
	"agent", "bridge", "hal", "shadow", "firmware", "deploy",
	"go.mod", "go.sum", "Makefile", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md",
}

// unitFiles is a folder of deploy that the bridge's command line may import:
// it holds files and no code, and a device's kit has the very units that a
// package installs, not copies of them.
const unitFiles = "deploy/systemd"

// A rule says which of our own packages a folder's packages may import. The
// first rule whose folder holds the importer applies; a folder may always
// import itself.
type rule struct {
	folder string
	allow  []string // folders; nil: nothing else of ours
}

// rules are ordered from the narrow folder to the wide one.
var rules = []rule{
	{"shadow", nil},
	// What all programs use of files with secrets knows nothing of boards.
	{"hal/secretfile", nil},
	{"hal/mqttbound", nil},
	{"hal", nil},
	{"firmware", nil},
	{"agent/telemetry", nil},
	{"agent/durable", nil},
	{"agent/clock/kernel", nil},
	{"agent", []string{"hal", "shadow", "firmware"}},
	{"bridge/speed/topic", nil},
	{"bridge/speed/message", nil},
	{"bridge/speed", []string{"shadow", "firmware", "agent/telemetry", "hal/secretfile", "agent/durable",
		"bridge/bounded", "bridge/disk", "bridge/egress", "bridge/quota", "bridge/seal", "bridge/strictjson"}},
	{"bridge/control", []string{"bridge/speed/topic", "bridge/speed/message", "shadow", "firmware", "hal/secretfile",
		"agent/durable", "bridge/bounded", "bridge/quota", "bridge/strictjson"}},
	// Functions know nothing of what calls them.
	{"bridge/lambda", []string{"agent/durable"}},
	{"bridge/batch", []string{"bridge/speed/sink"}},
	// The pipeline knows no service, and no service another; package aws has them all.
	{"bridge/serving/lasting", nil},
	{"bridge/serving/aws/wire", []string{"bridge/serving/lasting", "bridge/sigv4", "bridge/speed/admission"}},
	{"bridge/serving/aws/kinesis", []string{"bridge/serving/aws/wire", "bridge/speed", "bridge/sigv4"}},
	{"bridge/serving/aws/s3", []string{"bridge/serving/aws/wire", "bridge/speed/sink", "bridge/sigv4",
		"agent/durable"}},
	{"bridge/serving/aws/sqs", []string{"bridge/serving/aws/wire", "bridge/speed"}},
	{"bridge/serving/aws/iot", []string{"bridge/serving/aws/wire", "bridge/control", "bridge/speed", "bridge/sigv4",
		"bridge/strictjson"}},
	{"bridge/serving/aws/iotdata", []string{"bridge/serving/aws/wire", "bridge/control/authz", "bridge/speed",
		"bridge/sigv4", "bridge/strictjson", "shadow"}},
	{"bridge/serving", []string{"bridge/control", "bridge/speed", "bridge/batch", "bridge/lambda", "shadow", "firmware",
		"bridge/sigv4", "bridge/clock", "bridge/disk", "bridge/strictjson", "bridge/backup"}},
	{"bridge/seal", nil},
	// A repository of backups knows nothing of bridges; S3 is reached as by sinks.
	{"bridge/backup/vault", []string{"agent/durable", "bridge/bounded", "bridge/speed/sink/awsapi",
		"bridge/speed/sink/s3"}},
	{"bridge/declare", []string{"bridge/bounded", "bridge/strictjson", "bridge/seal", "bridge/control",
		"bridge/speed"}},
	{"bridge/listen", []string{"bridge/speed/admission", "bridge/speed/gateway", "bridge/speed/mqtt"}},
	// Who a client is and what it may concerns connections and topics, not where
	// messages go.
	{"bridge/access", []string{"bridge/control", "bridge/config", "bridge/sigv4", "bridge/speed/admission",
		"bridge/speed/gateway", "bridge/speed/message", "bridge/speed/mqtt/packet", "bridge/speed/notice",
		"bridge/speed/topic"}},
	{"bridge/datadir", []string{"bridge/clock", "bridge/config", "bridge/control", "bridge/speed/streams",
		"bridge/speed/sink/objects", "shadow",
		"hal/secretfile", "agent/durable", "bridge/seal"}},
	{"bridge/backup", []string{"agent/durable", "hal/secretfile", "bridge/clock", "bridge/config", "bridge/control",
		"bridge/datadir", "bridge/disk", "bridge/speed/hold", "bridge/speed/kinesis", "bridge/speed/streams",
		"shadow"}},
	{"bridge/arn", nil},
	{"bridge/spelling", nil},
	{"bridge/secretname", nil},
	{"bridge/restjson", nil},
	{"bridge/bounded", nil},
	{"bridge/clock", nil},
	{"bridge/disk", nil},
	{"bridge/config", []string{"hal/secretfile", "bridge/egress"}},
	{"bridge/sigv4", nil},
	{"bridge/egress", nil},
	{"bridge/quota", nil},
	{"bridge/strictjson", nil},
	// These know all of the bridge; no other folder of it is without a rule.
	{"bridge/server", []string{"bridge", "shadow", "firmware", "agent/telemetry", "hal/secretfile", "agent/durable",
		"agent/clock/kernel"}},
	{"bridge/cli", []string{"bridge", "shadow", "firmware", "agent/telemetry", "hal/secretfile", "agent/durable"}},
	{"deploy", []string{"agent", "bridge", "hal", "shadow", "firmware"}},
}

// everywhere are packages without state that all of the bridge may import: what
// several of its parts say to the world in one form.
var everywhere = []string{"bridge/arn", "bridge/restjson", "bridge/secretname", "bridge/spelling"}

// main is the program's, which begins its command line.
const main, begins = "bridge", "bridge/cli"

// apart are the ends of the message path: they do not know each other, and
// bridge/speed/route, which joins them, is known to none. Their tests may.
var apart = []string{"bridge/speed/gateway", "bridge/speed/ingest", "bridge/speed/broker"}

// judgeApart returns an error if from may not import to for being apart.
func judgeApart(from, to string) error {
	isIn := func(pkg string) func(string) bool { return func(folder string) bool { return within(pkg, folder) } }
	i, j := slices.IndexFunc(apart, isIn(from)), slices.IndexFunc(apart, isIn(to))
	if i >= 0 && (within(to, "bridge/speed/route") || j >= 0 && i != j) {
		return fmt.Errorf("%s imports %s: bridge/speed/route joins %v, which do not know each other", from, to, apart)
	}
	return nil
}

// parts are handed what they need by bridge/server, which alone imports them.
var parts = []string{"bridge/listen", "bridge/access", "bridge/declare"}

// testOnly are what tests anywhere may import, and packages of test code, whose
// names end in "test", and nothing else.
var testOnly = []string{"deploy/await", "deploy/conformance", "deploy/counterpart", "deploy/nightly"}

// engines are packages under a contract of ours, with all that may import them:
// everyone else is given the contract. Tests may name any engine.
var engines = map[string][]string{
	// The program that opens the log and the registry, and what works on their files.
	"bridge/speed/streams/pebble": {"bridge/server", "bridge/cli", "bridge/datadir"},
	"bridge/control/registry/bolt": {"bridge/server", "bridge/cli", "bridge/datadir",
		"bridge/control/registry/registrytest"},
}

// judgeEngine returns an error if from may not name the engine to.
func judgeEngine(from, to string) error {
	users, ok := engines[to]
	if !ok || within(from, to) || within(from, "deploy") || slices.ContainsFunc(users, func(u string) bool {
		return within(from, u)
	}) {
		return nil
	}
	return fmt.Errorf("%s imports %s: only %v name that engine, others take the contract", from, to, users)
}

func within(pkg, folder string) bool {
	return pkg == folder || strings.HasPrefix(pkg, folder+"/")
}

// judge returns an error if from may not import to, or its tests; both are
// relative to the module.
func judge(from, to string, tests bool) error {
	if slices.Contains(testOnly, to) && (tests || strings.HasSuffix(from, "test")) {
		return nil
	}
	if to == unitFiles && from == "bridge/cli" {
		return nil
	}
	if within(to, "deploy") && !within(from, "deploy") {
		return fmt.Errorf("%s imports %s: nothing imports deploy", from, to)
	}
	for _, part := range parts {
		if within(to, part) && !within(from, part) && from != "bridge/server" {
			return fmt.Errorf("%s imports %s: only bridge/server imports %v", from, to, parts)
		}
	}
	if from == main && to == begins {
		return nil
	}
	if within(from, "bridge") && slices.Contains(everywhere, to) {
		return nil
	}
	for _, r := range rules {
		if !within(from, r.folder) {
			continue
		}
		if within(to, r.folder) || slices.ContainsFunc(r.allow, func(a string) bool { return within(to, a) }) {
			return nil
		}
		return fmt.Errorf("%s imports %s: %s may import of ours only %v", from, to, r.folder, r.allow)
	}
	return fmt.Errorf("%s has no rule: give its folder a place in the layout", from)
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"agent/uplink", "shadow/device", true},
		{"agent/uplink", "bridge/speed/topic", false},
		{"agent/telemetry", "hal", false},
		{"bridge/speed/ingest", "agent/telemetry", true},
		{"bridge/speed/ingest", "agent/spool", false},
		{"bridge/speed/rules", "bridge/control/authz", false},
		{"bridge/control/jobs", "bridge/speed/topic", true},
		{"bridge/control/jobs", "bridge/speed/gateway", false},
		{"bridge/lambda/store", "agent/durable", true},
		{"bridge/lambda", "bridge/speed/streams", false},
		{"bridge/speed/rules", "bridge/lambda", false},
		{"bridge/control/webhook", "bridge/lambda", false},
		{"bridge/serving/aws/wire", "bridge/sigv4", true},
		{"bridge/serving/aws/kinesis", "bridge/serving/aws/iot", false},
		{"bridge/serving/aws/iotdata", "bridge/control/registry", false},
		{"bridge/serving/aws", "bridge/serving/aws/iot", true},
		{"bridge/lambda/store", "bridge/arn", true},
		{"bridge/arn", "bridge/clock", false},
		{"agent/uplink", "bridge/arn", false},
		{"bridge/serving/aws/wire/shape", "bridge/speed/kinesis", false},
		{"bridge/server", "bridge/control/authz", true},
		{"bridge/server", "hal", false},
		{"bridge", "bridge/cli", true},
		{"bridge", "bridge/server", false},
		{"bridge/store", "bridge/speed/streams", false},
		{"bridge/access", "bridge/speed/route", false},
		{"bridge/access", "bridge/speed/message", true},
		{"bridge/listen", "bridge/speed/rules", false},
		{"bridge/server", "bridge/listen", true},
		{"bridge/server", "bridge/access", true},
		{"bridge/listen", "bridge/speed/gateway", true},
		{"bridge/listen", "bridge/access", false},
		{"bridge/listen", "bridge/server", false},
		{"bridge/access", "bridge/control/registry", true},
		{"bridge/access", "bridge/serving/aws", false},
		{"bridge/access", "bridge/listen", false},
		{"bridge/cli", "bridge/listen", false},
		{"bridge/serving/aws", "bridge/access", false},
		{"deploy/e2e", "bridge/declare", false},
		{"bridge/server", "bridge/declare", true},
		{"bridge/cli", "bridge/declare", false},
		{"bridge/cli", "bridge/serving/admin", true},
		{"bridge/serving/admin", "bridge/declare", false},
		{"bridge/serving/admin", "bridge/server", false},
		{"bridge/declare", "bridge/control/registry", true},
		{"bridge/declare", "bridge/serving/admin", false},
		{"shadow/device", "agent/spool", false},
		{"hal/sim", "deploy/fleet", false},
		{"deploy/e2e", "bridge/server", true},
		{"bridge/cli", "deploy/systemd", true},
		{"bridge/server", "deploy/systemd", false},
		{"bridge", "deploy/rig", false},
		{"tools/x", "hal", false},
	} {
		if err := judge(c.from, c.to, false); (err == nil) != c.ok {
			t.Errorf("judge(%s, %s) = %v, want ok %v", c.from, c.to, err, c.ok)
		}
	}
	for from, ok := range map[string]bool{"shadow/shadowtest": true, "shadow/service": false} {
		if err := judge(from, "deploy/conformance", false); (err == nil) != ok {
			t.Errorf("%s imports the vectors: %v", from, err)
		}
	}
	if err := errors.Join(judge("shadow/service", "deploy/conformance", true),
		judge("agent/spool", "deploy/conformance", true)); err != nil {
		t.Error(err)
	}
	if judge("shadow/service", "deploy/rig", true) == nil {
		t.Error("tests may import what is not for them alone")
	}
}

func TestJudgeApart(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"bridge/speed/route", "bridge/speed/gateway", true},
		{"bridge/speed/gateway", "bridge/speed/gateway/sessions", true},
		{"bridge/speed/gateway/sessions", "bridge/speed/ingest", false},
		{"bridge/speed/ingest", "bridge/speed/route", false},
		{"bridge/speed/rules", "bridge/speed/ingest", true},
	} {
		if err := judgeApart(c.from, c.to); (err == nil) != c.ok {
			t.Errorf("judgeApart(%s, %s) = %v, want ok %v", c.from, c.to, err, c.ok)
		}
	}
}

func TestJudgeEngine(t *testing.T) {
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"bridge/server", "bridge/speed/streams/pebble", true},
		{"bridge/datadir", "bridge/speed/streams/pebble", true},
		{"deploy/fleet", "bridge/speed/streams/pebble", true},
		{"bridge/speed/rules", "bridge/speed/streams", true},
		{"bridge/speed/rules", "bridge/speed/streams/pebble", false},
		{"bridge/speed/streams", "bridge/speed/streams/pebble", false},
		{"bridge/serving/aws", "bridge/speed/streams/pebble", false},
		{"bridge/server", "bridge/control/registry/bolt", true},
		{"bridge/control/registry", "bridge/control/registry/table", true},
		{"bridge/control/registry", "bridge/control/registry/bolt", false},
		{"bridge/control/provision", "bridge/control/registry/bolt", false},
	} {
		if err := judgeEngine(c.from, c.to); (err == nil) != c.ok {
			t.Errorf("judgeEngine(%s, %s) = %v, want ok %v", c.from, c.to, err, c.ok)
		}
	}
}

func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	dec, n := json.NewDecoder(strings.NewReader(string(out))), 0
	for {
		var p struct {
			ImportPath                         string
			Imports, TestImports, XTestImports []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		n++
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		for k, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			to, ours := strings.CutPrefix(imp, module+"/")
			if !ours || to == from {
				continue
			}
			test := k >= len(p.Imports)
			err := judge(from, to, test)
			if err == nil && !test {
				err = errors.Join(judgeEngine(from, to), judgeApart(from, to))
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
	if n < 5 {
		t.Fatalf("go list found %d packages; the test looks at nothing", n)
	}
}

func TestTopLevel(t *testing.T) {
	// What git tracks, where there is git; else what is on the disk.
	var names []string
	cmd := exec.Command("git", "ls-files")
	cmd.Dir = root
	if out, err := cmd.Output(); err == nil && len(out) > 0 {
		for _, f := range strings.Fields(string(out)) {
			first, _, _ := strings.Cut(f, "/")
			names = append(names, first)
		}
	} else {
		entries, err := os.ReadDir(root)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		if !strings.HasPrefix(n, ".") && !slices.Contains(topLevel, n) {
			t.Errorf("%s has no place at the top level", n)
		}
	}
}

// maxAgent is the largest agent for ARMv6, stripped: 11 MB (promise 9). As the Makefile
// has it, its segments begin at the largest pages of a kernel that runs it (16 KiB on a
// Raspberry Pi 5), not at 64 KiB.
const maxAgent = 11_000_000

func TestAgentIsSmallAndAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the agent for ARMv6")
	}
	env := append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=6", "CGO_ENABLED=0")
	list := exec.Command("go", "list", "-deps", "./agent")
	list.Dir, list.Env = root, env
	deps, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range strings.Fields(string(deps)) {
		if to, ours := strings.CutPrefix(d, module+"/"); ours && within(to, "bridge") {
			t.Errorf("the agent links %s", to)
		}
		if strings.HasPrefix(d, "github.com/cockroachdb/") || strings.HasPrefix(d, "github.com/prometheus/") {
			t.Errorf("the agent links %s, a library of the bridge", d)
		}
		if d == "regexp" {
			t.Error("the agent links regexp, 230 KB of it: see hal/form")
		}
	}
	bin := filepath.Join(t.TempDir(), "tidemill-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -R 16384", "-o", bin, "./agent")
	build.Dir, build.Env = root, env
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	info, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("linux/arm GOARM=6: %d bytes of at most %d", info.Size(), maxAgent)
	if info.Size() > maxAgent {
		t.Errorf("the agent for ARMv6 has %d bytes, want at most %d", info.Size(), maxAgent)
	}
}
