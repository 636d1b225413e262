package iotsql

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/deploy/conformance"
)

const doubtfulFile = "testdata/doubtful.txt"

// TestDoubtful holds our answers where the guide is silent or contradicts
// itself to testdata/doubtful.txt, which has one a line: the case, the answer,
// the reason. The documentation of the package has them as prose. -update
// writes the answers anew, not the reasons.
func TestDoubtful(t *testing.T) {
	table, err := os.ReadFile(doubtfulFile)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][2]string{} // answer and reason
	for line := range strings.Lines(string(table)) {
		cols := strings.Split(strings.TrimSpace(line), " | ")
		if len(cols) != 3 || cols[2] == "" {
			t.Fatalf("%s: %q, want case | answer | reason", doubtfulFile, line)
		}
		rows[cols[0]] = [2]string{cols[1], cols[2]}
	}
	var b strings.Builder
	lean, n := 0, 0
	for _, v := range conformance.All[vector](t, "iotsql-doubtful.jsonl") {
		n++
		if v.run(t) == nil {
			lean++
		}
		got := v.answer(t)
		row, ok := rows[v.ID]
		switch {
		case !ok: // the table was made from a sample
			t.Logf("%s: %s, and the table says nothing", v.ID, got)
		case got != row[0] && !*update:
			t.Errorf("%s: %s, the table says %s: %s", v.ID, got, row[0], row[1])
		}
		delete(rows, v.ID)
		fmt.Fprintf(&b, "%s | %s | %s\n", v.ID, got, row[1])
	}
	for id := range rows {
		t.Errorf("%s: no such case", id)
	}
	t.Logf("%d cases; in %d our answer is the one the vectors lean to", n, lean)
	if *update {
		if err := os.WriteFile(doubtfulFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// answer is what a statement makes of the vector's message.
func (v *vector) answer(t *testing.T) string {
	s, err := v.Externals.services(t).Compile(v.SQL, v.Version)
	if err != nil {
		return "refused"
	}
	m := v.message(t)
	if _, _, basic := topic.CutRule(m.Topic); !basic && !s.Matches(m.Topic) {
		return "not reached"
	}
	out, fired, err := s.Eval(t.Context(), nil, m)
	if fired && v.Template != nil {
		var tm *Template
		if tm, err = s.Template(*v.Template); err != nil {
			return "template refused"
		}
		out, err = tm.Append(t.Context(), nil, m)
	}
	switch {
	case err != nil:
		return "fails: " + err.Error()
	case !fired:
		return "does not fire"
	case len(out) == 0:
		return "no bytes"
	case !utf8.Valid(out):
		return base64.StdEncoding.EncodeToString(out)
	}
	return string(out)
}
