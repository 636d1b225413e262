package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	command = regexp.MustCompile(`(?m)^ExecStart(Pre)?=\S+`)
	account = regexp.MustCompile(`(?m)^(User|Group|SupplementaryGroups)=.*\n`)
)

// threshold is the most exposure that systemd-analyze security may see, in
// tenths.
const threshold = "20"

func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("systemd-analyze is missing: install Debian's package systemd")
		}
		t.Skip("systemd-analyze is missing: install Debian's package systemd")
	}
	units, err := filepath.Glob("*.service")
	if err != nil || len(units) < 2 {
		t.Fatalf("units %v, %v", units, err)
	}
	for _, unit := range units {
		t.Run(unit, func(t *testing.T) {
			text, err := os.ReadFile(unit)
			if err != nil {
				t.Fatal(err)
			}
			// The program is not installed here, nor are its users.
			text = command.ReplaceAll(text, []byte("ExecStart${1}=/bin/true"))
			text = account.ReplaceAll(text, nil)
			path := filepath.Join(t.TempDir(), unit)
			if err := os.WriteFile(path, text, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(analyze, "verify", "--man=no", path).CombinedOutput()
			if err != nil || strings.Contains(string(out), unit+":") {
				t.Errorf("verify: %v\n%s", err, out)
			}
			whole := filepath.Join(t.TempDir(), unit)
			orig, _ := os.ReadFile(unit)
			if err := os.WriteFile(whole, orig, 0o644); err != nil {
				t.Fatal(err)
			}
			out, err = exec.Command(analyze, "security", "--no-pager", "--offline=true", "--threshold="+threshold,
				whole).CombinedOutput()
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			t.Log(lines[len(lines)-1])
			if err != nil {
				t.Errorf("security: %v\n%s", err, out)
			}
		})
	}
}

// A timer starts a service of its name, and its times are ones that systemd reads.
func TestTimers(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is missing: install Debian's package systemd") // TestUnits fails in CI
	}
	timers, err := filepath.Glob("*.timer")
	if err != nil || len(timers) == 0 {
		t.Fatalf("timers %v, %v", timers, err)
	}
	for _, timer := range timers {
		dir := t.TempDir()
		for _, name := range []string{timer, strings.TrimSuffix(timer, ".timer") + ".service"} {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text = command.ReplaceAll(text, []byte("ExecStart${1}=/bin/true"))
			text = account.ReplaceAll(text, nil)
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command(analyze, "verify", "--man=no", filepath.Join(dir, timer)).CombinedOutput()
		if err != nil || strings.Contains(string(out), timer+":") {
			t.Errorf("%s: %v\n%s", timer, err, out)
		}
	}
}

func TestAccountsExist(t *testing.T) {
	users, err := os.ReadFile("tidemill.sysusers")
	if err != nil {
		t.Fatal(err)
	}
	units, _ := filepath.Glob("*.service")
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range account.FindAllString(string(text), -1) {
			_, names, _ := strings.Cut(strings.TrimSpace(line), "=")
			for _, name := range strings.Fields(names) {
				if !regexp.MustCompile(`(?m)^[ug] ` + name + ` `).Match(users) {
					t.Errorf("%s needs %s, which tidemill.sysusers does not make", unit, name)
				}
			}
		}
	}
}

// Whatever ends a program, systemd starts it again, without a limit; and both
// read their configuration anew when asked to.
func TestUnitsStayUp(t *testing.T) {
	units, _ := filepath.Glob("*.service")
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\nType=notify\n") {
			continue // it ends by itself, and a timer starts it
		}
		for _, line := range []string{"Restart=always", "StartLimitIntervalSec=0",
			"ExecReload=/bin/kill -HUP $MAINPID"} {
			if !strings.Contains(string(text), "\n"+line+"\n") {
				t.Errorf("%s: no %s", unit, line)
			}
		}
	}
}

// A core dump would hold keys; a program that grows takes itself down and not
// the machine; and what every service may do without, each does without.
func TestHardened(t *testing.T) {
	units, _ := filepath.Glob("*.service")
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"LimitCORE=0", "MemoryMax=", "UMask=0077", "NoNewPrivileges=yes",
			"CapabilityBoundingSet=\n", "ProtectSystem=strict", "ProtectHome=yes",
			"PrivateTmp=yes", "PrivateMounts=yes", "RemoveIPC=yes", "RestrictNamespaces=yes",
			"MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service", "StateDirectoryMode=0700"} {
			if !strings.Contains(string(text), "\n"+want) {
				t.Errorf("%s: no %s", unit, strings.TrimSpace(want))
			}
		}
	}
}
