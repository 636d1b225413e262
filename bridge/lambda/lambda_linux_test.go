package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
	"github.com/tidemill/tidemill/deploy/await"
)

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
				limit := func(timeout time.Duration, revision string) {
					all.mu.Lock()
					defer all.mu.Unlock()
					changed := *all.all["echo"]
					changed.Timeout, changed.Revision = timeout, revision
					all.all["echo"] = &changed
				}
				long := all.all["echo"].Timeout
				limit(500*time.Millisecond, "short")
				began := time.Now()
				r = invoke(t, m, "echo", `{"do":"sleep"}`)
				if !strings.Contains(string(r.Payload), `Sandbox.Timedout`) ||
					!strings.Contains(string(r.Payload), "Task timed out after 0.50 seconds") ||
					time.Since(began) > 10*time.Second {
					t.Errorf("%s %s", r.Failed, r.Payload)
				}
				limit(long, "long") // a call may take longer on a busy machine
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

// Python runs wherever it is installed: with the machine's programs, and in an environment that is
// based on those, also one below the folder that is the function's own.
func TestInstalledPython(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin")
	need(t, "python3")
	venv, linked := filepath.Join(t.TempDir(), "venv"), filepath.Join(t.TempDir(), "linked")
	if out, err := exec.Command("python3", "-m", "venv", "--without-pip", venv).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Symlink(venv, linked); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"machine": "/usr/bin", "root": "/bin",
		"environment": venv + "/bin:/usr/bin", "link": linked + "/bin:/usr/bin"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", path)
			m, all := newManager(t, sandbox.Options{}, Options{})
			all.put(t, Function{Name: "f", Runtime: "python3.99", Handler: "app.handler", Reserved: -1},
				map[string]string{"app.py": "import os, sys\ndef handler(e, c): return [sys.prefix, os.listdir('/')]"})
			r := invoke(t, m, "f", "{}")
			if r.Failed != "" || strings.Contains(string(r.Payload), `"root"`) && m.box.Means().Isolated() {
				t.Fatalf("%s %s\n%s", r.Failed, r.Payload, r.Log)
			}
			if dir, _, _ := strings.Cut(path, "/bin:"); dir != path && !strings.Contains(string(r.Payload), dir) {
				t.Errorf("%s, want the environment %s", r.Payload, dir)
			}
		})
	}
}

// What a function logs by Python's module has level, time and the request's id, as AWS's runtime
// writes it, from the level on that the function sets.
func TestPythonLogging(t *testing.T) {
	need(t, "python3")
	m, all := newManager(t, sandbox.Options{}, Options{})
	all.put(t, Function{Name: "f", Runtime: "python3.11", Handler: "app.handler", Reserved: -1},
		map[string]string{"app.py": `
import logging
logging.getLogger().warning("at the start")
logger = logging.getLogger("mine")
def handler(e, c):
    logging.getLogger().info("not wanted")
    logger.setLevel(logging.INFO)
    logger.info("level %d", 7)
    logging.basicConfig(level=logging.DEBUG, format="%(message)s, twice")
    logging.warning("low")
    try:
        1 / 0
    except ZeroDivisionError:
        logger.exception("divided")
`})
	r := invoke(t, m, "f", "{}")
	const at = `\t\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t`
	for _, want := range []string{`(?m)^\[INFO\]` + at + `id-1\tlevel 7$`, `(?m)^\[WARNING\]` + at + `id-1\tlow$`,
		`(?m)^\[WARNING\]` + at + `\tat the start$`, `(?ms)^\[ERROR\]` + at + `id-1\tdivided$.*^ZeroDivisionError`} {
		if !regexp.MustCompile(want).Match(r.Log) {
			t.Errorf("want %s in\n%s", want, r.Log)
		}
	}
	if strings.Contains(string(r.Log), "not wanted") || strings.Contains(string(r.Log), "twice") {
		t.Errorf("%s", r.Log)
	}
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
	m, all := newManager(t, sandbox.Options{}, Options{Idle: 3 * time.Second})
	put := func(answer string) {
		all.put(t, Function{Name: "f", Runtime: "python3.11", Handler: "app.handler", Reserved: -1},
			map[string]string{"app.py": "def handler(e, c): return '" + answer + "'"})
	}
	put("first")
	for range 20 {
		invoke(t, m, "f", "{}")
	}
	// A call is counted when its process is free again.
	await.True(t, "all are counted", func() bool { return m.Stats()["f"].Invocations == 20 })
	if s := m.Stats()["f"]; s.ColdStarts > 2 {
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
