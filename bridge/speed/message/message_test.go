package message

import "testing"

func TestKey(t *testing.T) {
	m := Message{Topic: "a/b"}
	for _, step := range []struct {
		set  func()
		want string
	}{{func() {}, "a/b"}, {func() { m.ClientID = "c" }, "c"}, {func() { m.Thing = "t" }, "t"}} {
		if step.set(); m.Key() != step.want {
			t.Errorf("%+v: key %q, want %q", m, m.Key(), step.want)
		}
	}
}

func TestTrace(t *testing.T) {
	in := Trace{0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xff}
	const text = "12345678-9abc-def0-1234-56789abcdeff"
	if in.String() != text {
		t.Error(in.String())
	}
	if out, ok := ParseTrace(text); !ok || out != in {
		t.Error(out, ok)
	}
	for _, bad := range []string{"", text[1:], text + "0", "1234567-89abc-def0-1234-56789abcdeff",
		"12345678-9abc-def0-1234-56789abcdefg"} {
		if _, ok := ParseTrace(bad); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
	if a, b := NewTrace(), NewTrace(); a == b {
		t.Error("two fresh traces are the same")
	}
}

func TestIsJSON(t *testing.T) {
	for payload, want := range map[string]bool{
		`{"a":"°"}`: true, "21.5": true, "": false, "Online": false, "{\"a\":\"\x9b\"}": false, "\xff": false,
	} {
		if got := IsJSON([]byte(payload)); got != want {
			t.Errorf("%q: %t", payload, got)
		}
	}
}
