package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// What strangers chose stays on its line and moves no cursor.
func TestAuditText(t *testing.T) {
	evil := "x\x1b[2J\r\n2026 admin CreateThing\u202e"
	var b bytes.Buffer
	if err := printRecord(&b, &audit.Record{Source: "sign-in", Action: "Connect", Who: evil, From: evil, Client: evil,
		Request: evil, Target: evil, Error: evil, Left: 3,
		After: json.RawMessage("{\n\"a\": \"\u202e\"}")}); err != nil {
		t.Fatal(err)
	}
	out := b.String()
	if strings.Count(out, "\n") != 5 || strings.ContainsAny(out, "\x1b\r\u202e") ||
		!strings.Contains(out, "sign-in Connect REFUSED ") || !strings.Contains(out, "    3 more of this kind\n") {
		t.Errorf("%q", out)
	}
}

func TestLike(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "x", true}, {"x", "x", true}, {"x", "xx", false}, {"*", "", true}, {"a*", "ab", true}, {"a*", "b", false},
		{"*b", "ab", true}, {"a*b*c", "a-b-c", true}, {"a*b*c", "ac", false}, {"ab*b", "ab", false},
		{"a**b", "ab", true},
	} {
		if got := like(c.pattern, c.text); got != c.want {
			t.Errorf("%q of %q: %v", c.pattern, c.text, got)
		}
	}
}

// A record that is there twice is printed once, and one without an id always.
func TestAuditTwice(t *testing.T) {
	var in bytes.Buffer
	for _, id := range []string{"a", "b", "a", "", "", "c", "b"} {
		line, err := json.Marshal(admin.StreamRecord{
			JSON: fmt.Appendf(nil, `{"id":%q,"source":"admin","action":"X"}`, id)})
		if err != nil {
			t.Fatal(err)
		}
		in.Write(line)
	}
	got := ""
	err := new(auditFilter).each(func(_ []byte, r *audit.Record) error {
		got += r.ID + " "
		return nil
	})(json.NewDecoder(&in))
	if err != io.EOF || got != "a b   c " {
		t.Errorf("%q, %v", got, err)
	}
}
