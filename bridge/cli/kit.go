package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"debug/elf"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/deploy/systemd"
)

//go:embed install.sh
var installScript string

var thingKit = command{name: "thing kit", args: "NAME",
	summary: "create a thing, and one file with all that its device needs: agent, identity, configuration, unit, " +
		"and a script that installs them",
	example: `tidemill-bridge thing kit pi-1 -sensor bme280 -out - | ssh pi@pi-1 tar xz && ssh -t pi@pi-1 sudo pi-1/install
tidemill-bridge thing kit pi-1 -agent bin/tidemill-agent-linux-armv6
tidemill-bridge thing kit pi-1 -deb tidemill-agent_1.0.0-1_armhf.deb -out kit/ && sudo kit/install --root /media/card
scp pi-1.tar.gz pi@pi-1: && ssh -t pi@pi-1 'tar xzf pi-1.tar.gz && sudo pi-1/install'`,
	run: func(ctx context.Context, c *call) error {
		out := c.flags.String("out", "",
			"`file` to write, .tar.gz; a folder with / at its end; or - for standard output (default: NAME.tar.gz)")
		var agents []string
		c.flags.Func("agent", "tidemill-agent for the device, a `file`; for several kinds of device give several "+
			"(default: those of make cross and make install)",
			func(path string) error {
				agents = append(agents, path)
				return nil
			})
		var debs []string
		c.flags.Func("deb", "Debian package of the agent, a `file` of make deb, in place of -agent; for several kinds of device give several",
			func(path string) error {
				debs = append(debs, path)
				return nil
			})
		in := newThing(c)
		if err := c.parse(1, 1); err != nil {
			return err
		}
		in.Name, in.Data = c.args[0], "/var/lib/tidemill"
		folder := folderOf(in.Name)
		if *out == "" {
			*out = folder + ".tar.gz"
		}
		if *out != "-" && !strings.HasSuffix(*out, "/") && !strings.HasSuffix(*out, ".tar.gz") {
			return usagef("thing kit: -out %s: want a file that ends with .tar.gz, a folder that ends with /, or -",
				*out)
		}
		// Before a certificate is issued that nobody would have the key of.
		if _, err := os.Lstat(*out); err == nil {
			return fmt.Errorf("%s is there already; it is not overwritten: remove it, or name another with -out", *out)
		}
		if agents != nil && debs != nil {
			return usagef("thing kit: want -agent or -deb, not both")
		}
		files, kinds, err := programs(agents, debs)
		if err != nil {
			return err
		}
		files = append(files, kitFile{"install", 0o755, []byte(installScript)})
		return c.with(ctx, func(a *client) error {
			var id admin.Identity
			if err := a.do(ctx, "POST", "/v1/things", nil, in, &id); err != nil {
				return err
			}
			for i, text := range []string{id.Key, id.Certificate, id.CA, id.AgentConfig} {
				files = append(files, kitFile{"etc/" + identityFiles[i], 0o600, []byte(text)})
			}
			if err := writeKit(c.bytes(false), *out, folder, files); err != nil {
				return err
			}
			note := id.Note
			if len(kinds) == 0 {
				note = strings.TrimPrefix(note+
					"; there is no agent in it: name one with -agent, or have tidemill-agent in /usr/bin of the device",
					"; ")
			}
			next := "scp " + *out + " pi@DEVICE: && ssh -t pi@DEVICE 'tar xzf " + filepath.Base(*out) + " && sudo " +
				folder + "/install'"
			said := c.stdout
			switch {
			case *out == "-":
				said, next = c.stderr, "on the device: sudo "+folder+"/install"
			case strings.HasSuffix(*out, "/"):
				next = "on the device: sudo " + *out + "install"
			}
			_, err := fmt.Fprintf(
				said, "thing        %s\ncertificate  %s\nendpoint     %s\nagents       %s\n"+
					"written      %s, with the private key: for this device only\n%snext         %s\n",
				in.Name, id.CertificateID, id.Endpoint, strings.Join(kinds, ", "), *out, noteLine(note), next)
			return err
		})
	}}

// A kitFile is one file of a kit.
type kitFile struct {
	name string
	mode os.FileMode
	data []byte
}

