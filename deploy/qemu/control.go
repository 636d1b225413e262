package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/deploy/qemu/machine"
)

// socketName is where a run takes requests, in its folder: one line of JSON, a request, is
// answered by one, a reply.
const socketName = "control.sock"

// A request is a command with its words.
type request struct {
	Command string        `json:"command"`
	Words   []string      `json:"words,omitempty"`
	For     time.Duration `json:"for,omitempty"` // of cuts
}

type reply struct {
	Text  string `json:"text,omitempty"`
	Error string `json:"error,omitempty"`
}

const (
	knobLimit    = 2 * time.Minute
	requestLimit = 64 << 10 // bytes of a line
)

// knob sends the command to the run of the folder -dir.
func knob(ctx context.Context, c *call) error {
	r := request{Command: c.flags.Name()}
	dir := c.flags.String("dir", defaultDir, "`folder` of the run")
	if strings.HasPrefix(r.Command, "cut ") {
		c.flags.DurationVar(&r.For, "for", 10*time.Second, "how long it is away")
	}
	var err error
	if r.Words, err = c.parse(0, 100); err != nil {
		return err
	}
	if _, err := turn(r.Command, r.Words); err != nil {
		return usageError(err.Error())
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(*dir, socketName))
	if err != nil {
		return fmt.Errorf("%w: `qemu run` has to run in %s", err, *dir)
	}
	defer conn.Close()
	err = errors.Join(conn.SetDeadline(time.Now().Add(r.For+knobLimit)), json.NewEncoder(conn).Encode(r))
	if err != nil {
		return err
	}
	var a reply
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return err
	}
	fmt.Fprint(c.stdout, a.Text)
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return nil
}

// A turner does what a request asks for.
type turner func(ctx context.Context, m *machine.Machine, pause time.Duration) (text string, err error)

// turn returns what a command with these words does.
func turn(command string, words []string) (turner, error) {
	want := map[string]int{"set temperature": 2, "set input": 2, "read line": 1}[command]
	if command != "exec" && len(words) != want || command == "exec" && len(words) == 0 {
		return nil, fmt.Errorf("%d words; try -h", len(words))
	}
	switch command {
	case "set temperature":
		celsius, err := strconv.ParseFloat(words[1], 64)
		return func(ctx context.Context, m *machine.Machine, _ time.Duration) (string, error) {
			return "", m.SetTemperature(ctx, words[0], celsius)
		}, err
	case "set input":
		line, err := strconv.Atoi(words[0])
		high, err2 := strconv.ParseBool(words[1])
		return func(ctx context.Context, m *machine.Machine, _ time.Duration) (string, error) {
			return "", m.SetInput(ctx, line, high)
		}, errors.Join(err, err2)
	case "read line":
		line, err := strconv.Atoi(words[0])
		return func(ctx context.Context, m *machine.Machine, _ time.Duration) (string, error) {
			high, err := m.Level(ctx, line)
			return fmt.Sprintln(high), err
		}, err
	case "cut power":
		return cutPower, nil
	case "cut link":
		return cutLink, nil
	case "exec":
		return func(ctx context.Context, m *machine.Machine, _ time.Duration) (string, error) {
			return m.Run(ctx, words...)
		}, nil
	}
	return nil, fmt.Errorf("no such command: %s", command)
}

func cutPower(ctx context.Context, m *machine.Machine, pause time.Duration) (string, error) {
	m.PowerCut()
	wait(ctx, pause)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	return fmt.Sprintf("the power is back after %v\n", pause), m.On()
}

func cutLink(ctx context.Context, m *machine.Machine, pause time.Duration) (string, error) {
	if err := m.SetLink(ctx, false); err != nil {
		return "", err
	}
	wait(ctx, pause)
	return fmt.Sprintf("the link is back after %v\n", pause), m.SetLink(context.WithoutCancel(ctx), true)
}

func wait(ctx context.Context, pause time.Duration) {
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
}

// A control takes requests for a machine.
type control struct {
	l   net.Listener
	m   *machine.Machine
	out io.Writer
}

func listen(dir string, m *machine.Machine, out io.Writer) (*control, error) {
	l, err := net.Listen("unix", filepath.Join(dir, socketName)) // the folder is its owner's alone
	return &control{l: l, m: m, out: out}, err
}

// serve answers requests until ctx ends.
func (c *control) serve(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { c.l.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := c.l.Accept()
		if err != nil {
			return // closed
		}
		wg.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			text, err := c.answer(ctx, conn)
			a := reply{Text: text}
			if err != nil {
				a.Error = err.Error()
			}
			_ = json.NewEncoder(conn).Encode(a) // whoever asked has gone
		})
	}
}

func (c *control) answer(ctx context.Context, conn net.Conn) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(conn, requestLimit)).ReadBytes('\n')
	if err != nil {
		return "", err
	}
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return "", err
	}
	do, err := turn(r.Command, r.Words)
	if err != nil {
		return "", err
	}
	fmt.Fprintln(c.out, "--", r.Command, strings.Join(r.Words, " "))
	ctx, cancel := context.WithTimeout(ctx, max(0, r.For)+knobLimit)
	defer cancel()
	return do(ctx, c.m, r.For)
}
