package sandbox

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tidemill/tidemill/deploy/await"
)

// modes are all ways to separate processes; those that are not to be had on this
// machine are left out.
func modes(t *testing.T, f func(t *testing.T, s *Sandbox)) {
	for name, o := range map[string]Options{
		"best": {}, "user": {User: true, NoCgroup: true}, "plain": {Plain: true}, "plain, watched": {Plain: true,
			NoCgroup: true},
	} {
		t.Run(name, func(t *testing.T) {
			o.Dir, o.Log = t.TempDir(), slog.New(slog.DiscardHandler)
			s, err := Open(o)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			if !o.Plain && !s.Means().Isolated() {
				t.Skip("the kernel gives no namespaces:", s.Means().Why)
			}
			t.Log(s.Means())
			f(t, s)
		})
	}
}

// A buffer takes the output of a process.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// shell runs a script of sh in a folder with the file hello.
func shell(t *testing.T, s *Sandbox, memory int64, script string) (*Process, *buffer) {
	t.Helper()
	dir, out := t.TempDir(), &buffer{}
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := s.Start(Spec{Argv: []string{"/bin/sh", "-c", script}, Env: []string{"A=b", "PATH=/usr/bin:/bin"},
		Task: dir, Memory: memory}, out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); <-p.Done() })
	return p, out
}

func TestOutputAndEnd(t *testing.T) {
	modes(t, func(t *testing.T, s *Sandbox) {
		p, out := shell(t, s, 128<<20, "cat hello; echo $A >&2; exit 3")
		<-p.Done()
		if out.String() != "hello\nb\n" || p.Err().Status != 3 || p.Err().Error() != "exit status 3" {
			t.Errorf("%q, %v", out, p.Err())
		}
		p, _ = shell(t, s, 128<<20, "kill -KILL $$; sleep 60")
		if !s.Means().Isolated() { // the first of a namespace cannot kill itself
			<-p.Done()
			if p.Err().Error() != "signal: SIGKILL" {
				t.Error(p.Err())
			}
		}
	})
}

// What cannot be started says so.
func TestNoProgram(t *testing.T) {
	modes(t, func(t *testing.T, s *Sandbox) {
		_, err := s.Start(Spec{Argv: []string{"/no/such"}, Task: t.TempDir()}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Error(err)
		}
	})
}

// Where there are namespaces, a process sees nothing of the machine: no file that
// is not the system's, no other process, no network.
func TestIsolation(t *testing.T) {
	modes(t, func(t *testing.T, s *Sandbox) {
		if !s.Means().Isolated() {
			t.Skip("no namespaces")
		}
		secret := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		for script, want := range map[string]string{
			"cat " + secret + " 2>/dev/null || echo none":                "none",
			"ls /root /home 2>/dev/null; ls -d /etc/shadow 2>&1 | wc -l": "1",
			"echo x > /var/task/new; echo x > /usr/new; ls /var/task":    "hello",
			"echo x > /tmp/new && cat /tmp/new":                          "x",
			"ls /proc | grep -c '^[0-9]'":                                "", // few; below
			"grep -c : /proc/net/dev":                                    "1",
			"grep NoNewPrivs /proc/self/status":                          "NoNewPrivs:\t1",
			"grep CapEff /proc/self/status":                              "CapEff:\t0000000000000000",
			"grep CapPrm /proc/self/status":                              "CapPrm:\t0000000000000000",
			"grep Seccomp: /proc/self/status":                            "Seccomp:\t2",
			"unshare -Ur true 2>/dev/null || echo no":                    "no",
			"mount -t tmpfs none /tmp 2>/dev/null || echo no":            "no",
			"pwd": "/var/task",
			"env | grep -v PWD= | sort | tr '\\n' ' '": "A=b PATH=/usr/bin:/bin",
		} {
			p, out := shell(t, s, 256<<20, script)
			<-p.Done()
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			got := lines[len(lines)-1]
			if n, err := strconv.Atoi(got); want == "" && (err != nil || n > 6) || want != "" && got != want {
				t.Errorf("%s: %q, want %q", script, out, want)
			}
		}
	})
}

