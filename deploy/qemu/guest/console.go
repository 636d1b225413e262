package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A command on the console is one line, "@ID ARGUMENTS", where ARGUMENTS is a JSON list of
// texts: those of tidemill-agent, whose configuration is added, or ["poweroff"]. The answer is
// "@ID> BASE64" for each part of what it printed, and "@ID= CODE" at its end. So kernel and
// agent may print beside it.
const (
	chunk        = 512         // bytes of output a line
	commandLimit = time.Minute // that a command may take
	outputLimit  = 256 << 10   // bytes of its output that are told
)

// console takes commands until one ends the machine, or the console cannot be read.
func console() error {
	plain(int(os.Stdin.Fd()))
	say("ready")
	sc := bufio.NewScanner(os.Stdin)
	for sc.Scan() {
		head, list, ok := strings.Cut(strings.TrimSpace(sc.Text()), " ")
		var args []string
		if !ok || !strings.HasPrefix(head, "@") || json.Unmarshal([]byte(list), &args) != nil || len(args) == 0 {
			continue // noise of the line
		}
		if args[0] == "poweroff" {
			fmt.Printf("%s= 0\n", head)
			return errPowerOff
		}
		code, out := execute(args)
		for len(out) > 0 {
			n := min(chunk, len(out))
			fmt.Printf("%s> %s\n", head, base64.StdEncoding.EncodeToString(out[:n]))
			out = out[n:]
		}
		fmt.Printf("%s= %d\n", head, code)
	}
	return errors.Join(errors.New("the console ended"), sc.Err())
}

// execute runs the agent's program with these arguments.
func execute(args []string) (code int, out []byte) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, agent, append(args, "-config", config)...).CombinedOutput()
	out = out[:min(len(out), outputLimit)]
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), out
	} else if err != nil {
		return -1, []byte(err.Error())
	}
	return 0, out
}

// plain has a terminal neither repeat what it gets nor add to what it is given.
func plain(fd int) {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return // no terminal
	}
	t.Lflag &^= unix.ECHO | unix.ECHONL
	t.Oflag &^= unix.OPOST
	_ = unix.IoctlSetTermios(fd, unix.TCSETS, t)
}
