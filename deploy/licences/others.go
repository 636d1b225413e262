package main

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// locks finds the licences that npm's lock files tell.
func locks() (all []finding, err error) {
	files, err := tracked("*package-lock.json")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var lock struct {
			Packages map[string]struct{ License string }
		}
		if err := json.Unmarshal(text, &lock); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for path, p := range lock.Packages {
			if path == "" { // the file's own
				continue
			}
			f := finding{name: file + " " + path}
			if p.License != "" {
				f.ids = strings.FieldsFunc(strings.NewReplacer("(", "", ")", "", " AND ", ",", " OR ",
					",").Replace(p.License), func(r rune) bool { return r == ',' })
			}
			all = append(all, f)
		}
	}
	return all, nil
}

// What tests fetch by a pinned version: NAME==VERSION of PyPI and NAME@VERSION of
// npm in Go files, and artifacts of Maven in pom.xml. A version has a dot: nodes of
// a device tree, such as watchdog@1, have none.
var (
	pinned    = regexp.MustCompile(`"(@?[A-Za-z][A-Za-z0-9/_.-]*)(?:\[[a-z0-9,]+\])?(?:==|@)[0-9]+\.[0-9.]+"`)
	artifacts = regexp.MustCompile(`(?s)<dependency>.*?<artifactId>([^<]+)`)
)

// fetched finds in fetched.tsv (name, SPDX id) what tests fetch.
func fetched() (all []finding, err error) {
	text, err := os.ReadFile("deploy/licences/fetched.tsv")
	if err != nil {
		return nil, err
	}
	known := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, id, _ := strings.Cut(strings.TrimSpace(line), "\t")
		known[name] = id
	}
	for pattern, find := range map[string]*regexp.Regexp{"*.go": pinned, "*pom.xml": artifacts} {
		files, err := tracked(pattern)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			for _, m := range find.FindAllStringSubmatch(string(text), -1) {
				f := finding{name: file + " " + m[1]}
				if id := known[m[1]]; id != "" {
					f.ids = []string{id}
				}
				all = append(all, f)
			}
		}
	}
	return all, nil
}
