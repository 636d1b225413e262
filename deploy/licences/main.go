// Licences checks that every module which is linked, or which a test links or
// fetches, comes under a permissive licence. `make licences` runs it in the
// project's root.
//
// Go modules are judged by the text of their licence files in the module cache,
// npm packages by their lock files, and what tests fetch from PyPI, npm and Maven
// by fetched.tsv.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// allowed are the SPDX ids of the licences that we take.
var allowed = []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0",
	"Unlicense", "Zlib"}

// chosen are modules that offer a choice, and what we choose.
var chosen = map[string]string{
	// EPL-2.0 or the Eclipse Distribution License 1.0, whose text is BSD-3-Clause.
	"github.com/eclipse/paho.mqtt.golang": "BSD-3-Clause",
	"github.com/eclipse/paho.golang":      "BSD-3-Clause",
}

// testsAlone are modules with another licence that only tests may link, unchanged:
// what we give away has nothing of them.
var testsAlone = map[string]string{
	"pgregory.net/rapid": "MPL-2.0", // it asks for the source of its own files alone
}

// A finding is a dependency and the licences that it names; none: they are not
// known.
type finding struct {
	name string
	ids  []string
}

// refused says why a dependency may not be used, "" if it may.
func (f finding) refused() string {
	if len(f.ids) == 0 {
		return "no licence found"
	}
	for _, id := range f.ids {
		if !slices.Contains(allowed, id) {
			return "licence " + id
		}
	}
	return ""
}

func main() {
	n, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
	fmt.Printf("%d dependencies, each under one of %s\n", n, strings.Join(allowed, ", "))
}

func run() (n int, err error) {
	var all []finding
	for _, look := range []func() ([]finding, error){modules, locks, fetched} {
		some, err := look()
		if err != nil {
			return 0, err
		}
		all = append(all, some...)
	}
	var bad []string
	for _, f := range all {
		if why := f.refused(); why != "" {
			bad = append(bad, f.name+": "+why)
		}
	}
	if len(bad) > 0 {
		return 0, fmt.Errorf("not permissive:\n%s", strings.Join(bad, "\n"))
	}
	return len(all), nil
}

// tracked lists the files of the project that match the patterns of git.
func tracked(patterns ...string) ([]string, error) {
	out, err := exec.Command("git", append([]string{"ls-files", "--"}, patterns...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	return strings.Fields(string(out)), nil
}
