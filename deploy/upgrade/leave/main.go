// Leave makes the data of an earlier version that package upgrade tests with.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/tidemill/tidemill/deploy/rig"
	"github.com/tidemill/tidemill/deploy/upgrade"
)

func main() {
	bin := flag.String("bin", "bin", "folder of the two programs")
	version := flag.String("version", "", "their version, which names the files")
	out := flag.String("out", "deploy/upgrade/testdata", "folder for VERSION.tar.gz and VERSION.json")
	flag.Parse()
	if err := run(*bin, *version, *out); err != nil {
		fmt.Fprintln(os.Stderr, "leave:", err)
		os.Exit(1)
	}
}

func run(bin, version, out string) error {
	if version == "" {
		return fmt.Errorf("-version is missing")
	}
	dir, err := os.MkdirTemp("", "tidemill-leave-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return upgrade.Leave(ctx, rig.In(bin), version, dir, out)
}
