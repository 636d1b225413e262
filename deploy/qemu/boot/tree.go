package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Tokens and sizes of a flattened device tree (Devicetree Specification 0.4, chapter 5).
const (
	treeMagic  = 0xd00dfeed
	treeHeader = 40

	tokenBegin = 1
	tokenEnd   = 2
	tokenProp  = 3
	tokenNop   = 4
	tokenLast  = 9
)

var errTree = errors.New("device tree: damaged")

// Disable returns a copy of a device tree whose node of this name, such as
// "watchdog@7e100000", has the status disabled: the kernel makes no device of it. A
// status that it has stays behind the new one, which is the one that is read.
func Disable(tree []byte, node string) ([]byte, error) {
	if len(tree) < treeHeader || binary.BigEndian.Uint32(tree) != treeMagic {
		return nil, errTree
	}
	field := func(i int) int { return int(binary.BigEndian.Uint32(tree[4*i:])) }
	structs, texts, structsLen, textsLen := field(2), field(3), field(9), field(8)
	if !within(structs, structsLen, tree) || !within(texts, textsLen, tree) || texts < structs+structsLen ||
		field(4) >= structs {
		return nil, fmt.Errorf("%w: its parts are not in the usual order", errTree)
	}
	at, err := begin(tree[structs:structs+structsLen], node)
	if err != nil {
		return nil, err
	}
	name := bytes.Index(tree[texts:texts+textsLen], []byte("\x00status\x00"))
	if name < 0 {
		return nil, fmt.Errorf("%w: no node has a status", errTree)
	}
	value := []byte("disabled\x00\x00\x00\x00") // padded to 4 bytes
	var prop []byte
	for _, v := range []uint32{tokenProp, uint32(len("disabled") + 1), uint32(name + 1)} {
		prop = binary.BigEndian.AppendUint32(prop, v)
	}
	prop = append(prop, value...)
	at += structs
	out := bytes.Join([][]byte{tree[:at], prop, tree[at:]}, nil)
	for i, old := range map[int]int{1: field(1), 3: texts, 9: structsLen} { // total size, texts' place, structs' size
		binary.BigEndian.PutUint32(out[4*i:], uint32(old+len(prop)))
	}
	return out, nil
}

func within(from, size int, all []byte) bool {
	return from >= 0 && size >= 0 && from <= len(all) && size <= len(all)-from
}

// begin finds where the properties of a node begin.
func begin(s []byte, node string) (int, error) {
	for at := 0; at+4 <= len(s); {
		token := binary.BigEndian.Uint32(s[at:])
		at += 4
		switch token {
		case tokenBegin:
			n := bytes.IndexByte(s[at:], 0)
			if n < 0 {
				return 0, errTree
			}
			name := string(s[at : at+n])
			if at += (n + 4) &^ 3; name == node {
				return min(at, len(s)), nil
			}
		case tokenProp:
			if at+8 > len(s) {
				return 0, errTree
			}
			n := int(binary.BigEndian.Uint32(s[at:]))
			if at += 8; !within(at, n, s) {
				return 0, errTree
			}
			at += (n + 3) &^ 3
		case tokenEnd, tokenNop:
		case tokenLast:
			return 0, fmt.Errorf("device tree: there is no node %s", node)
		default:
			return 0, errTree
		}
	}
	return 0, errTree
}
