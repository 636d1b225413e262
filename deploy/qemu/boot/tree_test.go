package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// tree is a device tree of / with the nodes watchdog@1, which is "okay", and uart@2.
func tree() []byte {
	var s []byte
	u32 := func(v uint32) { s = binary.BigEndian.AppendUint32(s, v) }
	begin := func(name string) { u32(tokenBegin); s = append(s, padded(name)...) }
	begin("")
	begin("watchdog@1")
	u32(tokenProp)
	u32(5)
	u32(6) // of "status" in the texts
	s = append(s, padded("okay")...)
	u32(tokenEnd)
	u32(tokenNop)
	begin("uart@2")
	u32(tokenEnd)
	u32(tokenEnd)
	u32(tokenLast)
	texts := []byte("model\x00status\x00")
	var out []byte
	head := uint32(treeHeader + 16)
	for _, v := range []uint32{treeMagic, head + uint32(len(s)+len(texts)), head, head + uint32(len(s)), treeHeader, 17,
		16, 0, uint32(len(texts)), uint32(len(s))} {
		out = binary.BigEndian.AppendUint32(out, v)
	}
	return bytes.Join([][]byte{out, make([]byte, 16), s, texts}, nil)
}

// padded is a text with its end, to a multiple of 4 bytes.
func padded(text string) []byte {
	out := append([]byte(text), 0)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return out
}

// statuses are those of each node, in their order, by the name of the node.
func statuses(t testing.TB, tree []byte) map[string][]string {
	t.Helper()
	field := func(i int) int { return int(binary.BigEndian.Uint32(tree[4*i:])) }
	if field(1) != len(tree) {
		t.Fatalf("%d bytes, and it says %d", len(tree), field(1))
	}
	s, texts := tree[field(2):field(2)+field(9)], tree[field(3):field(3)+field(8)]
	text := func(b []byte) string { return string(b[:bytes.IndexByte(b, 0)]) }
	all := map[string][]string{}
	for node, at := "", 0; ; {
		token := binary.BigEndian.Uint32(s[at:])
		at += 4
		switch token {
		case tokenBegin:
			node = text(s[at:])
			at += (len(node) + 4) &^ 3
		case tokenProp:
			n := int(binary.BigEndian.Uint32(s[at:]))
			if name := text(texts[binary.BigEndian.Uint32(s[at+4:]):]); name == "status" {
				all[node] = append(all[node], text(s[at+8:]))
			}
			at += 8 + (n+3)&^3
		case tokenLast:
			return all
		}
	}
}

func TestDisable(t *testing.T) {
	before := tree()
	for node, want := range map[string]string{"watchdog@1": "disabled okay", "uart@2": "disabled"} {
		out, err := Disable(before, node)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Join(bytesOf(statuses(t, out)[node]), []byte(" ")); string(got) != want {
			t.Errorf("%s has the status %q, want %q", node, got, want)
		}
	}
	if !bytes.Equal(before, tree()) {
		t.Error("the tree itself was changed")
	}
	if _, err := Disable(before, "spi@3"); err == nil || errors.Is(err, errTree) {
		t.Errorf("a node that is not there: %v", err)
	}
	for n := range len(before) - len("model\x00status\x00") {
		if _, err := Disable(before[:n], "watchdog@1"); !errors.Is(err, errTree) {
			t.Fatalf("%d of its bytes: %v", n, err)
		}
	}
}

func bytesOf(texts []string) (out [][]byte) {
	for _, t := range texts {
		out = append(out, []byte(t))
	}
	return out
}

// What Disable returns has one more property, and can be given to it again.
func FuzzDisable(f *testing.F) {
	f.Add(tree(), "watchdog@1")
	f.Add(tree()[:50], "uart@2")
	f.Fuzz(func(t *testing.T, in []byte, node string) {
		out, err := Disable(in, node)
		if err != nil {
			return
		}
		if len(out) != len(in)+24 {
			t.Fatalf("%d bytes became %d", len(in), len(out))
		}
		if _, err := Disable(out, node); err != nil {
			t.Fatal(err)
		}
	})
}
