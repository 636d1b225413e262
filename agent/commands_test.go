package main

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write COMMANDS.md anew")

// TestCommandPage keeps COMMANDS.md what the commands say of themselves; -update
// writes it anew.
func TestCommandPage(t *testing.T) {
	var page strings.Builder
	page.WriteString("# The commands of tidemill-agent\n\n" +
		"Made from the table of commands: `go test ./agent -run TestCommandPage -update`.\n")
	for _, c := range commands {
		var help, errs strings.Builder
		if code := run(t.Context(), []string{c.name, "-h"}, &help, &errs); code != exitOK {
			t.Fatalf("%s -h: %d, %s", c.name, code, &errs)
		}
		page.WriteString("\n## " + c.name + "\n\n```\n" + help.String() + "```\n")
	}
	const file = "COMMANDS.md"
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != page.String() {
		t.Errorf("%s is not what the commands say (%v): run the test with -update", file, err)
	}
}
