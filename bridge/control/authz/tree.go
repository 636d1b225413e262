package authz

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tidemill/tidemill/bridge/strictjson"
)

// maxDepth is deeper than any policy: document, statements, statement,
// condition, operator, values.
const maxDepth = 8

type nodeKind uint8

const (
	nodeNull nodeKind = iota
	nodeString
	nodeNumber
	nodeBool
	nodeObject
	nodeArray
)

// A node is a JSON value that keeps what a map would lose: the order of
// members, and so the knowledge that none is there twice.
type node struct {
	kind    nodeKind
	text    string // string, number or bool
	members []member
	items   []*node
}

type member struct {
	name string
	node
}

var errRepeated = errors.New("member twice")

// parseTree reads exactly one JSON value. encoding/json would silently take
// the last of two equal members, and names in any case: a Deny could hide.
func parseTree(doc []byte) (*node, error) {
	if err := json.Unmarshal(doc, new(json.RawMessage)); err != nil {
		return nil, fmt.Errorf("not JSON: %w", strictjson.Explain(doc, err))
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	return readNode(dec, 0)
}

func readNode(dec *json.Decoder, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deep")
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := tok.(type) {
	case nil:
		return &node{}, nil
	case string:
		return &node{kind: nodeString, text: v}, nil
	case json.Number:
		return &node{kind: nodeNumber, text: v.String()}, nil
	case bool:
		return &node{kind: nodeBool, text: fmt.Sprint(v)}, nil
	case json.Delim:
		n := &node{kind: nodeArray}
		if v == '{' {
			n.kind = nodeObject
		}
		for dec.More() {
			var name string
			if n.kind == nodeObject {
				key, err := dec.Token()
				if err != nil {
					return nil, err
				}
				name, _ = key.(string)
				if slices.ContainsFunc(n.members, func(m member) bool { return m.name == name }) {
					return nil, fmt.Errorf("%q: %w", name, errRepeated)
				}
			}
			child, err := readNode(dec, depth+1)
			if err != nil {
				return nil, err
			}
			if n.kind == nodeObject {
				n.members = append(n.members, member{name, *child})
			} else {
				n.items = append(n.items, child)
			}
		}
		_, err := dec.Token()
		return n, err
	}
	return nil, fmt.Errorf("unexpected %v", tok)
}

// list returns a value as AWS takes it in many places: one, or an array. Every
// entry must be of one of the kinds.
func (n *node) list(kinds ...nodeKind) ([]*node, error) {
	items := []*node{n}
	if n.kind == nodeArray {
		items = n.items
	}
	for _, i := range items {
		if !slices.Contains(kinds, i.kind) {
			return nil, errors.New("wrong type of value")
		}
	}
	return items, nil
}
