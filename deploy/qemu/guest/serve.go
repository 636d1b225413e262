package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// again is the pause before an agent that ended is started again, as the unit has it.
const again = time.Second

// serve runs the agent, and takes commands on the console, until one of them ends the
// machine or the console does.
func serve() error {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if run(ctx, "provision") == nil {
				_ = run(ctx, "run") // it has told why it ended
			}
			select {
			case <-time.After(again):
			case <-ctx.Done():
			}
		}
	}()
	err := console()
	stop()
	<-done
	return err
}

// run runs a command of the agent, whose output goes to the console, until it ends. When
// ctx ends it is asked to end.
func run(ctx context.Context, command string) error {
	cmd := exec.CommandContext(ctx, agent, command, "-config", config)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	say("agent %s", command)
	err := cmd.Run()
	say("agent %s ended: %v", command, err)
	return err
}

// halt writes what is not on the card yet, and ends the machine. QEMU ends with it.
func halt() {
	unix.Sync()
	_ = unix.Unmount(data, 0) // busy, or not mounted: it is synced
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // no module for it: QEMU is killed
}

var errPowerOff = errors.New("power off")
