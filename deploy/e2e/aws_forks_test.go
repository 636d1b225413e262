package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// An awsForks runs AWS's command line in forks of one Python process, which has
// loaded it: a command then takes a tenth of the time, and the tests run two
// hundred. nil: there is no such Python, as with version 2, which is one file.
type awsForks struct {
	mu  sync.Mutex // guards a question with its answer
	in  io.Writer
	out *os.File
	buf *bufio.Reader
}

var forks = sync.OnceValue(func() *awsForks {
	python := awsPython()
	if python == "" {
		return nil
	}
	cmd := exec.Command(python, "py/aws_forks.py", "iot", "iot-data", "kinesis", "firehose",
		"lambda")
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "AWS_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // closed with this process, which ends the other
	if err != nil {
		return nil
	}
	out, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return nil
	}
	return &awsForks{in: in, out: out.(*os.File), buf: bufio.NewReader(out)}
})

// awsPython is the interpreter that the program aws names in its first line, ""
// for none.
func awsPython() string {
	path, err := exec.LookPath("aws")
	if err != nil {
		return ""
	}
	if real, err := exec.Command("pyenv", "which", "aws").Output(); err == nil { // what PATH has is a script then
		path = strings.TrimSpace(string(real))
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	program, ok := strings.CutPrefix(string(line), "#!")
	if !ok || !strings.Contains(program, "python") {
		return ""
	}
	return strings.TrimSpace(program)
}

// run is one command; an exit status other than 0 is an error.
func (a *awsForks) run(env map[string]string, args ...string) (out []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	question, err := json.Marshal(map[string]any{"args": args, "env": env})
	if err != nil {
		return nil, err
	}
	if _, err := a.in.Write(append(question, '\n')); err != nil {
		return nil, err
	}
	if err := a.out.SetReadDeadline(time.Now().Add(2 * patience)); err != nil {
		return nil, err
	}
	line, err := a.buf.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("aws: no answer: %w", err)
	}
	var answer struct {
		Status int
		Out    string
	}
	if err := json.Unmarshal(line, &answer); err != nil {
		return nil, err
	}
	if answer.Status != 0 {
		err = fmt.Errorf("exit status %d", answer.Status)
	}
	return []byte(answer.Out), err
}
