// Command tidemill-bridge receives what devices send and brings it where it
// belongs: gateway, rules, streams and delivery streams in one program.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/tidemill/tidemill/bridge/cli"
)

// version is stamped by the build.
var version = "dev"

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals // a second one ends it at once
		os.Exit(130)
	}()
	status := cli.Run(ctx, version, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	os.Exit(status)
}
