package lambda

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda/bootstrap"
	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
)

// fixed are functions of a test.
type fixed struct {
	mu    sync.Mutex
	all   map[string]*Function
	opens int // folders that are open
}

// Function implements Functions.
func (x *fixed) Function(name, _ string) (*Function, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if f := x.all[name]; f != nil {
		return f, nil
	}
	return nil, ErrNotFound
}

// Reserved implements Functions.
func (x *fixed) Reserved() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.all {
		n += max(0, f.Reserved)
	}
	return n
}

// put adds a function with files, by name and text.
func (x *fixed) put(t testing.TB, f Function, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	x.putDir(f, dir)
}

func (x *fixed) putDir(f Function, dir string) {
	f.Version, f.Revision, f.ARN = "$LATEST", fmt.Sprint(time.Now().UnixNano()),
		"arn:aws:lambda:eu-local-1:000000000000:function:"+f.Name
	if f.Timeout == 0 {
		f.Timeout = 20 * time.Second
	}
	if f.Memory == 0 {
		f.Memory = 256
	}
	f.Open = func() (string, func(), error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.opens++
		return dir, func() { x.mu.Lock(); x.opens--; x.mu.Unlock() }, nil
	}
	x.mu.Lock()
	x.all[f.Name] = &f
	x.mu.Unlock()
}

// newManager runs a manager until the test ends.
func newManager(t testing.TB, box sandbox.Options, o Options) (*Manager, *fixed) {
	t.Helper()
	box.Dir, box.Log = t.TempDir(), slog.New(slog.DiscardHandler)
	s, err := sandbox.Open(box)
	if err != nil {
		t.Fatal(err)
	}
	all := &fixed{all: map[string]*Function{}}
	o.Functions, o.Sandbox, o.Unsafe, o.Region, o.Runtime = all, s, true, "eu-local-1", t.TempDir()
	o.Slog = slog.New(slog.DiscardHandler)
	if err := bootstrap.Write(o.Runtime); err != nil {
		t.Fatal(err)
	}
	m := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if all.opens != 0 {
			t.Errorf("%d folders are still open", all.opens)
		}
		_ = s.Close()
	})
	return m, all
}

// modes run a test with the best separation that is to be had, and without any.
func modes(t *testing.T, f func(t *testing.T, m *Manager, all *fixed)) {
	for name, box := range map[string]sandbox.Options{"isolated": {}, "plain": {Plain: true, NoCgroup: true}} {
		t.Run(name, func(t *testing.T) {
			m, all := newManager(t, box, Options{})
			f(t, m, all)
		})
	}
}

func invoke(t testing.TB, m *Manager, name, payload string) *Result {
	t.Helper()
	r, err := m.Call(t.Context(), Call{Function: name, Payload: []byte(payload), RequestID: "id-1"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// need skips a test whose interpreter is not on this machine, or fails it in CI.
func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// kinds are the same function in each language: it gives its event back with how
// often it was called.
func kinds(t *testing.T) map[string]func(*testing.T, *fixed) {
	return map[string]func(*testing.T, *fixed){
		"python": func(t *testing.T, all *fixed) {
			need(t, "python3")
			all.put(t, Function{Name: "echo", Runtime: "python3.11", Handler: "app.handler", Reserved: -1},
				map[string]string{"app.py": pythonEcho})
		},
		"node": func(t *testing.T, all *fixed) {
			need(t, "node")
			all.put(t, Function{Name: "echo", Runtime: "nodejs20.x", Handler: "app.handler", Reserved: -1},
				map[string]string{"app.mjs": nodeEcho})
		},
		"go": func(t *testing.T, all *fixed) {
			all.putDir(Function{Name: "echo", Runtime: "provided.al2023", Handler: "any", Reserved: -1}, goEcho(t))
		},
	}
}

const pythonEcho = `
import os, sys
n = 0
def handler(event, context):
    global n
    n += 1
    if event.get("do") == "fail":
        raise ValueError("no good")
    if event.get("do") == "exit":
        os._exit(7)
    if event.get("do") == "sleep":
        import time; time.sleep(60)
    print("called", context.aws_request_id)
    return {"event": event, "n": n, "left": context.get_remaining_time_in_millis() > 1000,
            "arn": context.invoked_function_arn}
`

const nodeEcho = `
let n = 0;
export const handler = async (event, context) => {
  n++;
  if (event.do === 'fail') throw new RangeError('no good');
  if (event.do === 'exit') process.exit(7);
  if (event.do === 'sleep') await new Promise((resolve) => setTimeout(resolve, 60000));
  console.log('called', context.awsRequestId);
  return { event, n, left: context.getRemainingTimeInMillis() > 1000, arn: context.invokedFunctionArn };
};
`

var buildGo struct {
	once sync.Once
	dir  string
	err  error
}

// goEcho builds lambdatest/echo once with AWS's own client for Go.
func goEcho(t testing.TB) string {
	t.Helper()
	buildGo.once.Do(func() {
		buildGo.dir, buildGo.err = os.MkdirTemp("", "tidemill-echo")
		if buildGo.err == nil {
			buildGo.err = os.Chmod(buildGo.dir, 0o755) // a function has a user of its own
		}
		if buildGo.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o",
			filepath.Join(buildGo.dir, "bootstrap"), "./lambdatest/echo")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			buildGo.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if buildGo.err != nil {
		t.Fatal(buildGo.err)
	}
	return buildGo.dir
}

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(buildGo.dir)
	os.Exit(code)
}
