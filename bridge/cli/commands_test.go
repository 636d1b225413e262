package cli

import (
	"os"
	"strings"
	"testing"
)

// TestCommandPage keeps COMMANDS.md what the commands say of themselves; -update
// writes it anew.
func TestCommandPage(t *testing.T) {
	t.Setenv("HOME", "/home/you")
	t.Setenv("XDG_STATE_HOME", "")
	var page strings.Builder
	page.WriteString("# The commands of tidemill-bridge\n\n" +
		"Made from the table of commands: `go test ./bridge/cli -run TestCommandPage -update`.\n")
	for _, c := range commands {
		help, _, err := runText(t, append(strings.Fields(c.name), "-h")...)
		if err != nil {
			t.Fatalf("%s -h: %v", c.name, err)
		}
		page.WriteString("\n## " + c.name + "\n\n```\n" + help + "```\n")
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