// programs are the agents of a kit and what installs them: packages, or programs with
// units, users and rules beside. Without any named it is what is beside this program.
func programs(agents, debs []string) (files []kitFile, kinds []string, err error) {
	if agents == nil && debs == nil {
		if agents = beside("tidemill-agent-linux-*"); agents == nil {
			debs = beside("tidemill-agent_*.deb")
		}
	}
	if debs != nil {
		return packageFiles(debs)
	}
	if files, kinds, err = agentFiles(agents); err != nil {
		return nil, nil, err
	}
	for _, name := range []string{"tidemill-agent.service", "tidemill-agent-rotate.service",
		"tidemill-agent-rotate.timer", "60-tidemill.rules", "tidemill.sysusers"} {
		text, err := systemd.Files.ReadFile(name)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, kitFile{"systemd/" + name, 0o644, text})
	}
	return files, kinds, nil
}

// beside are the files for devices beside this program or in ../lib/tidemill.
func beside(pattern string) (all []string) {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	for _, dir := range []string{filepath.Dir(self), filepath.Join(filepath.Dir(self), "..", "lib", "tidemill")} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern)) // a pattern that is right
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// packageFiles reads the agent's packages, each for another processor, which Debian has
// at the end of their names. dpkg looks at what is in them.
func packageFiles(paths []string) (files []kitFile, kinds []string, err error) {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		name := strings.TrimSuffix(filepath.Base(path), ".deb")
		kind := name[strings.LastIndexByte(name, '_')+1:]
		if !bytes.HasPrefix(data, []byte("!<arch>\n")) || !strings.HasPrefix(name, "tidemill-agent_") ||
			!slices.Contains([]string{"arm64", "armhf", "amd64"}, kind) {
			return nil, nil, fmt.Errorf("%s: want a Debian package tidemill-agent_..._arm64.deb, armhf or amd64", path)
		}
		if slices.Contains(kinds, kind) {
			return nil, nil, fmt.Errorf("%s: a second package for %s", path, kind)
		}
		kinds = append(kinds, kind)
		files = append(files, kitFile{"tidemill-agent_" + kind + ".deb", 0o644, data})
	}
	return files, kinds, nil
}

// machines are the processors that an agent may be for, as the install script
// knows them.
var machines = map[elf.Machine]string{elf.EM_AARCH64: "arm64", elf.EM_ARM: "arm", elf.EM_X86_64: "amd64"}

// agentFiles reads agents, each for another processor.
func agentFiles(paths []string) (files []kitFile, kinds []string, err error) {
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, nil, err
		}
		f, err := elf.NewFile(bytes.NewReader(data))
		if err != nil {
			return nil, nil, fmt.Errorf("%s: no program for Linux: %w", path, err)
		}
		kind := machines[f.Machine]
		if kind == "" {
			return nil, nil, fmt.Errorf("%s: a program for %v, want one for arm, arm64 or amd64", path, f.Machine)
		}
		if slices.Contains(kinds, kind) {
			return nil, nil, fmt.Errorf("%s: a second program for %s", path, kind)
		}
		kinds = append(kinds, kind)
		files = append(files, kitFile{"tidemill-agent-" + kind, 0o755, data})
	}
	return files, kinds, nil
}

// writeKit writes files below folder into a .tar.gz, into the folder out, or
// for an out of - as a .tar.gz to stdout.
func writeKit(stdout io.Writer, out, folder string, files []kitFile) error {
	if strings.HasSuffix(out, "/") {
		for _, f := range files {
			path := filepath.Join(out, f.name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
			if err := writeNew(path, string(f.data)); err != nil {
				return err
			}
			if err := os.Chmod(path, f.mode); err != nil {
				return err
			}
		}
		return nil
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Name: folder + "/" + f.name, Mode: int64(f.mode), Size: int64(len(f.data)),
			ModTime: time.Now(), Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(w, bytes.NewReader(f.data)); err != nil {
			return err
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return err
	}
	if out == "-" {
		_, err := b.WriteTo(stdout)
		return err
	}
	return writeNew(out, b.String())
}
