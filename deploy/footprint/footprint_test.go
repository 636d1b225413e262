package footprint

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/nightly"
)

// maxResident is what the agent may have of memory with ten sensors at 10 Hz, in KiB:
// 15 MB. Pages of the program that were read belong to it.
const maxResident = 15_000_000 / 1024

// TestResident runs the agent with ten simulated sensors at 10 Hz and a broker that is
// not there, so that it keeps all, and looks at its memory as the kernel counts it.
func TestResident(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the agent for seconds")
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "tidemill-agent")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, "./agent")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	conf := filepath.Join(dir, "agent.toml")
	if err := os.WriteFile(conf, []byte(config(dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := exec.CommandContext(t.Context(), bin, "run", "--config", conf)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	agent.Stdout, agent.Stderr = log, log
	agent.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		_ = agent.Wait()
		if text, _ := os.ReadFile(log.Name()); t.Failed() {
			t.Logf("%s", text)
		}
	})
	status := filepath.Join("/proc", strconv.Itoa(agent.Process.Pid), "status")
	span := time.Duration(nightly.Or(10, 120)) * time.Second
	time.Sleep(span) // what is measured is time that passes
	text, err := os.ReadFile(status)
	if err != nil {
		t.Fatal(err)
	}
	resident, most := field(t, string(text), "VmRSS:"), field(t, string(text), "VmHWM:")
	readings := taken(t, bin, conf)
	t.Logf("after %v %d readings, resident %d KiB, at most %d KiB, want at most %d KiB", span, readings, resident,
		most, maxResident)
	if readings < int(span/time.Second)*50 { // half of what is asked for, on a busy machine
		t.Errorf("%d readings in %v, want 100 a second", readings, span)
	}
	if most > maxResident {
		t.Errorf("resident %d KiB, want at most %d KiB", most, maxResident)
	}
}

// config has ten sensors at 10 Hz on the simulated board.
func config(dir string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "thing = \"foot\"\ndata_dir = %q\n[board]\nkind = \"sim\"\nchips = [\"sht4x\", ",
		filepath.Join(dir, "d"))
	for i := range 8 {
		fmt.Fprintf(&b, "\"tmp102@0x%x@/dev/i2c-%d\", ", 0x48+i%4, 2+i/4)
	}
	b.WriteString("]\n[uplink]\nendpoint = \"127.0.0.1:1\"\nsecurity = \"plaintext\"\nformat = \"json\"\n[shadow]\nenabled = false\n")
	sensor := func(name, driver, bus string, address int) {
		fmt.Fprintf(&b, "[[sensor]]\nname = %q\ndriver = %q\nevery = \"100ms\"\n[sensor.options]\nbus = %q\naddress = 0x%x\n",
			name, driver, bus, address)
	}
	sensor("a", "bme280", "/dev/i2c-1", 0x76)
	sensor("b", "sht4x", "/dev/i2c-1", 0x44)
	for i := range 8 {
		sensor(fmt.Sprintf("t%d", i), "tmp102", fmt.Sprintf("/dev/i2c-%d", 2+i/4), 0x48+i%4)
	}
	return b.String()
}

// field is a number of /proc/PID/status, in KiB.
func field(t *testing.T, text, name string) int {
	t.Helper()
	_, rest, _ := strings.Cut(text, name)
	if f := strings.Fields(rest); len(f) > 0 {
		if n, err := strconv.Atoi(f[0]); err == nil {
			return n
		}
	}
	t.Fatalf("no %s in\n%s", name, text)
	return 0
}

// taken is how many readings the agent took, by its status.
func taken(t *testing.T, bin, conf string) (n int) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), bin, "status", "--config", conf, "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var status struct{ Sensors []struct{ Readings int } }
	if err := json.Unmarshal(out, &status); err != nil {
		t.Fatal(err)
	}
	for _, sn := range status.Sensors {
		n += sn.Readings
	}
	return n
}
