package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// What thing create writes is what the agent reads: TOML, whose last table is
// uplink.
func TestAgentConfig(t *testing.T) {
	data := newData(t)
	for sensor, driver := range map[string]string{"none": "", "host": "host", "bme280": "bme280", "sim": "bme280"} {
		out := filepath.Join(t.TempDir(), "x")
		step{"thing create t-" + sensor + " -sensor " + sensor + " -out " + out + " -data " + data, 0,
			"next         tidemill-agent run", ""}.run(t)
		text, err := os.ReadFile(filepath.Join(out, "agent.toml"))
		if err != nil {
			t.Fatal(err)
		}
		var c struct {
			Thing  string
			Board  struct{ Kind string }
			Sensor []struct{ Driver string }
			Uplink map[string]any
		}
		if _, err := toml.Decode(string(text)+"\nkeep_alive = \"1m\"\n", &c); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		got := ""
		for _, s := range c.Sensor {
			got += s.Driver
		}
		if got != driver || (c.Board.Kind == "sim") != (sensor == "sim") || c.Thing != "t-"+sensor ||
			c.Uplink["keep_alive"] == nil {
			t.Errorf("%s: %+v\n%s", sensor, c, text)
		}
	}
}

// A thing that is deleted takes its certificates with it, or leaves them as
// they are; those of other things stay.
func TestThingDelete(t *testing.T) {
	data := newData(t)
	certs := func() string {
		t.Helper()
		text, _, err := runText(t, "cert", "list", "-data", data)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	on := func(args string) string { return args + " -data " + data }
	for _, name := range []string{"a", "b", "c"} {
		step{on("thing create " + name + " -out " + filepath.Join(t.TempDir(), name)), 0, "", ""}.run(t)
	}
	for _, s := range []step{
		{on("thing delete a -yes"), 0, "thing        a  DELETED\ncertificate  ", ""},
		{on("thing delete b -yes -keep-certificates"), 0, "  ACTIVE\n", ""},
		{on("thing list"), 0, "THING  CERTIFICATES  CONNECTED\nc      1             no\n", ""},
	} {
		s.run(t)
	}
	if text := certs(); strings.Count(text, "ACTIVE") != 2 || strings.Count(text, "tidemill-thing") != 2 {
		t.Errorf("want the certificates of b and c:\n%s", text)
	}
}

// unpack lays a kit out below dir, and returns the modes of its files.
func unpack(t *testing.T, kit, dir string) map[string]os.FileMode {
	t.Helper()
	raw, err := os.ReadFile(kit)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	modes := map[string]os.FileMode{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return modes
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		path := filepath.Join(dir, h.Name)
		if err := errors.Join(err, os.MkdirAll(filepath.Dir(path), 0o700),
			os.WriteFile(path, text, os.FileMode(h.Mode))); err != nil {
			t.Fatal(err)
		}
		modes[h.Name] = os.FileMode(h.Mode)
	}
}

// The kit of a device installs all that the device needs, says what it does,
// and again changes nothing.
func TestKit(t *testing.T) {
	data, dir := newData(t), t.TempDir()
	agent := filepath.Join(dir, "agent")
	program, err := exec.LookPath("true") // a program for this machine, and a small one: it is packed six times
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(program, agent); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no program"), 0o600); err != nil {
		t.Fatal(err)
	}
	on := func(args string) string { return args + " -data " + data + " -endpoint localhost:8883" }
	kit := func(name string) string { return filepath.Join(dir, name+".tar.gz") }
	for _, s := range []step{
		{on("thing kit pi-1 -sensor bme280 -agent " + agent + " -out " + kit("pi-1")), 0, "sudo pi-1/install'\n", ""},
		{on("thing kit pi-1 -agent " + agent + " -out " + kit("pi-1")), 1, "", "is there already"},
		{on("thing kit pi-2 -agent " + text + " -out " + kit("pi-2")), 1, "", "no program for Linux"},
		{on("thing kit pi-2 -agent " + agent + " -agent " + agent + " -out " + kit("pi-2")), 1, "",
			"a second program for"},
		// what failed made nothing
		{on("thing list"), 0, "THING  CERTIFICATES  CONNECTED\npi-1   1             no\n", ""},
		{on("thing kit pi-2 -agent " + agent + " -out " + filepath.Join(dir, "pi-2") + "/"), 0, "on the device: sudo ",
			""},
	} {
		if !strings.HasPrefix(s.args, "thing kit") {
			s.args = strings.TrimSuffix(s.args, " -endpoint localhost:8883")
		}
		s.run(t)
	}
	// To standard output, it is the same and nothing else.
	out, errs, err := runText(t, "thing", "kit", "pi-3", "-agent", agent, "-endpoint", "localhost:8883", "-out", "-",
		"-data", data)
	if err != nil || !strings.Contains(errs, "on the device: sudo pi-3/install\n") {
		t.Errorf("%v, %s", err, errs)
	}
	if err := os.WriteFile(kit("pi-3"), []byte(out), 0o600); err != nil {
		t.Fatal(err)
	}
	if m := unpack(t, kit("pi-3"), dir); m["pi-3/install"] != 0o755 || len(m) != 11 {
		t.Errorf("the kit has %v", m)
	}
	// With packages it has no units of its own.
	deb := filepath.Join(dir, "tidemill-agent_1.0.0-1_armhf.deb")
	if err := os.WriteFile(deb, []byte("!<arch>\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	step{"thing kit pi-4 -deb " + deb + " -deb " + deb + " -data " + data, 1, "", "a second package for armhf"}.run(t)
	step{"thing kit pi-4 -deb " + text + " -data " + data, 1, "", "want a Debian package"}.run(t)
	step{"thing kit pi-4 -deb " + deb + " -agent " + agent + " -data " + data, 2, "", "not both"}.run(t)
	step{"thing kit pi-4 -deb " + deb + " -endpoint localhost:8883 -data " + data + " -out " + kit("pi-4"), 0, "armhf",
		""}.run(t)
	if m := unpack(t, kit("pi-4"), dir); m["pi-4/tidemill-agent_armhf.deb"] != 0o644 || len(m) != 6 {
		t.Errorf("the kit has %v", m)
	}
	modes := unpack(t, kit("pi-1"), dir)
	kind := map[string]string{"arm64": "arm64", "amd64": "amd64", "arm": "arm"}[runtime.GOARCH]
	want := map[string]os.FileMode{"pi-1/install": 0o755, "pi-1/tidemill-agent-" + kind: 0o755,
		"pi-1/etc/key.pem": 0o600, "pi-1/etc/cert.pem": 0o600,
		"pi-1/etc/ca.pem": 0o600, "pi-1/etc/agent.toml": 0o600, "pi-1/systemd/tidemill-agent.service": 0o644,
		"pi-1/systemd/tidemill-agent-rotate.service": 0o644,
		"pi-1/systemd/tidemill-agent-rotate.timer":   0o644, "pi-1/systemd/60-tidemill.rules": 0o644,
		"pi-1/systemd/tidemill.sysusers": 0o644}
	if !maps.Equal(modes, want) {
		t.Errorf("the kit has %v, want %v", modes, want)
	}

	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	install := func(thing string, fails bool, args ...string) string {
		t.Helper()
		out, err := exec.Command(filepath.Join(dir, thing, "install"),
			append([]string{"--root", root}, args...)...).CombinedOutput()
		if (err != nil) != fails {
			t.Fatalf("install %v of %s: %v\n%s", args, thing, err, out)
		}
		return string(out)
	}
	lines := func(out, with string) (n int) {
		for line := range strings.Lines(out) {
			if strings.HasPrefix(line, with+" ") {
				n++
			}
		}
		return n
	}
	const files = 10
	if out := install("pi-1", false); lines(out, "written") != files || lines(out, "same") != 0 {
		t.Errorf("the first time:\n%s", out)
	}
	if out := install("pi-1", false); lines(out, "written") != 0 || lines(out, "same") != files {
		t.Errorf("again:\n%s", out)
	}
	for name, mode := range map[string]os.FileMode{"etc/tidemill/key.pem": 0o600, "etc/tidemill": 0o700,
		"usr/bin/tidemill-agent":                    0o755,
		"etc/systemd/system/tidemill-agent.service": 0o644, "etc/sysusers.d/tidemill.conf": 0o644,
		"etc/udev/rules.d": 0o755} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	conf := filepath.Join(root, "etc/tidemill/agent.toml")
	mine, err := os.ReadFile(conf)
	if err != nil || !strings.Contains(string(mine), `data_dir = "/var/lib/tidemill"`) ||
		!strings.Contains(string(mine), `bus = "/dev/i2c-1"`) {
		t.Fatalf("%v\n%s", err, mine)
	}
	mine = append(mine, "# mine\n"...)
	if err := os.WriteFile(conf, mine, 0o600); err != nil {
		t.Fatal(err)
	}
	if out := install("pi-1", false); lines(out, "kept") != 1 {
		t.Errorf("a configuration that was changed:\n%s", out)
	}
	if got, err := os.ReadFile(conf); err != nil || !bytes.Equal(got, mine) {
		t.Errorf("what was changed here is gone: %v\n%s", err, got)
	}

	// Another thing's kit changes nothing unless it is told to.
	if out := install("pi-2", true); !strings.Contains(out,
		`this device is the thing "pi-1" already, and the kit is for "pi-2"`) {
		t.Errorf("another's kit:\n%s", out)
	}
	if got, err := os.ReadFile(conf); err != nil || !bytes.Equal(got, mine) {
		t.Errorf("refused, and yet: %v\n%s", err, got)
	}
	if out := install("pi-2", false, "--replace"); lines(out, "aside") != 1 || lines(out, "written") != 4 {
		t.Errorf("with --replace:\n%s", out)
	}
	if aside, _ := filepath.Glob(filepath.Join(root, "etc/tidemill.*/key.pem")); len(aside) != 1 {
		t.Errorf("the key of pi-1 is kept as %v", aside)
	}
	// Without an agent for the machine it says what to do, and does nothing.
	bare := filepath.Join(dir, "bare")
	if err := errors.Join(os.Mkdir(bare, 0o755),
		os.Remove(filepath.Join(dir, "pi-1", "tidemill-agent-"+kind))); err != nil {
		t.Fatal(err)
	}
	root = bare
	if out := install("pi-1", true); !strings.Contains(out, "-agent FILE") {
		t.Errorf("without an agent:\n%s", out)
	}
	if left, _ := os.ReadDir(bare); len(left) != 0 {
		t.Errorf("refused, and yet there is %v", left)
	}
	if out := install("pi-1", true, "--frob"); !strings.Contains(out, "sudo ./install") ||
		slices.Contains(strings.Fields(out), "set") {
		t.Errorf("help:\n%s", out)
	}
}
