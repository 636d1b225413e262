package parts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// The parts.
var (
	// QEMU is of the backports: the stable release's 7.2 has no I2C controller on
	// Raspberry Pis. It is run in place, beside whatever is installed.
	QEMU = Part{Name: "qemu", Packages: []string{"qemu-system-arm"}, With: true, Suite: stable + "-backports",
		Has: "usr/bin/qemu-system-aarch64", Without: notRead}
	// User runs programs for ARM, without a kernel.
	User = Part{Name: "qemu-user", Packages: []string{"qemu-user-static"}, Has: "usr/bin/qemu-arm-static",
		Without: append([]string{"./usr/bin/qemu-[!a]*", "./usr/bin/qemu-alpha*"}, notRead...)}
	// KernelARM64 is Debian's for 64-bit machines, KernelARMv6 that for the first
	// Raspberry Pis.
	KernelARM64 = Part{Name: "kernel-arm64", Arch: "arm64", Packages: []string{"linux-image-arm64"}, Resolve: true,
		Has: "boot/vmlinuz-*", Without: notPi}
	KernelARMv6 = Part{Name: "kernel-armv6", Arch: "armel", Packages: []string{"linux-image-rpi"}, Resolve: true,
		Has: "boot/vmlinuz-*", Without: notPi}
)

// All lists the parts.
var All = []Part{QEMU, KernelARM64, KernelARMv6, User}

var (
	notRead = []string{"./usr/share/doc", "./usr/share/man", "./usr/share/locale"}
	// notPi are modules of what no simulated Pi has: most of a kernel's package.
	notPi = append([]string{"./lib/modules/*/kernel/sound", "./lib/modules/*/kernel/drivers/gpu",
		"./lib/modules/*/kernel/drivers/media", "./lib/modules/*/kernel/drivers/infiniband",
		"./lib/modules/*/kernel/drivers/net/ethernet", "./lib/modules/*/kernel/drivers/net/wireless",
		"./lib/modules/*/kernel/drivers/scsi", "./lib/modules/*/kernel/drivers/staging"}, notRead...)
)

// An Emulator is a QEMU that can be started.
type Emulator struct {
	Program string
	Env     []string // added to a process's own
	Args    []string // before all others
	Version string
}

// leastQEMU is the first major version in Debian whose Raspberry Pis have I2C.
const leastQEMU = 10

// Emulator returns QEMU's program of a name such as qemu-system-aarch64: what PATH
// has, if that is new enough, else the part.
func (s *Store) Emulator(ctx context.Context, name string) (*Emulator, error) {
	if path, err := exec.LookPath(name); err == nil {
		e := &Emulator{Program: path}
		if err := e.ask(ctx); err == nil && e.major() >= leastQEMU {
			fmt.Fprintf(s.Log, "%-16s %s, %s\n", "qemu", e.Version, path)
			return e, nil
		}
	}
	dir, err := s.Get(ctx, QEMU, false)
	if err != nil {
		return nil, err
	}
	e := unpacked(dir, name)
	if err := e.ask(ctx); err == nil {
		return e, nil
	}
	// A library that was installed when the part was fetched is gone.
	if dir, err = s.Get(ctx, QEMU, true); err != nil {
		return nil, err
	}
	e = unpacked(dir, name)
	return e, e.ask(ctx)
}

// unpacked is how to start a QEMU in a folder that it was not built for.
func unpacked(dir, name string) *Emulator {
	libs, _ := filepath.Glob(filepath.Join(dir, "usr/lib/*-linux-gnu")) // the pattern is well formed
	more, _ := filepath.Glob(filepath.Join(dir, "lib/*-linux-gnu"))
	e := &Emulator{Program: filepath.Join(dir, "usr/bin", name), Args: []string{"-L", filepath.Join(dir,
		"usr/share/qemu")}}
	path := os.Getenv("LD_LIBRARY_PATH")
	for _, lib := range append(libs, more...) {
		path = lib + string(filepath.ListSeparator) + path
	}
	e.Env = append(e.Env, "LD_LIBRARY_PATH="+path)
	for _, lib := range libs {
		e.Env = append(e.Env, "QEMU_MODULE_DIR="+filepath.Join(lib, "qemu"))
		e.Args = append(e.Args, "-L", filepath.Join(lib, "qemu"))
	}
	return e
}

var versionLine = regexp.MustCompile(`version ([0-9]+)(\.[0-9.]+)?`)

// ask runs the emulator for its version.
func (e *Emulator) ask(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, e.Program, "--version")
	cmd.Env = append(os.Environ(), e.Env...)
	out, err := output(ctx, cmd)
	if err != nil {
		return err
	}
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return fmt.Errorf("%s tells no version: %q", e.Program, out)
	}
	e.Version = m[1] + m[2]
	return nil
}

// major is the first number of the version, 0 if there is none.
func (e *Emulator) major() (n int) {
	_, _ = fmt.Sscanf(e.Version, "%d", &n)
	return n
}

// Users are the emulators of programs, by GOARCH, with what each is told. An ARM 1176
// is the processor of the first Raspberry Pis; it knows nothing above ARMv6.
var Users = map[string]string{"arm64": "qemu-aarch64-static", "arm": "qemu-arm-static -cpu arm1176"}

// User returns the command that runs a program for a GOARCH, with its arguments in one text:
// of what PATH has, else of the part.
func (s *Store) User(ctx context.Context, goarch string) (command string, err error) {
	name, args, _ := strings.Cut(Users[goarch], " ")
	if name == "" {
		return "", fmt.Errorf("parts: no emulator for %q: want arm64 or arm", goarch)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		dir, err := s.Get(ctx, User, false)
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, "usr/bin", name)
	}
	return strings.TrimSpace(path + " " + args), nil
}
