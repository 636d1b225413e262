package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/counterpart"
	"github.com/tidemill/tidemill/deploy/nightly"
	"github.com/tidemill/tidemill/deploy/rig"
)

var at = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// begin returns a build for tests, in a folder that stays, where the go command finds
// what it linked before.
func begin(t *testing.T) *build {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.Look(root, "agent", "hal", "shadow", "deploy/systemd"); err != nil {
		t.Fatal(err)
	}
	return &build{version: "v1.0.0", time: at, root: root, out: counterpart.Folder(t, "packaging"), level: 1}
}

// agentFor is the agent's program.
func agentFor(t *testing.T, b *build, of string) string {
	t.Helper()
	path, err := b.program(t.Context(), "tidemill-agent", of)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// written writes a package into a folder of its own. From 1.1.0 on its conffiles are
// others.
func written(t *testing.T, b *build, name, version, program string, agents ...string) string {
	t.Helper()
	one := *b
	one.version, one.out = version, t.TempDir()
	p, err := one.agent(t.Context(), "amd64", program)
	if name == "tidemill-bridge" {
		p, err = one.bridge(t.Context(), "amd64", program, agents)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range p.deb.Files {
		if f.Conf && version != "v1.0.0" {
			p.deb.Files[i].Data = append(f.Data, "# a later version's\n"...)
		}
	}
	path, err := one.write(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// small is a program of Go that is there already, in the place of ours.
func small(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func need(t *testing.T, program string) string {
	t.Helper()
	return counterpart.Program(t, program, program)
}

// ran runs a program that ends well.
func ran(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// The package of the agent for the smallest device is one for armhf that dpkg reads,
// and the same each time.
func TestARM(t *testing.T) {
	read := need(t, "dpkg-deb")
	b := begin(t)
	program := agentFor(t, b, "armhf")
	b.out = t.TempDir()
	path, err := b.write(b.agent(t.Context(), "armhf", program))
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(path) != "tidemill-agent_1.0.0-1_armhf.deb" {
		t.Errorf("it is %s", path)
	}
	fields := ran(t, nil, read, "-f", path, "Package", "Version", "Architecture")
	if fields != "Package: tidemill-agent\nVersion: 1.0.0-1\nArchitecture: armhf\n" {
		t.Error(fields)
	}
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if path, err = b.write(b.agent(t.Context(), "armhf", program)); err != nil {
		t.Fatal(err)
	}
	again, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(kept, again) {
		t.Errorf("built twice it is not the same: %v", err)
	}
	ran(t, nil, read, "-x", path, filepath.Join(b.out, "x"))
	got, err := os.ReadFile(filepath.Join(b.out, "x", "usr/bin/tidemill-agent"))
	want, _ := os.ReadFile(program)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the program in it is another: %v", err)
	}
}

// Debian's own critic finds no errors. The bridge's program takes long to link and to
// look at: in the gate the agent's is in its place.
func TestLintian(t *testing.T) {
	lintian := need(t, "lintian")
	b := begin(t)
	program := agentFor(t, b, "amd64")
	agent := written(t, b, "tidemill-agent", "v1.0.0", program)
	if nightly.Is() {
		var err error
		if program, err = b.program(t.Context(), "tidemill-bridge", "amd64"); err != nil {
			t.Fatal(err)
		}
	}
	bridge := written(t, b, "tidemill-bridge", "v1.0.0", program, agent)
	out := ran(t, nil, lintian, "--no-cfg", "--allow-root", "--fail-on=error", agent, bridge)
	t.Log(out)
}

// Each version is after the one before, as dpkg orders them.
func TestVersions(t *testing.T) {
	dpkg := need(t, "dpkg")
	all := []string{debianVersion("abcdef0", at), debianVersion("1234567-dirty", at.Add(time.Second)),
		debianVersion("v0.1.0", at), debianVersion("v0.1.0-3-gabcdef0", at), debianVersion("v0.1.0-12-gabcdef0", at),
		debianVersion("v0.2.0", at), debianVersion("v0.10.0", at)}
	for i := range all[1:] {
		less := exec.CommandContext(t.Context(), dpkg, "--compare-versions", all[i], "lt", all[i+1])
		if err := less.Run(); err != nil {
			t.Errorf("%s is not before %s: %v", all[i], all[i+1], err)
		}
	}
}

// A target is a device's root folder, with a database of packages that says that
// systemd is there.
type target struct {
	t    *testing.T
	root string
}

func newTarget(t *testing.T) target {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "etc", "usr/bin",
		"var/log"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	status := "Package: systemd\nStatus: install ok installed\nMaintainer: none <none@localhost>\n" +
		"Architecture: amd64\nVersion: 252\nDescription: stands for it\n\n"
	if err := errors.Join(os.WriteFile(filepath.Join(root, "var/lib/dpkg/status"), []byte(status), 0o644),
		os.WriteFile(filepath.Join(root, "etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\n"), 0o644),
		os.WriteFile(filepath.Join(root, "etc/group"), []byte("root:x:0:\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	return target{t, root}
}

// dpkg installs into the folder. The scripts run outside of it, as they do for the card
// of a device with another processor.
func (d target) dpkg(args ...string) string {
	d.t.Helper()
	return ran(d.t, nil, need(d.t, "dpkg"), append([]string{"--root=" + d.root, "--force-not-root",
		"--force-script-chrootless", "--force-architecture", "--force-confdef", "--force-confold",
		"--log=" + filepath.Join(d.root, "var/log/dpkg.log")}, args...)...)
}

func (d target) write(name, text string) {
	d.t.Helper()
	path := filepath.Join(d.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		d.t.Fatal(err)
	}
}

// wants looks for a file with a text, or for no file if text is empty.
func (d target) wants(name, text string) {
	d.t.Helper()
	got, err := os.ReadFile(filepath.Join(d.root, name))
	if text == "" && !errors.Is(err, os.ErrNotExist) || text != "" && !strings.Contains(string(got), text) {
		d.t.Errorf("%s: %v\n%s\nwant %q", name, err, got, text)
	}
}

// An agent is installed, configured, upgraded, removed, installed again and purged:
// what was changed stays, and data does until the purge.
func TestAgentStays(t *testing.T) {
	b, d := begin(t), newTarget(t)
	program := small(t)
	d.dpkg("-i", written(t, b, "tidemill-agent", "v1.0.0", program))
	d.wants("etc/passwd", "tidemill-agent:x:")
	d.wants("etc/group", "i2c:x:")
	unit := "etc/systemd/system/multi-user.target.wants/tidemill-agent.service"
	if _, err := os.Lstat(filepath.Join(d.root, unit)); err != nil {
		t.Errorf("it is not enabled: %v", err)
	}
	if info, err := os.Stat(filepath.Join(d.root, "var/lib/tidemill")); os.Geteuid() == 0 && (err != nil ||
		info.Mode().Perm() != 0o700) {
		t.Errorf("its folder: %v, %v", info, err)
	}
	modules := "etc/modules-load.d/tidemill-agent.conf"
	d.write(modules, "i2c-dev\nmine\n")
	d.write("etc/tidemill/agent.toml", "thing = \"pi-1\"\n")
	d.write("etc/tidemill/key.pem", "a key\n")
	d.write("etc/tidemill/others", "not ours\n")
	d.write("var/lib/tidemill/spool.db", "readings\n")
	stays := func() {
		t.Helper()
		for name, text := range map[string]string{modules: "mine", "etc/tidemill/agent.toml": "pi-1",
			"etc/tidemill/key.pem": "a key", "var/lib/tidemill/spool.db": "readings"} {
			d.wants(name, text)
		}
	}
	d.dpkg("-i", written(t, b, "tidemill-agent", "v1.1.0", program)) // with another list of modules
	d.wants(modules+".dpkg-dist", "a later version's")
	d.wants("var/lib/dpkg/status", "Version: 1.1.0-1")
	stays()
	d.dpkg("-r", "tidemill-agent")
	d.wants("usr/bin/tidemill-agent", "")
	stays()
	d.dpkg("-i", written(t, b, "tidemill-agent", "v1.2.0", program))
	stays()
	if out := d.dpkg("-P", "tidemill-agent"); !strings.Contains(out, "/var/lib/tidemill is deleted") {
		t.Errorf("a purge does not say what it deletes:\n%s", out)
	}
	for _, name := range []string{modules, "etc/tidemill/agent.toml", "etc/tidemill/key.pem",
		"var/lib/tidemill/spool.db", "usr/lib/systemd/system/tidemill-agent.service"} {
		d.wants(name, "")
	}
	if _, err := os.Lstat(filepath.Join(d.root, unit)); err == nil {
		t.Error("it is enabled still")
	}
	d.wants("etc/tidemill/others", "not ours")
}

// Likewise a bridge; both are on one machine.
func TestBridgeStays(t *testing.T) {
	b, d := begin(t), newTarget(t)
	program := small(t)
	agent := written(t, b, "tidemill-agent", "v1.0.0", program)
	out := d.dpkg("-i", agent, written(t, b, "tidemill-bridge", "v1.0.0", program, agent))
	if !strings.Contains(out, "systemctl start tidemill-bridge") {
		t.Errorf("it does not say what to do next:\n%s", out)
	}
	d.wants("etc/passwd", "tidemill-bridge:x:")
	d.wants("usr/lib/tidemill/tidemill-agent_amd64.deb", "!<arch>")
	d.write("etc/tidemill/bridge.toml", "[mqtt]\nserver_names = [\"mine\"]\n")
	d.write("var/lib/tidemill-bridge/registry.db", "devices\n")
	out = d.dpkg("-i", written(t, b, "tidemill-bridge", "v1.1.0", program, agent))
	if !strings.Contains(out, "config check") {
		t.Errorf("an upgrade does not say what a restart does:\n%s", out)
	}
	d.wants("etc/tidemill/bridge.toml", "mine")
	d.dpkg("-r", "tidemill-bridge")
	d.wants("etc/tidemill/bridge.toml", "mine")
	d.wants("var/lib/tidemill-bridge/registry.db", "devices")
	if out = d.dpkg("-P", "tidemill-bridge"); !strings.Contains(out, "/var/lib/tidemill-bridge is deleted") {
		t.Errorf("a purge does not say what it deletes:\n%s", out)
	}
	d.wants("etc/tidemill/bridge.toml", "")
	d.wants("var/lib/tidemill-bridge/registry.db", "")
	d.wants("usr/bin/tidemill-agent", "x")
}

// The kit of a device with a package installs both onto a card, again changes nothing,
// and goes before what a kit without a package wrote.
func TestKitOnACard(t *testing.T) {
	b, d := begin(t), newTarget(t)
	kit := t.TempDir()
	script, err := os.ReadFile(filepath.Join(b.root, "bridge/cli/install.sh"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(written(t, b, "tidemill-agent", "v1.0.0", small(t)))
	if err != nil {
		t.Fatal(err)
	}
	k := target{t, kit}
	k.write("tidemill-agent_armhf.deb", string(text)) // amd64's, whose processor nobody asks here
	for name, text := range map[string]string{"key.pem": "a key", "cert.pem": "a certificate", "ca.pem": "a CA",
		"agent.toml": "thing = \"pi-1\"\n"} {
		k.write("etc/"+name, text)
	}
	k.write("install", string(script))
	status, err := os.OpenFile(filepath.Join(d.root, "var/lib/dpkg/status"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = status.WriteString("Package: dpkg\nStatus: install ok installed\nMaintainer: none <none@localhost>\n" +
		"Architecture: armhf\nVersion: 1.21\nDescription: stands for it\n\n")
	if err := errors.Join(err, status.Close()); err != nil {
		t.Fatal(err)
	}
	d.write("etc/systemd/system/tidemill-agent.service", "of a kit without a package")
	need(t, "dpkg")
	install := func() string { return ran(t, nil, "sh", filepath.Join(kit, "install"), "--root", d.root) }
	if out := install(); !strings.Contains(out, "installs  tidemill-agent 1.0.0-1") ||
		!strings.Contains(out, "removed   /etc/systemd/system/tidemill-agent.service") {
		t.Errorf("the first time:\n%s", out)
	}
	d.wants("etc/tidemill/key.pem", "a key")
	d.wants("etc/passwd", "tidemill-agent:x:")
	d.wants("var/lib/dpkg/status", "Package: tidemill-agent")
	d.wants("etc/systemd/system/tidemill-agent.service", "")
	if out := install(); strings.Contains(out, "written") || strings.Contains(out, "installs") {
		t.Errorf("again:\n%s", out)
	}
}
