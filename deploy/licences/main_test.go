package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRefused(t *testing.T) {
	mit, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"ours":    {map[string]string{"LICENSE": string(mit)}, ""},
		"none":    {map[string]string{"README": string(mit)}, "no licence found"},
		"another": {map[string]string{"LICENSE.txt": "You may use it on Sundays."}, "licence unknown"},
		"one of two": {map[string]string{"LICENSE": string(mit),
			"COPYING": "GNU GENERAL PUBLIC LICENSE, as you know it"}, "licence unknown"},
		"no text file": {map[string]string{"license.go": "package license"}, "no licence found"},
	} {
		dir := t.TempDir()
		for file, text := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ids, err := licencesIn(dir)
		if err != nil {
			t.Fatal(err)
		}
		got := finding{name, ids}.refused()
		if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	if got := (finding{"x", []string{"MIT", "GPL-3.0"}}).refused(); got != "licence GPL-3.0" {
		t.Errorf("%q", got)
	}
}
