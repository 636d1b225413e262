package lambda

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
	"github.com/tidemill/tidemill/deploy/counterpart"
)

// ric is AWS's own client of the Runtime API for Python, a native program.
const ric = "awslambdaric==4.2.2"

// A function that brings AWS's own client runs, answers, fails and ends as with the
// bridge's bootstrap.
func TestOfficialPythonClient(t *testing.T) {
	code, err := filepath.Glob(filepath.Join(counterpart.Python(t, ric), "..", "lib", "python3*", "site-packages"))
	if err != nil || len(code) != 1 {
		t.Fatal(code, err)
	}
	task := t.TempDir()
	if out, err := exec.Command("cp", "-r", code[0]+"/.", task).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, text := range map[string]string{"app.py": pythonEcho,
		"bootstrap": "#!/bin/sh\nexec /usr/bin/python3 -m awslambdaric \"$_HANDLER\"\n"} {
		if err := os.WriteFile(filepath.Join(task, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, box := range map[string]sandbox.Options{"isolated": {}, "plain": {Plain: true, NoCgroup: true}} {
		t.Run(name, func(t *testing.T) {
			m, all := newManager(t, box, Options{})
			all.putDir(Function{Name: "echo", Runtime: "provided.al2023", Handler: "app.handler", Reserved: -1}, task)
			for n := 1; n <= 2; n++ {
				r := invoke(t, m, "echo", `{"a":1}`)
				if !strings.Contains(string(r.Payload), fmt.Sprintf(`"n": %d`, n)) || r.Failed != "" {
					t.Fatalf("%s %s\n%s", r.Failed, r.Payload, r.Log)
				}
			}
			r := invoke(t, m, "echo", `{"do":"fail"}`)
			if r.Failed != "Unhandled" || !strings.Contains(string(r.Payload), `"errorType": "ValueError"`) {
				t.Errorf("%s %s", r.Failed, r.Payload)
			}
			if r = invoke(t, m, "echo", `{"do":"exit"}`); !strings.Contains(string(r.Payload), "exit status 7") {
				t.Errorf("%s %s", r.Failed, r.Payload)
			}
			all.putDir(Function{Name: "echo", Runtime: "provided.al2023", Handler: "none.handler", Reserved: -1}, task)
			if r = invoke(t, m, "echo", `{}`); !strings.Contains(string(r.Payload), "Runtime.ImportModuleError") {
				t.Errorf("%s %s\n%s", r.Failed, r.Payload, r.Log)
			}
		})
	}
}
