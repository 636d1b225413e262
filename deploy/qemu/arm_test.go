package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/tidemill/tidemill/deploy/nightly"
	"github.com/tidemill/tidemill/deploy/qemu/parts"
	"github.com/tidemill/tidemill/deploy/rig"
)

// words are the tests of the gate, of packages that the size of a word or the order of bytes
// could concern: what is encoded and decoded, in files, on the wire and by chips.
const words = "^(TestRoundTrip|TestRandomRoundTrip|TestGolden|TestAppendJSON|TestInvalid|TestCorrupt|TestAnswerTime|" +
	"TestTornMeta|TestModel|TestNewerFormat|TestScanAcrossWindows|TestVectors|TestThermocouples|TestCPUTimes|" +
	"TestMemory|TestMerge.*|TestNumbersAreComparedByValue|FuzzDecode|FuzzAppend|FuzzCheck|FuzzParse)$"

// TestARM runs the device's tests as programs for arm64 and ARMv6: some in the gate, all of
// them in make nightly and make arm, but for those that start themselves again as a child,
// which they cannot without binfmt.
func TestARM(t *testing.T) {
	store := fetched(t, func(s *parts.Store) error {
		for arch := range parts.Users {
			if _, err := s.User(t.Context(), arch); err != nil {
				return err
			}
		}
		return nil
	})
	if err := rig.Look("../..", "agent", "hal", "shadow"); err != nil {
		t.Fatal(err)
	}
	args := []string{"-short", "-run", words, "./agent/telemetry", "./agent/spool", "./hal/sensor", "./shadow"}
	if nightly.Is() {
		args = []string{"-skip", "^(TestCrash|TestKill)$", "./agent/...", "./hal/...", "./shadow/..."}
	}
	for arch := range parts.Users {
		t.Run(arch, func(t *testing.T) {
			emulator, err := store.User(t.Context(), arch)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "go", append([]string{"test", "-exec", emulator}, args...)...)
			cmd.Dir = "../.."
			cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "GOARM=6", "CGO_ENABLED=0")
			out, err := cmd.CombinedOutput()
			if t.Logf("%s", out); err != nil {
				t.Error(err)
			}
		})
	}
}
