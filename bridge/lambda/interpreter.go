package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda/bootstrap"
)

// Runtimes says whether a runtime is served: programs of their own, Python and
// Node.js.
func Runtimes(name string) bool {
	return name == "provided.al2023" || name == "provided.al2" ||
		strings.HasPrefix(name, "python3.") || strings.HasPrefix(name, "nodejs") && strings.HasSuffix(name, ".x")
}

// An interpreter is a program of this machine's that runs handlers.
type interpreter struct {
	Path   string   // of the program itself
	Reads  []string // folders of its own libraries
	Actual string   // its version
}

// interpreters are found when they are first wanted.
type interpreters struct {
	mu    sync.Mutex // held while a program is asked what it is
	found map[string]*interpreter
}

// Scripts that say what an interpreter is, as JSON.
const (
	// Links may lead out of the folders: what they lead to is read, too.
	aboutPython = `import json, os, platform, sys
reads = [sys.prefix, sys.base_prefix]
reads += [os.path.realpath(p) for p in reads + [sys.executable]]
print(json.dumps({"Path": sys.executable, "Reads": reads, "Actual": platform.python_version()}))`
	aboutNode = `const path = process.execPath;
console.log(JSON.stringify({Path: path, Reads: [path], Actual: process.version}));`
)

// askFor is how long an interpreter may take to say what it is.
const askFor = 20 * time.Second

// find returns the interpreter of a runtime: the one of the very version if PATH
// has it (python3.12), else the standard one.
func (in *interpreters) find(name string) (*interpreter, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if i := in.found[name]; i != nil {
		return i, nil
	}
	names, about := []string{name, "python3"}, []string{"-c", aboutPython}
	if strings.HasPrefix(name, "nodejs") {
		names, about = []string{"node", "nodejs"}, []string{"-e", aboutNode}
	}
	var last error
	for _, program := range names {
		path, err := exec.LookPath(program)
		if err != nil {
			last = err
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), askFor)
		out, err := exec.CommandContext(ctx, path, about...).Output()
		cancel()
		i := &interpreter{}
		if err == nil {
			err = json.Unmarshal(out, i)
		}
		if err != nil {
			last = fmt.Errorf("%s: %w", path, err)
			continue
		}
		if in.found == nil {
			in.found = map[string]*interpreter{}
		}
		in.found[name] = i
		return i, nil
	}
	return nil, fmt.Errorf("lambda: runtime %s: %w", name, last)
}

// program returns how a function's process is started.
func (m *Manager) program(f *Function, p place) (argv, reads []string, err error) {
	if strings.HasPrefix(f.Runtime, "provided") {
		return []string{p.task + "/bootstrap"}, nil, nil
	}
	i, err := m.interpreters.find(f.Runtime)
	if err != nil {
		return nil, nil, err
	}
	if strings.HasPrefix(f.Runtime, "python") {
		// Without files of its own beside the code, and without a buffer before its log.
		return []string{i.Path, "-B", "-u", p.runtime + "/" + bootstrap.Python}, i.Reads, nil
	}
	return []string{i.Path, p.runtime + "/" + bootstrap.Node}, i.Reads, nil
}
