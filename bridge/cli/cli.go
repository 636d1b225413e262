// Package cli is the command line of tidemill-bridge: one file a family of
// commands. Most of them ask the running bridge by its admin socket and open
// the data directory themselves when there is none.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/datadir"
)

// Run is the program: args are those after its name. It returns the exit
// status: 0, 1 for what failed, 2 for a command line that makes no sense, 3 for a data
// directory of a bridge that was moved, which a start again would not help.
func Run(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	err := run(ctx, version, args, stdout, stderr)
	if err == nil {
		return 0
	}
	fmt.Fprintln(newScreen(stderr), "tidemill-bridge:", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	if errors.As(err, new(usageError)) {
		return 2
	}
	if errors.Is(err, datadir.ErrMoved) {
		return 3
	}
	return 1
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
	alone   bool // touches no bridge, so it takes no -config and -data
	run     func(ctx context.Context, c *call) error
}

// A call is one run of a command.
type call struct {
	version        string
	flags          *flag.FlagSet
	want           string // the arguments, as the usage line names them
	args           []string
	stdout, stderr io.Writer // screens
	out, errs      io.Writer // what is behind them
	config         string    // -config
	data           string    // -data
}

// commands are in the order in which help and COMMANDS.md list them.
var commands = []command{
	serveCommand, statusCommand, configSample, configCheck,
	watchCommand,
	thingCreate, thingKit, thingList, thingDelete,
	certCreate, certRegister, certList, certShow, certStatus, certActivate, certDeactivate, certRevoke,
	certDelete, certImportCRL,
	certCARegister, certCACode, certCAList, certCAShow, certCAActivate, certCADeactivate, certCADelete,
	certCARotate, certCARetire, certExpiry,
	policyShow, policyPut, policyVersions, policyDefault, policyDelete, policyAttach, policyDetach,
	policyEffective, policyTest, policyWhoCan,
	ruleTest, ruleList, ruleWhy, ruleReplay, ruleOutboxList, ruleOutboxRetry, ruleOutboxDrop,
	objectPut, streamCreate, streamList, streamTail, channelList, channelShow, channelTail,
	alarmList, alarmDelete,
	firehoseList, firehoseShow, firehoseFailed, firehoseRedrive, deliveryList,
	functionList, functionInvoke, functionLogs,
	secretPut, secretList, secretRotate, secretRestore, secretDelete,
	connectorList, connectorShow, connectorCheck, connectorRun,
	userCreate, userList, userShow, userChange, userPasswd, userRevoke,
	accessKeyCreate, accessKeyList, accessKeyRotate, accessKeyDeactivate, accessKeyActivate, accessKeyRevoke,
	backupList, backupVerify, backupPrune, backupKeygen, backupCommand,
	restoreHeld, restoreRelease, restoreCommand, revocationsExport, revocationsShow,
	movePrepare, moveFinish, moveTake, moveUndo, moveStatus,
	auditCommand, clockShow, clockAccept, diskCommand, checkCommand, salvageCommand, reloadCommand,
	awsEnv,
	versionCommand,
}

var versionCommand = command{name: "version", summary: "print the version", example: "tidemill-bridge version",
	alone: true,
	run: func(_ context.Context, c *call) error {
		if err := c.parse(0, 0); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.stdout, "tidemill-bridge", c.version)
		return err
	}}

// run is Run but for the words on the screen. A usageError means that args make no sense; whatever
// fails is in the error and not yet printed.
func run(ctx context.Context, version string, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		return usagef("a command is missing; tidemill-bridge help lists them")
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) == 1 {
			return usage(stdout)
		}
		args = append(args[1:len(args):len(args)], "-h")
	case "-version", "--version":
		args = append([]string{"version"}, args[1:]...)
	}
	for i := range commands {
		cmd := &commands[i]
		words := strings.Fields(cmd.name)
		if len(args) < len(words) || strings.Join(args[:len(words)], " ") != cmd.name {
			continue
		}
		c := &call{version: version, flags: flag.NewFlagSet(cmd.name, flag.ContinueOnError), want: cmd.args,
			stdout: newScreen(stdout), stderr: newScreen(stderr), out: stdout, errs: stderr}
		c.flags.SetOutput(io.Discard) // errors are returned
		if !cmd.alone {
			c.flags.StringVar(&c.config, "config", "", "configuration `file` (TOML); default: "+config.SystemFile+
				", for root and where it is there; else the defaults hold")
			c.flags.StringVar(&c.data, "data", "",
				"data `directory`; overrides data_dir, whose default is in config sample")
		}
		c.args = args[len(words):]
		err := cmd.run(ctx, c)
		if errors.Is(err, flag.ErrHelp) {
			return cmd.help(c.flags, stdout)
		}
		return err
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

func (cmd *command) help(flags *flag.FlagSet, w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "tidemill-bridge %s: %s\n\nusage: %s\n\n", cmd.name, cmd.summary,
		strings.TrimSpace("tidemill-bridge "+cmd.name+" [flags] "+cmd.args))
	flags.SetOutput(&b)
	flags.PrintDefaults()
	fmt.Fprintf(&b, "\nexample:\n  %s\n", strings.ReplaceAll(cmd.example, "\n", "\n  "))
	_, err := io.WriteString(w, b.String())
	return err
}

func usage(w io.Writer) error {
	var b strings.Builder
	b.WriteString("tidemill-bridge takes sensor readings from devices to streams and stores.\n\ncommands:\n")
	for _, c := range commands {
		fmt.Fprintf(&b, "  %-18s %s\n", c.name, c.summary)
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
			return usagef("%s: %w; see -h", c.flags.Name(), err)
		}
		rest = c.flags.Args()
		if len(rest) == 0 {
			break
		}
		plain, rest = append(plain, rest[0]), rest[1:]
	}
	switch {
	case len(plain) < least:
		return usagef("%s: want %s; see -h", c.flags.Name(), c.want)
	case len(plain) > most:
		return usagef("%s: unexpected argument %q; see -h", c.flags.Name(), plain[most])
	}
	c.args = plain
	return nil
}

// argumentOr lets the one argument stand for a flag. What a command is about is
// an argument; older versions had a flag for it, which stays.
func (c *call) argumentOr(value *string, flag string) error {
	switch {
	case len(c.args) == 0:
		return nil
	case *value != "":
		return usagef("%s: an argument and %s exclude each other; see -h", c.flags.Name(), flag)
	}
	*value = c.args[0]
	return nil
}
