package main

import (
	"context"
	"os"
	"os/exec"
	"testing"

	"github.com/tidemill/tidemill/deploy/nightly"
	"github.com/tidemill/tidemill/deploy/qemu/parts"
)

// TestARM runs the device's tests as programs for arm64 and ARMv6: in the gate those of
// packages that care for the size of a word or the order of bytes.
func TestARM(t *testing.T) {
	store := fetched(t, func(s *parts.Store) error {
		for arch := range parts.Users {
			if _, err := s.User(t.Context(), arch); err != nil {
				return err
			}
		}
		return nil
	})
	packages, skip := []string{"./agent/telemetry", "./agent/spool", "./hal/sensor/...", "./shadow"}, slow+"|"+children
	if nightly.Is() {
		packages, skip = []string{"./agent/...", "./hal/...", "./shadow/..."}, children
	}
	for arch := range parts.Users {
		t.Run(arch, func(t *testing.T) {
			emulator, err := store.User(t.Context(), arch)
			if err != nil {
				t.Fatal(err)
			}
			cmd := armTests(t.Context(), arch, emulator, skip, packages)
			cmd.Dir = "../.."
			out, err := cmd.CombinedOutput()
			if t.Logf("%s", out); err != nil {
				t.Error(err)
			}
		})
	}
}

// Tests by name that start themselves again as a child, which they cannot without binfmt, and
// those that take seconds on the host and so a minute in an emulator.
const (
	children = "TestCrash|TestKill"
	slow     = "TestBuilderFull|TestRetime|TestSalvage.*|TestTornPages|TestAppendNextAck|TestModelOverflow|TestDropOldest"
)

// armTests is how tests run for an architecture.
func armTests(ctx context.Context, arch, emulator, skip string, packages []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-short", "-exec", emulator, "-skip",
		"^(" + skip + ")$"}, packages...)...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "GOARM=6", "CGO_ENABLED=0")
	return cmd
}
