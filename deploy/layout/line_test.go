package layout

import (
	"bytes"
	"go/scanner"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Lines end by maxColumns, a tab counted as tabColumns.
const (
	maxColumns = 120
	tabColumns = 4
)

// TestLines finds lines that could be broken and are too long. Those in which a
// text stands where they should end are let through, as a text is found as a
// whole more easily, and so are comments of one word, such as an address, and the
// output of an example.
func TestLines(t *testing.T) {
	n := 0
	for name := range strings.FieldsSeq(tracked(t, "*.go")) {
		src, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue // removed and not committed yet
		}
		n++
		lines := tooLong(src)
		if strings.HasSuffix(name, "example_test.go") {
			all := bytes.Split(src, []byte("\n"))
			lines = slices.DeleteFunc(lines, func(i int) bool {
				return bytes.HasPrefix(bytes.TrimSpace(all[i-1]), []byte("// "))
			})
		}
		for _, line := range lines {
			t.Errorf("%s:%d: the line has more than %d columns", name, line, maxColumns)
		}
	}
	if n < 100 {
		t.Fatalf("%d files are found; the test looks at nothing", n)
	}
}

// tracked lists the files that git tracks and match pattern.
func tracked(t *testing.T, pattern string) string {
	t.Helper()
	ls := exec.Command("git", "ls-files", pattern)
	ls.Dir = root
	out, err := ls.Output()
	if err != nil {
		t.Skip("no git checkout to list the files of")
	}
	return string(out)
}

// tooLong returns the numbers of the lines that could be broken.
func tooLong(src []byte) (lines []int) {
	long := map[int]int{} // by line: the offset where it should end
	at := 0
	for i, line := range bytes.SplitAfter(src, []byte("\n")) {
		columns, end := 0, 0
		for off := 0; off < len(line) && line[off] != '\n'; {
			r, n := utf8.DecodeRune(line[off:])
			if columns++; r == '\t' {
				columns += tabColumns - 1
			}
			if off += n; columns <= maxColumns {
				end = off
			}
		}
		if columns > maxColumns {
			long[i+1] = at + end
		}
		at += len(line)
	}
	if len(long) == 0 {
		return nil
	}
	fset := token.NewFileSet()
	file := fset.AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(file, src, nil, scanner.ScanComments)
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			break
		}
		from, to := file.Offset(pos), file.Offset(pos)+len(lit)
		if tok != token.STRING && (tok != token.COMMENT || strings.Contains(strings.TrimPrefix(lit, "// "), " ")) {
			continue
		}
		for line, end := range long {
			if from <= end && end < to+2 { // what closes a call may follow the text
				delete(long, line)
			}
		}
	}
	for i := range long {
		lines = append(lines, i)
	}
	return lines
}

func TestTooLong(t *testing.T) {
	word := strings.Repeat("x", 119)
	for src, want := range map[string]int{
		"package p\n": 0,
		"package p\n\nvar x = f(1, \"" + word + "\")\n":       0,
		"package p\n\n// " + word + "\n":                      0,
		"package p\n\n// words " + word + "\n":                1,
		"package p\n\nvar " + word + " = 1\n":                 1,
		"package p\n\nvar a = `" + word + "\n" + word + "`\n": 0,
	} {
		if got := len(tooLong([]byte(src))); got != want {
			t.Errorf("%.40q: %d lines, want %d", src, got, want)
		}
	}
}
