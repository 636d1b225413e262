package parts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// An apt is Debian's package tool with a state of its own.
type apt struct {
	dir string
}

// stable is the suite that the parts are of: QEMU 10's build for it runs on this
// release and its libraries.
const stable = "bookworm"

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// newApt makes the state below dir and reads the lists of packages of p's architecture.
func newApt(ctx context.Context, dir string, p Part, mirror string) (*apt, error) {
	a := &apt{dir: dir}
	for _, tool := range []string{"apt-get", "apt-cache", "dpkg", "dpkg-deb", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w: parts come by Debian's tools", err)
		}
	}
	arch := p.Arch
	if arch == "" {
		out, err := output(ctx, exec.CommandContext(ctx, "dpkg", "--print-architecture"))
		if err != nil {
			return nil, err
		}
		arch = strings.TrimSpace(out)
	}
	for _, sub := range []string{"lists/partial", "cache/archives/partial", "parts"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	// What this machine has installed need not be fetched; for another architecture
	// it has nothing.
	status := "/var/lib/dpkg/status"
	if !p.With {
		status = filepath.Join(dir, "status")
		if err := os.WriteFile(status, nil, 0o600); err != nil {
			return nil, err
		}
	}
	if err := a.configure(arch, status, p.Suite, mirror); err != nil {
		return nil, err
	}
	// An index that is not had is a warning to apt, and an error to us.
	_, err := a.run(ctx, "apt-get", "update", "-qq", "-o", "APT::Update::Error-Mode=any")
	return a, err
}

// configure writes apt's configuration and where packages come from.
func (a *apt) configure(arch, status, suite, mirror string) error {
	var sources strings.Builder
	suites := []string{"/debian " + stable, "/debian " + stable + "-updates", "/debian-security " + stable +
		"-security"}
	if suite != "" {
		suites = append(suites, "/debian "+suite)
	}
	for _, of := range suites {
		fmt.Fprintf(&sources, "deb [signed-by=%s] %s%s main\n", keyring, mirror, of)
	}
	config := fmt.Sprintf(`APT::Architecture %q;
APT::Architectures { %q; };
APT::Sandbox::User "";
APT::Update::Post-Invoke-Success "";
Dir::State %q;
Dir::State::status %q;
Dir::State::lists %q;
Dir::Cache %q;
Dir::Etc::sourcelist %q;
Dir::Etc::sourceparts %q;
Dir::Etc::preferencesparts %q;
Acquire::Languages "none";
Acquire::Retries "0";
`, arch, arch, a.dir, status, filepath.Join(a.dir, "lists"), filepath.Join(a.dir, "cache"),
		filepath.Join(a.dir, "sources.list"), filepath.Join(a.dir, "parts"), filepath.Join(a.dir, "parts"))
	return errors.Join(os.WriteFile(filepath.Join(a.dir, "apt.conf"), []byte(config), 0o600),
		os.WriteFile(filepath.Join(a.dir, "sources.list"), []byte(sources.String()), 0o600))
}

// fetch downloads the packages of p and returns the paths of the files, p's first.
func (a *apt) fetch(ctx context.Context, p Part) (debs []string, err error) {
	packages := p.Packages
	if p.Resolve {
		packages = nil
		for _, meta := range p.Packages {
			out, err := a.run(ctx, "apt-cache", "depends", "--important", meta)
			if err != nil {
				return nil, err
			}
			for line := range strings.Lines(out) {
				if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: "); ok {
					packages = append(packages, name)
				}
			}
		}
		if len(packages) == 0 {
			return nil, fmt.Errorf("%v depend on nothing", p.Packages)
		}
	}
	args := []string{"download"}
	if p.With {
		args = []string{"install", "--download-only", "--no-install-recommends", "--yes", "-qq"}
	}
	if p.Suite != "" {
		args = append(args, "--target-release", p.Suite)
	}
	if _, err := a.run(ctx, "apt-get", append(args, packages...)...); err != nil {
		return nil, err
	}
	debs, _ = filepath.Glob(filepath.Join(a.dir, "*.deb")) // the patterns are well formed
	more, _ := filepath.Glob(filepath.Join(a.dir, "cache", "archives", "*.deb"))
	debs = append(debs, more...)
	slices.SortStableFunc(debs, func(x, y string) int { return rank(x, packages) - rank(y, packages) })
	if len(debs) == 0 || rank(debs[0], packages) > 0 {
		return nil, fmt.Errorf("apt brought no %s: is it installed already?", packages[0])
	}
	return debs, nil
}

// rank is the place of a file's package in packages, or their number.
func rank(deb string, packages []string) int {
	name, _, _ := strings.Cut(filepath.Base(deb), "_")
	if i := slices.Index(packages, name); i >= 0 {
		return i
	}
	return len(packages)
}

// packageOf is name_version_arch of a package's file.
func packageOf(deb string) string {
	name := strings.TrimSuffix(filepath.Base(deb), ".deb")
	if plain, err := url.PathUnescape(name); err == nil {
		return plain
	}
	return name
}

// belongs says whether a package is one that p is about, not a library beside it.
func belongs(name string, p Part) bool {
	return p.Resolve || slices.ContainsFunc(p.Packages, func(q string) bool { return strings.HasPrefix(name, q+"_") })
}

// unpack adds what is in the package's file to root.
func unpack(ctx context.Context, deb, root string, without []string) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	args := []string{"-x", "-C", root, "--no-same-owner", "-f", "-"}
	for _, w := range without {
		args = append(args, "--exclude="+w)
	}
	from, to := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb), exec.CommandContext(ctx, "tar", args...)
	pipe, err := from.StdoutPipe()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	to.Stdin, to.Stderr, from.Stderr = pipe, &said, &said
	if err := from.Start(); err != nil {
		return err
	}
	err = to.Run()
	if err := errors.Join(err, from.Wait()); err != nil {
		return fmt.Errorf("unpack %s: %w: %s", filepath.Base(deb), err, said.Bytes())
	}
	return nil
}

// run runs one of apt's programs in its folder and returns what it printed.
func (a *apt) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive")
	return output(ctx, cmd)
}

// output runs a command and returns what it printed, or an error that has what it said.
func output(ctx context.Context, cmd *exec.Cmd) (string, error) {
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args[:min(2, len(cmd.Args))], " "), err,
			bytes.TrimSpace(said.Bytes()))
	}
	return out.String(), nil
}
