// Command qemu runs a simulated Raspberry Pi with our agent on Debian's kernel, and
// turns its knobs. `make qemu` starts it; README.md has a session.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// A command is one or two words of the command line.
type command struct {
	name, words, summary, example string
	run                           func(ctx context.Context, c *call) error
}

// A call is a command with its flags, not parsed yet.
type call struct {
	flags  *flag.FlagSet
	args   []string
	stdout io.Writer
}

// defaultDir is the folder of a run that names none.
const defaultDir = "build/qemu"

var commands = []command{
	{"get", "", "fetch the parts: QEMU, kernels, emulators of programs; prints their versions",
		"qemu get\n  qemu get -update", get},
	{"initramfs", "FILE", "write the initramfs of a board with agent, /init and modules, in their order",
		"qemu initramfs device.cpio.gz\n  qemu initramfs -board raspi0 device.cpio.gz", initramfs},
	{"emulator", "GOARCH", "print the command that runs programs for arm64 or arm (ARMv6) on this machine",
		"GOARCH=arm64 go test -exec \"$(qemu emulator arm64)\" ./agent/spool", emulator},
	{"run", "", "start a bridge and a device, which is provisioned by claim, and show its readings",
		"qemu run\n  qemu run -board raspi0 -seconds 60", run},
	{"set temperature", "CHIP CELSIUS", "set what tmp105 measures; QEMU's dps310 always has the same air",
		"qemu set temperature tmp105 41.5\n  qemu set temperature tmp105 -3.25", knob},
	{"set input", "LINE LEVEL", "set the level, 0 or 1, of a GPIO line that the device reads",
		"qemu set input 17 1", knob},
	{"read line", "LINE", "read the level of a GPIO line from the pin registers", "qemu read line 27", knob},
	{"cut power", "", "kill the device, and start it again with the card as it is", "qemu cut power\n  qemu cut " +
		"power -for 10s", knob},
	{"cut link", "", "cut the network, and mend it after a while", "qemu cut link -for 1m", knob},
	{"exec", "ARGUMENTS", "run a command of the device's tidemill-agent over its console",
		"qemu exec status\n  qemu exec sensors scan", knob},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends it at once, and with it what it started
	os.Exit(start(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// start is the program. It returns the exit code: 2 for a wrong command line.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(stdout)
		return 0
	}
	for _, cmd := range commands {
		words := strings.Fields(cmd.name)
		if len(args) < len(words) || strings.Join(args[:len(words)], " ") != cmd.name {
			continue
		}
		c := &call{flags: flag.NewFlagSet(cmd.name, flag.ContinueOnError), args: args[len(words):], stdout: stdout}
		c.flags.SetOutput(stderr)
		c.flags.Usage = func() {
			fmt.Fprintf(stderr, "qemu %s: %s\n\nUsage: qemu %s [flags] %s\n\n", cmd.name, cmd.summary, cmd.name,
				cmd.words)
			c.flags.PrintDefaults()
			fmt.Fprintf(stderr, "\nExamples:\n  %s\n", cmd.example)
		}
		err := cmd.run(ctx, c)
		var bad usageError
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.As(err, &bad):
			if bad != "" {
				fmt.Fprintf(stderr, "qemu %s: %s\n", cmd.name, bad)
			}
			return 2
		}
		fmt.Fprintf(stderr, "qemu %s: %v\n", cmd.name, err)
		return 1
	}
	fmt.Fprintf(stderr, "qemu: unknown command %q\nTry: qemu help\n", strings.Join(args, " "))
	return 2
}

// A usageError is a mistake on the command line; "" is one that was told already.
type usageError string

func (e usageError) Error() string { return string(e) }

// parse reads the flags and returns the words, of which there shall be from least to most.
func (c *call) parse(least, most int) ([]string, error) {
	if err := c.flags.Parse(c.args); errors.Is(err, flag.ErrHelp) {
		return nil, err
	} else if err != nil {
		return nil, usageError("")
	}
	if n := c.flags.NArg(); n < least || n > most {
		return nil, usageError(fmt.Sprintf("%d arguments; try -h", n))
	}
	return c.flags.Args(), nil
}

func usage(w io.Writer) {
	fmt.Fprint(w, "qemu runs a simulated Raspberry Pi with our agent on Debian's kernel.\n\n"+
		"Usage: go run ./deploy/qemu COMMAND [flags] [words], in the project's root\n\nCommands:\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %-16s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, "\nExamples:\n")
	for _, c := range commands {
		fmt.Fprintf(w, "  %s\n", c.example)
	}
}
