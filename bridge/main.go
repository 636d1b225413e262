// Command tidemill-bridge receives what devices send and brings it where it
// belongs: gateway, rules, streams and delivery streams in one program.
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

// version is stamped by the build.
var version = "dev"

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals // a second one ends it at once
		os.Exit(130)
	}()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "tidemill-bridge:", err)
		if errors.As(err, new(usageError)) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

// A usageError is a command line that cannot be understood: exit status 2.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// A command is one verb, perhaps of two words.
type command struct {
	name    string // "thing create"
	args    string // after the flags, for the usage line
	summary string
	example string
	run     func(ctx context.Context, c *call) error
}

// A call is one run of a command.
type call struct {
	flags          *flag.FlagSet
	args           []string
	stdout, stderr io.Writer
	config         string // -config
	data           string // -data
}

var commands = []command{serveCommand, configSample, thingCreate, thingList, certList, certStatus, policyShow, policyPut, policyAttach,
	ruleTest, ruleList, streamCreate, streamList, streamTail, reloadCommand, versionCommand}

var versionCommand = command{name: "version", summary: "print the version", example: "tidemill-bridge version",
	run: func(_ context.Context, c *call) error {
		_, err := fmt.Fprintln(c.stdout, "tidemill-bridge", version)
		return err
	}}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		return usage(stdout)
	}
	for i := range commands {
		cmd := &commands[i]
		words := strings.Fields(cmd.name)
		if len(args) < len(words) || strings.Join(args[:len(words)], " ") != cmd.name {
			continue
		}
		c := &call{flags: flag.NewFlagSet(cmd.name, flag.ContinueOnError), stdout: stdout, stderr: stderr}
		c.flags.SetOutput(stderr)
		c.flags.StringVar(&c.config, "config", "", "configuration `file` (TOML); without one the defaults hold")
		c.flags.StringVar(&c.data, "data", "", "data `directory`; overrides data_dir")
		c.flags.Usage = func() {
			fmt.Fprintf(stderr, "tidemill-bridge %s: %s\n\nusage: tidemill-bridge %s [flags] %s\n\n", cmd.name, cmd.summary, cmd.name, cmd.args)
			c.flags.PrintDefaults()
			fmt.Fprintf(stderr, "\nexample:\n  %s\n", strings.ReplaceAll(cmd.example, "\n", "\n  "))
		}
		c.args = args[len(words):]
		return cmd.run(ctx, c)
	}
	var below []string
	for _, cmd := range commands {
		if strings.HasPrefix(cmd.name, args[0]+" ") {
			below = append(below, cmd.name)
		}
	}
	if below != nil {
		return usagef("%s: want one of: %s", args[0], strings.Join(below, ", "))
	}
	return usagef("unknown command %q; tidemill-bridge help lists them", args[0])
}

func usage(w io.Writer) error {
	var b strings.Builder
	b.WriteString("tidemill-bridge takes sensor readings from devices to streams and stores.\n\ncommands:\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "  %-15s %s\n", c.name, c.summary)
	}
	b.WriteString("\ntidemill-bridge COMMAND -h tells of its flags, with an example.\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// parse reads the flags, which may stand before and after the arguments, and
// wants least to most arguments.
func (c *call) parse(least, most int) error {
	var plain []string
	rest := c.args
	for {
		if err := c.flags.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			return usageError{err}
		}
		rest = c.flags.Args()
		if len(rest) == 0 {
			break
		}
		plain, rest = append(plain, rest[0]), rest[1:]
	}
	if len(plain) < least || len(plain) > most {
		return usagef("%s: %d arguments do not fit; see -h", c.flags.Name(), len(plain))
	}
	c.args = plain
	return nil
}
