package cli

import (
	"encoding/json"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/serving/watch"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

// hostileText is what a device may call itself, or send.
var hostileText = []struct{ text, shown string }{
	{"pi-1 °C 温度 😀", "pi-1 °C 温度 😀"},
	{"\x1b[31mred\x1b]0;title\x07", `\u001b[31mred\u001b]0;title\u0007`},
	{"\u009b31m\u0085", `\u009b31m\u0085`},
	{"\x9b31m", `\x9b31m`}, // the same byte, not as UTF-8
	{"\x7f\x00\b", `\u007f\u0000\u0008`},
	{"a\u202egnp.exe\u2066\u200f\u061c", `a\u202egnp.exe\u2066\u200f\u061c`},
	{"\u2028\u2029\u200b\ufeff", `\u2028\u2029\u200b\ufeff`},
	{"\U000e0041", `\udb40\udc41`},
	{"a\xff\xc3", `a\xff\xc3`},
	{"\ufffd", "\ufffd"},
}

func TestPrintable(t *testing.T) {
	for _, c := range append(hostileText, []struct{ text, shown string }{{"a\nb\tc\rd", `a\nb\tc\rd`}}...) {
		if got := printable(c.text); got != c.shown {
			t.Errorf("%q is shown as %s, want %s", c.text, got, c.shown)
		}
	}
}

// However output is cut into writes, a screen shows what printable does, and
// keeps lines and columns.
func TestScreen(t *testing.T) {
	for _, c := range hostileText {
		for cut := range len(c.text) + 1 {
			var b strings.Builder
			s := newScreen(&b)
			for _, part := range []string{c.text[:cut], c.text[cut:], "\n\t.\n"} {
				if n, err := s.Write([]byte(part)); n != len(part) || err != nil {
					t.Fatal(n, err)
				}
			}
			if want := c.shown + "\n\t.\n"; b.String() != want {
				t.Errorf("%q cut at %d is shown as %s, want %s", c.text, cut, b.String(), want)
			}
		}
	}
}

// JSON stays JSON and means the same, with bytes in it that are no UTF-8, too.
func TestJSONScreen(t *testing.T) {
	for in, want := range map[string]string{
		"{\"a\":\"\x9b\"}":             `{"a":"\ufffd"}`,
		"{\"a\":\"\u009b\u202e\x7f\"}": `{"a":"\u009b\u202e\u007f"}`,
		"{\r\n\t\"a\":\r1}\r\n":        "{ \n\t\"a\": 1} \n",
	} {
		for cut := range len(in) + 1 {
			var b strings.Builder
			c := &call{out: &b}
			s := c.json()
			_, _ = io.WriteString(s, in[:cut])
			_, _ = io.WriteString(s, in[cut:])
			if b.String() != want {
				t.Fatalf("%q cut at %d became %q, want %q", in, cut, &b, want)
			}
		}
	}
}

// Every JSON output is JSON, whatever a device chose.
func TestWatchJSONOfNoUTF8(t *testing.T) {
	raw, err := json.Marshal(watch.Line{Topic: "t", JSON: []byte("{\"a\":\"\x9b\"}")}) // a bridge of before sends it
	if err != nil {
		t.Fatal(err)
	}
	var l watch.Line
	if err := json.Unmarshal(raw, &l); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	c := &call{out: &out}
	v := &viewer{out: c.json(), json: true}
	v.line(&l)
	if !strings.Contains(out.String(), `"json":{"a":"\ufffd"}`) || !json.Valid([]byte(out.String())) {
		t.Error(out.String())
	}
	out.Reset()
	if err := c.printJSON(&l); err != nil || !json.Valid([]byte(out.String())) {
		t.Errorf("%v: %s", err, &out)
	}
}

// What a device chose begins no line of its own in a table or an explanation.
func TestTablesAreOfPrintableCells(t *testing.T) {
	const topic, shown = "dt/x\nforged  0/0  row\x1b[1A", `dt/x\nforged  0/0  row\u001b[1A`
	var b strings.Builder
	c := &call{stdout: newScreen(&b), stderr: newScreen(&b)}
	if err := c.printRecent([]rules.Recent{{ID: "1", Topic: topic, Result: "failed", Reason: topic, Kept: true}}, false,
		false); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(b.String(), "\n"); lines != 2 || strings.Count(b.String(), shown) != 2 {
		t.Errorf("%d lines\n%s", lines, b.String())
	}
	b.Reset()
	if err := c.printWhy(&rules.Why{Rule: "r",
		Message: rules.Seen{Topic: topic, ClientID: topic, Payload: &rules.Data{Bytes: []byte(topic)}}, Error: topic,
		Actions: []rules.ActionWhy{{Slot: "0", Kind: "republish",
			Parameters: []action.Parameter{{Name: "topic", Value: topic}}, Outcome: &rules.Outcome{Error: topic}}},
		Notes: []string{topic}}, false); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "\nforged") || strings.Contains(b.String(), "\x1b") {
		t.Error(b.String())
	}
	text := reportText(&rules.ReplayReport{Topics: []rules.ReplayTopic{{Topic: topic}}, Notes: []string{topic},
		Differences: []rules.Difference{{Kind: "changed",
			Examples: []rules.ReplayExample{{Topic: topic,
				Payload: &rules.Excerpt{Data: rules.Data{Bytes: []byte(topic)}},
				Old:     rules.ReplayEnd{Error: topic}}}}}})
	if strings.Contains(text, "\nforged") || strings.Contains(text, "\x1b") {
		t.Error(text)
	}
}

// What a screen lets through is printable, and JSON means what it meant.
func FuzzScreen(f *testing.F) {
	for _, c := range hostileText {
		f.Add([]byte(c.text), uint(1))
	}
	f.Add([]byte(`{"a":"`+"\u009b\u202e"+`"}`), uint(3))
	f.Add([]byte("{\"a\":\r\"\x9b\"}"), uint(8))
	f.Fuzz(func(t *testing.T, in []byte, cut uint) {
		var b strings.Builder
		s := newScreen(&b)
		at := int(cut % uint(len(in)+1))
		_, _ = s.Write(in[:at])
		_, _ = s.Write(in[at:])
		_, _ = s.Write([]byte("\n"))
		out := b.String()
		for i, r := range out {
			if bad := r == utf8.RuneError && out[i] != 0xef; bad || r != '\n' && r != '\t' && r != utf8.RuneError &&
				hidden(r) {
				t.Fatalf("%q: %q comes through", in, r)
			}
		}
		var was, is any
		if json.Unmarshal(in, &was) == nil {
			b.Reset()
			s := &screen{w: &b, json: true}
			_, _ = s.Write(in[:at])
			_, _ = s.Write(in[at:])
			out = b.String()
			if err := json.Unmarshal([]byte(out), &is); err != nil {
				t.Fatalf("%q is no JSON any more: %s", in, out)
			}
			x, _ := json.Marshal(was)
			if y, _ := json.Marshal(is); string(x) != string(y) {
				t.Fatalf("%s became %s", x, y)
			}
		}
	})
}
