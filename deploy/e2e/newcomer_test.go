package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/rig"
)

// firstHour is the README's block of commands for a laptop.
var firstHour = regexp.MustCompile("(?s)<!-- TestNewcomer -->\n```\n(.*?)```")

// TestNewcomer types what the README tells somebody with a laptop, as a user
// with an empty home, and sees readings of a simulated sensor: within two
// minutes of the programs' start, on a machine that is not busy within seconds.
func TestNewcomer(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := firstHour.FindSubmatch(readme)
	if block == nil {
		t.Fatal("the README has no block of commands after <!-- TestNewcomer -->")
	}
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	// A home of its own, owned by somebody who is not root; short, for the socket.
	home, err := os.MkdirTemp("", "new")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	programs := filepath.Dir(bin.Bridge)
	cred := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() == 0 {
		const nobody = 65534
		cred.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		for _, err := range []error{os.Chown(home, nobody, nobody), os.Chmod(programs, 0o755)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	// The ports of the defaults may be taken here.
	env := []string{"HOME=" + home, "PATH=" + programs + ":/usr/bin:/bin"}
	admin := ""
	for _, name := range []string{"MQTT", "HTTPS", "ADMIN"} {
		if admin, err = rig.FreePort(); err != nil {
			t.Fatal(err)
		}
		env = append(env, "TIDEMILL_BRIDGE_"+name+"_LISTEN="+admin)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	var logs []string
	command := func(line string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+line)
		cmd.Dir, cmd.Env, cmd.SysProcAttr = home, env, cred
		return cmd
	}
	began, shown := time.Time{}, 0
	for line := range strings.Lines(string(block[1])) {
		line, comment, _ := strings.Cut(strings.TrimSpace(line), "  #")
		switch {
		case line == "":
		case strings.Contains(comment, "stays"):
			if began.IsZero() {
				began = time.Now()
			}
			p := command(line)
			log, err := os.Create(filepath.Join(t.TempDir(), "log"))
			if err != nil {
				t.Fatal(err)
			}
			logs = append(logs, log.Name())
			p.Stdout, p.Stderr = log, log
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = p.Process.Signal(syscall.SIGTERM)
				_ = p.Wait()
				log.Close()
			})
			if strings.HasPrefix(line, "tidemill-bridge serve") {
				err := rig.Until(ctx, "the bridge", func() (bool, error) {
					resp, err := http.Get("http://" + admin + "/readyz")
					if err != nil {
						return false, err
					}
					resp.Body.Close()
					return resp.StatusCode == http.StatusOK, fmt.Errorf("%s", resp.Status)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		case strings.HasPrefix(line, "tidemill-bridge watch"):
			out, err := command(line + " -n 3").CombinedOutput()
			if err != nil {
				for _, l := range logs {
					text, _ := os.ReadFile(l)
					t.Logf("--- %s", text)
				}
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
			t.Logf("%v after the start:\n%s", time.Since(began).Round(time.Millisecond), out)
			if want := regexp.MustCompile(
				`(?m)^\d\d:\d\d:\d\d\.\d+ +\S+ +dt/\S+/climate  \{"ts":\d+,"temperature":-?[0-9.]+,`); !want.Match(
				out) {
				t.Errorf("%s shows no reading", line)
			}
			shown++
		default:
			if out, err := command(line).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", line, err, out)
			}
		}
	}
	if shown == 0 {
		t.Error("the README's commands show nothing")
	}
	if entries, err := os.ReadDir(filepath.Join(home, ".local", "state", "tidemill-bridge")); err != nil ||
		len(entries) == 0 {
		t.Errorf("the bridge's data is not in the user's place: %v, %v", entries, err)
	}
}
