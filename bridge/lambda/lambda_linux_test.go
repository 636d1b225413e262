package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda/bootstrap"
	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
	"github.com/tidemill/tidemill/deploy/await"
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

// A function in each language answers, fails, ends and takes too long, and is
// there again after each.
func TestLanguages(t *testing.T) {
	for name, put := range kinds(t) {
		t.Run(name, func(t *testing.T) {
			modes(t, func(t *testing.T, m *Manager, all *fixed) {
				put(t, all)
				for n := 1; n <= 3; n++ { // one process, called again
					r := invoke(t, m, "echo", `{"a":[1,"\u00e9"]}`)
					var got struct {
						Event map[string][]any
						N     int
						Left  bool
						ARN   string
					}
					if err := json.Unmarshal(r.Payload, &got); err != nil || r.Failed != "" || got.N != n ||
						!got.Left || len(got.Event["a"]) != 2 || got.Event["a"][1] != "é" ||
						got.ARN != "arn:aws:lambda:eu-local-1:000000000000:function:echo" {
						t.Fatalf("%v: %s %s\n%s", err, r.Failed, r.Payload, r.Log)
					}
					log := string(r.Log)
					for _, line := range []string{"START RequestId: id-1 Version: $LATEST\n", "called id-1\n",
						"END RequestId: id-1\nREPORT RequestId: id-1\tDuration: ",
						" ms\tMemory Size: 256 MB\tMax Memory Used: "} {
						if !strings.Contains(log, line) {
							t.Errorf("the log lacks %q:\n%s", line, log)
						}
					}
					if strings.Contains(log, "Init Duration") != (n == 1) {
						t.Errorf("call %d: %s", n, log)
					}
				}
				r := invoke(t, m, "echo", `{"do":"fail"}`)
				if r.Failed != "Unhandled" || !strings.Contains(string(r.Payload), "no good") ||
					!strings.Contains(string(r.Payload), "rrorType") {
					t.Errorf("%s %s", r.Failed, r.Payload)
				}
				r = invoke(t, m, "echo", `{"do":"exit"}`)
				want := `{"errorType":"Runtime.ExitError",` +
					`"errorMessage":"RequestId: id-1 Error: Runtime exited with error: exit status 7"}`
				if string(r.Payload) != want {
					t.Errorf("%s %s, want %s", r.Failed, r.Payload, want)
				}
				if r = invoke(t, m, "echo", `{}`); r.Failed != "" || !strings.Contains(string(r.Payload), `"n":`) {
					t.Errorf("after its end: %s %s", r.Failed, r.Payload)
				}
				all.mu.Lock()
				short := *all.all["echo"]
				short.Timeout, short.Revision = 500*time.Millisecond, "short"
				all.all["echo"] = &short
				all.mu.Unlock()
				began := time.Now()
				r = invoke(t, m, "echo", `{"do":"sleep"}`)
				if !strings.Contains(string(r.Payload), `Sandbox.Timedout`) ||
					!strings.Contains(string(r.Payload), "Task timed out after 0.50 seconds") ||
					time.Since(began) > 10*time.Second {
					t.Errorf("%s %s", r.Failed, r.Payload)
				}
				if r = invoke(t, m, "echo", `{}`); r.Failed != "" {
					t.Errorf("after a time-out: %s %s", r.Failed, r.Payload)
				}
			})
		})
	}
}

// What goes wrong at the start is told to the caller.
func TestStartErrors(t *testing.T) {
	need(t, "python3")
	need(t, "node")
	modes(t, func(t *testing.T, m *Manager, all *fixed) {
		for _, c := range []struct {
			runtime, handler, file, text, want string
		}{
			{"python3.11", "app.handler", "app.py", "import nothing_like_it", "Runtime.ImportModuleError"},
			{"python3.11", "app.handler", "app.py", "x = 1", "Runtime.HandlerNotFound"},
			{"python3.11", "app.handler", "app.py", "1/0", "ZeroDivisionError"},
			{"python3.11", "app.handler", "app.py", "import sys; sys.exit(3)", "SystemExit"},
			{"nodejs20.x", "app.handler", "app.mjs", "throw new TypeError('x')", "TypeError"},
			{"nodejs20.x", "app.handler", "app.mjs", "export const x = 1", "Runtime.HandlerNotFound"},
			{"nodejs20.x", "none.handler", "app.mjs", "", "Runtime.ImportModuleError"},
			{"provided.al2023", "any", "bootstrap", "#!/bin/sh\nexit 4\n", "Runtime exited with error: exit status 4"},
			{"provided.al2023", "any", "bootstrap", "#!/bin/sh\nexit 0\n", "Runtime exited without providing a reason"},
			{"provided.al2023", "any", "other", "", "Runtime.InvalidEntrypoint"},
			{"provided.al2023", "any", "bootstrap", "#!/no/such\n", "Runtime.InvalidEntrypoint"},
		} {
			all.put(t, Function{Name: "f", Runtime: c.runtime, Handler: c.handler, Reserved: -1},
				map[string]string{c.file: c.text})
			if r := invoke(t, m, "f", "{}"); r.Failed != "Unhandled" || !strings.Contains(string(r.Payload), c.want) {
				t.Errorf("%s %q: %s %s, want %s\n%s", c.runtime, c.text, r.Failed, r.Payload, c.want, r.Log)
			}
		}
	})
}