// A process is served over a listener in its own network, which nobody else has.
func TestListen(t *testing.T) {
	modes(t, func(t *testing.T, s *Sandbox) {
		if !s.Means().Isolated() {
			_, err := s.Start(Spec{Argv: []string{"/bin/true"}, Listen: []string{"127.0.0.1:9001"}}, io.Discard)
			if err == nil {
				t.Error("it listens in the network of all")
			}
			return
		}
		out := &buffer{}
		p, err := s.Start(Spec{Argv: []string{"/usr/bin/python3", "-c",
			"import urllib.request as r; print(r.urlopen('http://127.0.0.1:9001/').read().decode())"},
			Task: t.TempDir(), Listen: []string{"127.0.0.1:9001", "127.0.0.1:9002"}}, out)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Listeners) != 2 {
			t.Fatal(p.Listeners)
		}
		served := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, "served")
		})}
		go func() { _ = served.Serve(p.Listeners[0]) }()
		<-p.Done()
		_ = served.Close()
		_ = p.Listeners[1].Close()
		if out.String() != "served\n" {
			t.Error(out)
		}
	})
}

// A process that takes more memory than it may have is killed, and it is known why.
func TestOutOfMemory(t *testing.T) {
	modes(t, func(t *testing.T, s *Sandbox) {
		out := &buffer{}
		p, err := s.Start(Spec{Argv: []string{"/usr/bin/python3", "-c",
			"import time; b = b'x' * (180 << 20); time.sleep(60)"}, Task: t.TempDir(), Memory: 128 << 20}, out)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.Done():
		case <-time.After(30 * time.Second):
			t.Fatal("it lives")
		}
		if !p.OutOfMemory() || p.Peak() < 100<<20 {
			t.Errorf("out of memory: %v, peak %d MiB: %s", p.OutOfMemory(), p.Peak()>>20, out)
		}
	})
}

// A fork bomb stays bounded, and all of it ends with the process.
func TestForkBomb(t *testing.T) {
	modes(t, func(t *testing.T, s *Sandbox) {
		if s.Means().Cgroup == "" && !s.Means().Isolated() {
			t.Skip("nothing bounds the number of processes here")
		}
		p, _ := shell(t, s, 256<<20, "b() { b | b & }; b; sleep 60")
		time.Sleep(500 * time.Millisecond) // the time that a bomb has
		p.Kill()
		select {
		case <-p.Done():
		case <-time.After(20 * time.Second):
			t.Fatal("it lives")
		}
	})
}

func TestFreeze(t *testing.T) {
	modes(t, func(t *testing.T, s *Sandbox) {
		p, out := shell(t, s, 128<<20, "while :; do echo; sleep 0.01; done")
		for out.String() == "" {
			time.Sleep(time.Millisecond)
		}
		p.Freeze()
		time.Sleep(50 * time.Millisecond) // what is under way
		p.Drain()
		before := len(out.String())
		time.Sleep(100 * time.Millisecond)
		p.Drain()
		if after := len(out.String()); after != before {
			t.Errorf("frozen, it wrote %d lines", after-before)
		}
		p.Thaw()
		for len(out.String()) == before {
			time.Sleep(time.Millisecond)
		}
		p.Freeze()
		p.Kill()
		<-p.Done() // a frozen one can be killed
	})
}

// TestKilledBridge kills the program that started processes; they end with it.
func TestKilledBridge(t *testing.T) {
	if mode := os.Getenv("SANDBOX_TEST_BRIDGE"); mode != "" {
		s, err := Open(Options{Dir: os.Getenv("SANDBOX_TEST_DIR"), Plain: mode == "plain", User: mode == "user",
			NoCgroup: mode == "user"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Start(Spec{Argv: []string{"/bin/sh", "-c", "sleep 600 & exec sleep 601"},
			Task: os.Getenv("SANDBOX_TEST_DIR")}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("started")
		select {}
	}
	for _, mode := range []string{"best", "user", "plain"} {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledBridge$")
		cmd.Env = append(os.Environ(), "SANDBOX_TEST_BRIDGE="+mode, "SANDBOX_TEST_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if n, err := out.Read(make([]byte, 8)); err != nil || n == 0 {
			t.Fatal(n, err)
		}
		children := descendants(cmd.Process.Pid)
		if len(children) == 0 {
			t.Fatal("no process was started")
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		await.True(t, mode+": all are gone", func() bool {
			for i, pid := range children {
				if mode == "plain" && i > 0 {
					continue // of a plain process its children outlive it
				}
				if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil &&
					!strings.Contains(string(text), ") Z ") {
					return false
				}
			}
			return true
		})
		for _, pid := range children {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func descendants(pid int) (all []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for c := range strings.FieldsSeq(string(text)) {
			n, _ := strconv.Atoi(c)
			all = append(append(all, n), descendants(n)...)
		}
	}
	return all
}
