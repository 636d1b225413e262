package boot

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// A Module is a module of a kernel, and where it is.
type Module struct {
	Name string // as the kernel has it: _ where the file has -
	Path string
}

// Modules returns the modules with these names, and all that they depend on, in an
// order in which they can be loaded. root is a folder below which the modules of one
// kernel are. A name that the kernel has built in is no module: leave it out.
func Modules(root string, names ...string) ([]Module, error) {
	paths := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil {
			paths[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("modules: %w", err)
	}
	m := modules{paths: paths, seen: map[string]bool{}}
	for _, name := range names {
		if err := m.add(moduleName(name)); err != nil {
			return nil, fmt.Errorf("modules: %w", err)
		}
	}
	return m.order, nil
}

func moduleName(name string) string { return strings.ReplaceAll(name, "-", "_") }

type modules struct {
	paths map[string]string
	seen  map[string]bool
	order []Module
}

// add puts a module behind what it depends on.
func (m *modules) add(name string) error {
	if m.seen[name] {
		return nil
	}
	m.seen[name] = true
	path := m.paths[name]
	if path == "" {
		return fmt.Errorf("there is no %s", name)
	}
	needs, err := depends(path)
	if err != nil {
		return err
	}
	for _, need := range needs {
		if err := m.add(moduleName(need)); err != nil {
			return fmt.Errorf("%s needs %w", name, err)
		}
	}
	m.order = append(m.order, Module{Name: name, Path: path})
	return nil
}

// depends reads the names of modules that a module's section .modinfo says it needs.
func depends(path string) ([]string, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, fmt.Errorf("%s has no .modinfo", path)
	}
	text, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for line := range bytes.SplitSeq(text, []byte{0}) {
		if list, ok := bytes.CutPrefix(line, []byte("depends=")); ok {
			return strings.FieldsFunc(string(list), func(r rune) bool { return r == ',' }), nil
		}
	}
	return nil, nil
}