// A function has what the guide says in its environment, and nothing of the bridge's.
func TestEnvironment(t *testing.T) {
	t.Setenv("BRIDGE_SECRET", "x")
	modes(t, func(t *testing.T, m *Manager, all *fixed) {
		need(t, "python3")
		all.put(t, Function{Name: "env", Runtime: "python3.11", Handler: "app.handler", Memory: 300, Reserved: -1,
			Environment: map[string]string{"MINE": "1", "TZ": "Europe/Berlin"}},
			map[string]string{"app.py": "import os\ndef handler(e, c): return dict(os.environ)"})
		got := string(invoke(t, m, "env", "").Payload)
		for _, want := range []string{`"MINE": "1"`, `"TZ": "Europe/Berlin"`, `"_HANDLER": "app.handler"`,
			`"AWS_REGION": "eu-local-1"`, `"AWS_EXECUTION_ENV": "AWS_Lambda_python3.11"`,
			`"AWS_LAMBDA_FUNCTION_NAME": "env"`, `"AWS_LAMBDA_FUNCTION_VERSION": "$LATEST"`,
			`"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "300"`, `"_X_AMZN_TRACE_ID": "Root=`,
			`"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/env"`, `"LAMBDA_TASK_ROOT": "/`} {
			if !strings.Contains(got, want) {
				t.Errorf("%s is not in %s", want, got)
			}
		}
		if strings.Contains(got, "BRIDGE_SECRET") || strings.Contains(got, `"HOME"`) {
			t.Errorf("the bridge's environment: %s", got)
		}
	})
}

// Calls at once have a process each, as far as concurrency goes; then they are
// throttled. An idle process of another function makes room.
func TestConcurrency(t *testing.T) {
	need(t, "python3")
	m, all := newManager(t, sandbox.Options{}, Options{Concurrency: 3})
	text := map[string]string{"app.py": "import time\ndef handler(e, c): time.sleep(e.get('s', 0)); return 1"}
	all.put(t, Function{Name: "free", Runtime: "python3.11", Handler: "app.handler", Reserved: -1}, text)
	all.put(t, Function{Name: "one", Runtime: "python3.11", Handler: "app.handler", Reserved: 1}, text)
	all.put(t, Function{Name: "none", Runtime: "python3.11", Handler: "app.handler", Reserved: 0}, text)
	call := func(name string, seconds float64) error {
		_, err := m.Call(context.Background(), Call{Function: name, Payload: fmt.Appendf(nil, `{"s":%v}`, seconds)})
		return err
	}
	reason := func(err error) string {
		if e, ok := errors.AsType[*ThrottledError](err); ok {
			return e.Reason
		}
		return fmt.Sprint(err)
	}
	if r := reason(call("none", 0)); r != ReasonReserved {
		t.Error("reserved 0:", r)
	}
	var calls sync.WaitGroup
	var errs [3]error
	for n, name := range []string{"free", "free", "one"} {
		calls.Go(func() { errs[n] = call(name, 2) })
	}
	await.True(t, "three calls", func() bool {
		s := m.Stats()
		return s["free"].Concurrent == 2 && s["one"].Concurrent == 1
	})
	if r := reason(call("free", 0)); r != ReasonAll {
		t.Error("a third of those that share:", r)
	}
	if r := reason(call("one", 0)); r != ReasonReserved {
		t.Error("a second of one:", r)
	}
	calls.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Error(err)
	}
	all.put(t, Function{Name: "other", Runtime: "python3.11", Handler: "app.handler", Reserved: -1}, text)
	if err := call("other", 0); err != nil {
		t.Error("where others are idle:", err)
	}
	s := m.Stats()
	if n := s["free"].Processes + s["one"].Processes + s["other"].Processes; n != 3 || s["free"].Throttles != 1 {
		t.Errorf("%d processes, %+v", n, s)
	}
}

// Who calls one after the other finds the same process; one that is idle for long
// is ended; a new revision has new processes.
func TestReuseAndIdle(t *testing.T) {
	need(t, "python3")
	m, all := newManager(t, sandbox.Options{}, Options{Idle: 300 * time.Millisecond})
	put := func(answer string) {
		all.put(t, Function{Name: "f", Runtime: "python3.11", Handler: "app.handler", Reserved: -1},
			map[string]string{"app.py": "def handler(e, c): return '" + answer + "'"})
	}
	put("first")
	for range 20 {
		invoke(t, m, "f", "{}")
	}
	if s := m.Stats()["f"]; s.ColdStarts > 2 || s.Invocations != 20 {
		t.Errorf("%+v", s)
	}
	put("second")
	if r := invoke(t, m, "f", "{}"); string(r.Payload) != `"second"` {
		t.Errorf("%s", r.Payload)
	}
	await.True(t, "it ends", func() bool { return m.Stats()["f"].Processes == 0 })
	invoke(t, m, "f", "{}")
	// Frozen meanwhile, it goes on when it is called.
	time.Sleep(2 * freezeAfter)
	invoke(t, m, "f", "{}")
}

