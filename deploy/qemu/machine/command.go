package machine

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Run runs a command of the device's tidemill-agent over the console, such as "status", with the
// device's configuration, and returns what it printed. It works while the link is
// cut. The device must have said that it is ready.
func (m *Machine) Run(ctx context.Context, args ...string) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, err := m.dial(ctx, consoleSocket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	list, err := json.Marshal(args)
	if err != nil {
		return "", err
	}
	m.number++
	// The first line end is for what a command that was given up left there.
	if _, err := fmt.Fprintf(c, "\n@%d %s\n", m.number, list); err != nil {
		return "", fmt.Errorf("console: %w", err)
	}
	code, text, err := reply(bufio.NewScanner(c), m.number)
	if err != nil {
		return "", fmt.Errorf("%v on the device: %w", args, err)
	}
	if code != 0 {
		return text, fmt.Errorf("%v on the device: exit %d: %s", args, code, text)
	}
	return text, nil
}

// reply reads the answer to command number n among all else that is printed. Its form
// is in deploy/qemu/guest.
func reply(sc *bufio.Scanner, n int) (code int, text string, err error) {
	var b strings.Builder
	part, end := fmt.Sprintf("@%d> ", n), fmt.Sprintf("@%d= ", n)
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if text, ok := strings.CutPrefix(line, part); ok {
			raw, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return 0, "", fmt.Errorf("console: %w", err)
			}
			b.Write(raw)
		} else if text, ok := strings.CutPrefix(line, end); ok {
			code, err := strconv.Atoi(text)
			return code, b.String(), err
		}
	}
	if err := sc.Err(); err != nil {
		return 0, "", fmt.Errorf("console: %w", err)
	}
	return 0, "", fmt.Errorf("console: it ended")
}
