package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// covered is how much of a licence file, in percent, must be text of a licence
// that we know.
const covered = 75

// modules finds the licences of the modules that programs and tests link.
func modules() ([]finding, error) {
	list := exec.Command("go", "list", "-deps", "-test", "-f",
		"{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Dir}}{{end}}{{end}}", "./...")
	list.Stderr = os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(lines)
	var all []finding
	for _, line := range slices.Compact(lines) {
		path, dir, ok := strings.Cut(line, "\t")
		if !ok {
			continue
		}
		f := finding{name: path}
		if id, ok := chosen[path]; ok {
			f.ids = []string{id}
		} else if f.ids, err = licencesIn(dir); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if id := testsAlone[path]; id != "" && slices.Equal(f.ids, []string{id}) {
			linked, err := programLinks(path)
			if err != nil {
				return nil, err
			}
			if !linked {
				continue
			}
		}
		all = append(all, f)
	}
	return all, nil
}

// licencesIn reads the licence files of a module's folder. A file that holds much
// that is no known licence counts as "unknown".
func licencesIn(dir string) (ids []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || filepath.Ext(name) == ".GO" || !strings.HasPrefix(name, "LICENSE") &&
			!strings.HasPrefix(name, "LICENCE") && !strings.HasPrefix(name, "COPYING") {
			continue
		}
		if name == "LICENSE-SUMMARY" { // of AWS's modules: it names the files that are the licences
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		found := licensecheck.Scan(text)
		if found.Percent < covered {
			ids = append(ids, fmt.Sprintf("unknown (%s, %.0f %% known)", e.Name(), found.Percent))
		}
		for _, m := range found.Match {
			if !m.IsURL {
				ids = append(ids, m.ID)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// programLinks says whether one of the programs links the module.
func programLinks(module string) (bool, error) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./agent",
		"./bridge").Output()
	if err != nil {
		return false, fmt.Errorf("go list: %w", err)
	}
	return slices.Contains(strings.Fields(string(out)), module), nil
}
