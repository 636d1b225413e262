package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// addDoc adds /usr/share/doc: the copyright of all that is linked, Debian's change
// log, and ours.
func (b *build) addDoc(ctx context.Context, p *pack, program string) error {
	doc := "usr/share/doc/" + p.name + "/"
	text, err := b.copyright(ctx, program)
	if err != nil {
		return err
	}
	p.put(doc+"copyright", text, 0o644)
	changes, err := os.ReadFile(filepath.Join(b.root, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	entry := fmt.Sprintf("%s (%s) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n", p.name,
		debianVersion(b.version, b.time), maintainer, b.time.Format(time.RFC1123Z))
	for name, text := range map[string][]byte{"changelog.gz": changes, "changelog.Debian.gz": []byte(entry)} {
		packed, err := pressed(text)
		if err != nil {
			return err
		}
		p.put(doc+name, packed, 0o644)
	}
	return nil
}

// pressed is text as gzip -9n has it, which Debian asks for.
func pressed(text []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = z.Write(text)
	err = errors.Join(err, z.Close())
	return b.Bytes(), err
}

const ours = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Tidemill
Source: ` + homepage + `

Files: *
Copyright: the authors of Tidemill
License: Apache-2.0
 On Debian systems the full text of the Apache License, Version 2.0, is in the
 file /usr/share/common-licenses/Apache-2.0.
Comment:
 The program links the modules below, with their licences and notices.
`

// copyright is ours, and the licences and notices of the modules that the program
// links and of Go's own library, which ask to be given with it.
func (b *build) copyright(ctx context.Context, program string) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	args := []string{"list", "-m", "-f", "{{.Path}}\t{{.Dir}}"}
	for _, m := range info.Deps {
		args = append(args, m.Path)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.root
	list, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list -m: %w", err)
	}
	goroot := exec.CommandContext(ctx, "go", "env", "GOROOT")
	goroot.Dir = b.root
	root, err := goroot.Output()
	if err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	var out bytes.Buffer
	out.WriteString(ours)
	for line := range strings.Lines("Go's library\t" + string(root) + string(list)) {
		name, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		text, err := noticesIn(dir)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(&out, " .\n %s\n", name)
		for line := range strings.Lines(text) {
			out.WriteString(" " + cmp.Or(strings.TrimRight(line, " \t\r\n"), ".") + "\n")
		}
	}
	return out.Bytes(), nil
}

// apache is the text of the Apache License, of which some leave the last line away.
var apache = regexp.MustCompile(`(?s)\s*Apache License\s+Version 2\.0, January 2004.*?accepting\s+any\s+such\s+` +
	`warranty\s+or\s+additional\s+liability\.(?:\s+END OF TERMS AND CONDITIONS)?(?:\s+APPENDIX.*?limitations under the License\.)?`)

// noticesIn are the licence and notice files of a module. Of the Apache License,
// which every Debian has, only the name.
func noticesIn(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	var all []string
	for _, e := range entries {
		name := strings.ToUpper(e.Name())
		if e.IsDir() || filepath.Ext(name) == ".GO" || !slices.ContainsFunc([]string{"LICENSE", "LICENCE", "COPYING",
			"NOTICE"}, func(with string) bool { return strings.HasPrefix(name, with) }) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return "", err
		}
		all = append(all, apache.ReplaceAllString(string(text),
			"\nApache License, Version 2.0: /usr/share/common-licenses/Apache-2.0\n"))
	}
	if len(all) == 0 {
		return "", errors.New("no licence found")
	}
	return strings.Join(all, "\n"), nil
}
