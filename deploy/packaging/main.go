// Packaging builds both programs and writes them as Debian packages, one for each
// processor: `make deb` runs it in the project's root.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// An arch is one of Debian's, with what Go calls it. armhf is built for ARMv6, so
// that the package is for every Raspberry Pi.
type arch struct {
	name string
	env  []string
	link string // what the linker is told beside
}

var arches = []arch{
	{"arm64", []string{"GOARCH=arm64"}, ""},
	{"armhf", []string{"GOARCH=arm", "GOARM=6"}, armLink},
	{"amd64", []string{"GOARCH=amd64"}, ""},
}

// armLink aligns the program's parts to the largest page of a kernel that runs it, the
// 16 KiB of a Raspberry Pi 5, and not to 64: `make cross` does so too.
const armLink = " -R 16384"

// A build says what to build, and where to.
type build struct {
	version string    // as git describe tells it
	time    time.Time // of the commit
	root    string    // of the project
	out     string    // folder
	level   int       // of gzip
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := build{root: ".", level: 9}
	flag.StringVar(&b.version, "version", "dev", "of the programs")
	flag.StringVar(&b.out, "out", "bin", "`folder` for the packages")
	of := flag.String("arch", "arm64,armhf,amd64", "for which of Debian's processors")
	flag.Parse()
	if err := run(ctx, b, strings.Split(*of, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "packaging:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, b build, of []string) (err error) {
	if b.time, err = commitTime(ctx, b.root); err != nil {
		return err
	}
	var agents, all []string
	for _, name := range of {
		program, err := b.program(ctx, "tidemill-agent", name)
		if err != nil {
			return err
		}
		path, err := b.write(b.agent(ctx, name, program))
		if err != nil {
			return err
		}
		agents = append(agents, path)
	}
	all = append(all, agents...)
	for _, name := range of {
		program, err := b.program(ctx, "tidemill-bridge", name)
		if err != nil {
			return err
		}
		path, err := b.write(b.bridge(ctx, name, program, agents))
		if err != nil {
			return err
		}
		all = append(all, path)
	}
	for _, path := range all {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		fmt.Printf("%d bytes  %s\n", info.Size(), path)
	}
	return nil
}

// commitTime is when what is built was committed: the same for all who build it.
func commitTime(ctx context.Context, root string) (time.Time, error) {
	cmd := exec.CommandContext(ctx, "git", "log", "-1", "--format=%cI")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return time.Time{}, fmt.Errorf("git log: %w", err)
	}
	t, err := time.Parse(time.RFC3339, strings.TrimSpace(string(out)))
	return t.UTC(), err
}

// program builds one of the programs, in a folder that stays: the go command links
// it anew only when it changed.
func (b *build) program(ctx context.Context, name, of string) (path string, err error) {
	i := slices.IndexFunc(arches, func(a arch) bool { return a.name == of })
	if i < 0 {
		return "", fmt.Errorf("processor %q, want arm64, armhf or amd64", of)
	}
	if path, err = filepath.Abs(filepath.Join(b.out, "package-"+of, name)); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags",
		"-s -w -X main.version="+b.version+arches[i].link, "-o", path, "./"+strings.TrimPrefix(name, "tidemill-"))
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	cmd.Env = append(cmd.Env, arches[i].env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s for %s: %w\n%s", name, of, err, out)
	}
	return path, nil
}

// write writes a package, and puts it in place when it is whole.
func (b *build) write(p *pack, err error) (path string, _ error) {
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	if err := p.deb.Write(&text); err != nil {
		return "", err
	}
	path = filepath.Join(b.out, fmt.Sprintf("%s_%s_%s.deb", p.name, debianVersion(b.version, b.time), p.arch))
	part := path + ".part"
	return path, errors.Join(os.WriteFile(part, text.Bytes(), 0o644), os.Rename(part, path))
}
