// Command tidemill-agent reads sensors, keeps the readings in a spool and
// sends them to a tidemill-bridge, or any MQTT broker, over mutual TLS.
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

// version is stamped by the linker: -X main.version=v1.2.3.
var version = "dev"

// Exit codes.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// defaultConfig is where the package installs the configuration.
const defaultConfig = "/etc/tidemill/agent.toml"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		stop() // a second signal ends the process at once
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// A usageError is a mistake on the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

// A command is one word of the command line.
type command struct {
	name, summary, help string
	run                 func(ctx context.Context, c *call) error
}

// A call is a command with its flags, not parsed yet, and its outputs.
type call struct {
	flags          *flag.FlagSet
	args           []string
	words          []string // of args, what is no flag; set by parse
	stdout, stderr io.Writer
}

// parse reads the flags, which may stand before and after words, and checks that
// there are at most most words.
func (c *call) parse(most int) error {
	for rest := c.args; ; {
		if err := c.flags.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			return &usageError{err.Error()}
		}
		if c.flags.NArg() == 0 {
			return nil
		}
		if len(c.words) == most {
			return &usageError{fmt.Sprintf("unexpected argument %q", c.flags.Arg(0))}
		}
		c.words = append(c.words, c.flags.Arg(0))
		rest = c.flags.Args()[1:]
	}
}

var commands = []command{
	{"run", "read sensors and send readings until told to stop",
		`Reads the sensors, keeps their readings in the spool and sends them.
SIGHUP reads the configuration again, SIGTERM stops: sensors first, then a
last flush, then what the connection can still take.

Examples:
  tidemill-agent run --config /etc/tidemill/agent.toml
  tidemill-agent run --config agent.toml --log-level debug --log-format text
  tidemill-agent run --config agent.toml --once
`, runAgent},
	{"watch", "show readings as they are taken",
		`Shows each reading of the running agent as it is taken, until Ctrl-C. Where no
agent runs it reads the sensors of the configuration itself; nothing is kept
or sent then.

Examples:
  tidemill-agent watch
  tidemill-agent watch --config agent.toml
`, runWatch},
	{"sensors", "list drivers, read each configured sensor once; scan: find what the board has",
		`Lists the drivers with their options and takes one reading of each configured
sensor. Outputs are read, never set.

sensors scan prints what the board has: I2C chips with what they likely are, GPIO
lines, 1-Wire, SPI, PWM, IIO, hwmon and serial ports, each with a [[sensor]] block
to paste. It reads each address of a bus and asks chips for their ids; it writes
nothing that could change one, and leaves alone what the kernel has drivers for.

Examples:
  tidemill-agent sensors
  tidemill-agent sensors --config agent.toml
  tidemill-agent sensors scan
  tidemill-agent sensors scan --bus /dev/i2c-1
  tidemill-agent sensors scan --json | jq '.i2c[].found[]'
`, runSensors},
	{"status", "show the running agent: link, spool, shadow, sensors", `Asks the running agent through its Unix socket.

Examples:
  tidemill-agent status
  tidemill-agent status --json | jq .link.state
  tidemill-agent status --socket /var/lib/tidemill/agent.sock
`, runStatus},
	{"provision", "get this device's identity by a claim certificate, once",
		`Asks the bridge for a certificate and a thing by the template of
[provision], tries them, and takes them up; repeats until that is done. It
goes on where it was when it was ended or the power was cut. A device that is
provisioned, or has no provision.template, is left as it is.

Examples:
  tidemill-agent provision --config /etc/tidemill/agent.toml
  tidemill-agent provision --config agent.toml --once
`, runProvision},
	{"rotate", "get a new certificate, try it, and have the old one retired",
		`Asks for a new certificate as this device, tries it by connecting, takes it
up, and has the old one made INACTIVE. A running agent goes over to it by
itself. Meant to be run by a timer.

Examples:
  tidemill-agent rotate --config /etc/tidemill/agent.toml --older-than 2160h
  tidemill-agent rotate --config agent.toml --once
`, runRotate},
	{"config", "check a configuration file, or print a sample",
		`config check FILE reads the file as run would, and reports all that is wrong,
also with the certificates, keys and password that it names.
config sample prints a commented file with every key.

Examples:
  tidemill-agent config check agent.toml
  tidemill-agent config sample > agent.toml
`, runConfig},
	{"version", "print the version", `Examples:
  tidemill-agent version
`, runVersion},
}

// run is the program. It returns the exit code: 2 for a wrong command line.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) == 1 {
			usage(stdout)
			return exitOK
		}
		args = []string{args[1], "--help"}
	case "-version", "--version":
		args = append([]string{"version"}, args[1:]...)
	}
	for _, cmd := range commands {
		if cmd.name != args[0] {
			continue
		}
		c := &call{flags: flag.NewFlagSet(cmd.name, flag.ContinueOnError), args: args[1:], stdout: stdout,
			stderr: stderr}
		c.flags.SetOutput(io.Discard)
		c.flags.Usage = func() {}
		err := cmd.run(ctx, c)
		var bad *usageError
		switch {
		case err == nil:
			return exitOK
		case errors.Is(err, flag.ErrHelp):
			fmt.Fprintf(stdout, "Usage: tidemill-agent %s [flags]\n\n%s", cmd.name, cmd.help)
			var flags strings.Builder
			c.flags.SetOutput(&flags)
			c.flags.PrintDefaults()
			if flags.Len() > 0 {
				fmt.Fprintf(stdout, "\nFlags:\n%s", &flags)
			}
			return exitOK
		case errors.As(err, &bad):
			fmt.Fprintf(stderr, "tidemill-agent %s: %s\nTry: tidemill-agent %s --help\n", cmd.name, bad.text, cmd.name)
			return exitUsage
		}
		lines := strings.Split(err.Error(), "\n") // of errors.Join
		for i := range lines {
			lines[i] = printable(lines[i])
		}
		fmt.Fprintf(stderr, "tidemill-agent %s: %s\n", cmd.name, strings.Join(lines, "\n  "))
		return exitError
	}
	fmt.Fprintf(stderr, "tidemill-agent: unknown command %q\nTry: tidemill-agent --help\n", args[0])
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, `tidemill-agent takes readings from sensors to a tidemill-bridge without losing one.

Usage: tidemill-agent command [words] [flags]

Commands:
`)
	for _, c := range commands {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.summary)
	}
	fmt.Fprint(w, `
Examples:
  tidemill-agent config sample > agent.toml
  tidemill-agent run --config agent.toml
  tidemill-agent watch --config agent.toml

tidemill-agent command --help tells more.
`)
}

func runVersion(_ context.Context, c *call) error {
	if err := c.parse(0); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.stdout, "tidemill-agent", version)
	return err
}