// A process cannot answer for another call than its own, nor read another
// function's files.
func TestOthersCalls(t *testing.T) {
	need(t, "python3")
	m, all := newManager(t, sandbox.Options{}, Options{})
	all.put(t, Function{Name: "evil", Runtime: "python3.11", Handler: "app.handler", Reserved: -1},
		map[string]string{"app.py": `
import os, urllib.request, urllib.error
def handler(event, context):
    said = []
    for path in ["invocation/id-of-another/response", "invocation/" + context.aws_request_id + "/response"] * 2:
        try:
            api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/"
            r = urllib.request.urlopen(api + path, b'"early"')
            said.append(r.status)
        except urllib.error.HTTPError as e:
            said.append(e.code)
    print("said", said)
    return "late"
`})
	r := invoke(t, m, "evil", "{}")
	if string(r.Payload) != `"early"` {
		t.Errorf("%s %s", r.Failed, r.Payload)
	}
	// Its client does not see that its own answer is refused: the next call goes on.
	r = invoke(t, m, "evil", "{}")
	if !strings.Contains(string(r.Log), "said [400, 202, 400, 403]") && string(r.Payload) != `"early"` {
		t.Errorf("%s %s", r.Payload, r.Log)
	}
}

// What a function takes too much of ends the function, and nothing else.
func TestOutOfBounds(t *testing.T) {
	need(t, "python3")
	modes(t, func(t *testing.T, m *Manager, all *fixed) {
		all.put(t, Function{Name: "f", Runtime: "python3.11", Handler: "app.handler", Memory: 128, Reserved: -1},
			map[string]string{"app.py": `
import os, time
def handler(event, context):
    if event["do"] == "memory":
        hog = []
        while True:
            hog.append(b"x" * (8 << 20))
            time.sleep(0.02)
    if event["do"] == "large":
        return "x" * (6 << 20 | 200)
    if event["do"] == "log":
        for n in range(100000):
            print("line", n)
        return "logged"
`})
		r := invoke(t, m, "f", `{"do":"memory"}`)
		if !strings.Contains(string(r.Payload), "Runtime.OutOfMemory") &&
			!strings.Contains(string(r.Payload), "MemoryError") {
			t.Errorf("memory: %s", r.Payload)
		}
		r = invoke(t, m, "f", `{"do":"large"}`)
		if !strings.Contains(string(r.Payload), "Function.ResponseSizeTooLarge") {
			t.Errorf("large: %.200s", r.Payload)
		}
		r = invoke(t, m, "f", `{"do":"log"}`)
		if len(r.Log) != TailSize || !strings.Contains(string(r.Log), "line 99999\n") {
			t.Errorf("%d bytes of log: %s", len(r.Log), r.Log)
		}
	})
}

func TestRefused(t *testing.T) {
	m, all := newManager(t, sandbox.Options{Plain: true}, Options{})
	all.put(t, Function{Name: "f", Runtime: "provided.al2023", Reserved: -1},
		map[string]string{"bootstrap": "#!/bin/sh\n"})
	for _, c := range []struct {
		name, payload string
		want          error
	}{
		{"none", "{}", ErrNotFound},
		{"f", "{", ErrPayload},
		{"f", `"` + strings.Repeat("x", MaxPayload) + `"`, ErrTooLarge},
	} {
		if _, _, err := m.Invoke(t.Context(), c.name, "", []byte(c.payload), ""); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	m.o.Unsafe = false
	if _, _, err := m.Invoke(t.Context(), "f", "", nil, ""); !errors.Is(err, ErrNotIsolated) {
		t.Error(err)
	}
}

func TestCheckEnvironment(t *testing.T) {
	for name, ok := range map[string]bool{"MINE": true, "AWS_REGION": false, "_HANDLER": false, "9X": false, "A": false,
		"_X": false, "A B": false, "TZ": true} {
		if err := CheckEnvironment(map[string]string{name: "x"}); (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if CheckEnvironment(map[string]string{"AA": strings.Repeat("x", maxEnvironment)}) == nil {
		t.Error("too much")
	}
}

// BenchmarkWarm measures calls of a process that runs, with the time of each, by the client of
// AWS for Go.
func BenchmarkWarm(b *testing.B) {
	m, all := newManager(b, sandbox.Options{}, Options{Log: func(string) io.Writer { return io.Discard }})
	all.putDir(Function{Name: "echo", Runtime: "provided.al2023", Handler: "any", Reserved: -1}, goEcho(b))
	invoke(b, m, "echo", "{}")
	var took []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		if r := invoke(b, m, "echo", `{"a":1}`); r.Failed != "" {
			b.Fatalf("%s", r.Payload)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/p99")
}
