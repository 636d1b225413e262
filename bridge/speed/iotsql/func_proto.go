package iotsql

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tidemill/tidemill/bridge/speed/iotsql/protojson"
)

// maxProtoCalls is how often a statement may decode protobuf (guide, Decoding
// protobuf message payloads).
const maxProtoCalls = 2

const decodeProtoName = "decode of protobuf"

// checkDecode refuses decode of protobuf, which is the form with six
// arguments, in templates and without the service that has the descriptor sets.
func checkDecode(p *parser, n *node) {
	fixed(1)(p, n)
	six := len(n.kids) == 6
	switch {
	case !six && len(n.kids) > 1 && n.kids[1].op == opLit && n.kids[1].text == "proto":
		p.fail(n.pos, "decode of protobuf takes six arguments", "decode(x, 'proto', bucket, key, file, message)")
	case six && p.template:
		p.fail(n.pos, "protobuf can't be decoded in a template", "a variable that SET decodes it into")
	case six:
		p.need(n, "stored descriptor sets", func(x *Services) bool { return x.Protobuf != nil })
		p.payloadBytes(n)
	}
}

// decodeProto is decode(x, 'proto', bucket, key, file, message). x is base64,
// or * for the payload. What can't be decoded is Null, as of base64.
func decodeProto(n *node, args []eval) eval {
	if len(args) != 6 {
		return undefined
	}
	raw := n.kids[0].op == opBytes
	return func(f *frame) value {
		if scheme, ok := f.text(args[1](f)); !ok || string(scheme) != "proto" {
			return value{}
		}
		var at [4]string // bucket, key, file and message
		for i := range at {
			var ok bool
			if at[i], ok = f.name(args[2+i](f)); !ok {
				return value{}
			}
		}
		var x value
		if !raw {
			if x = args[0](f); x.kind == kindUndefined || f.err != nil {
				return value{}
			}
		}
		if f.protoCalls++; f.protoCalls > maxProtoCalls {
			f.fail(errTooManyCalls)
			return value{}
		}
		s, err := f.schema(at[0], at[1])
		if s == nil {
			f.trace.setNote("the descriptor set could not be had")
			return value{}
		}
		var md protoreflect.MessageDescriptor
		if err == nil {
			md, err = s.types.Message(at[2], at[3])
		}
		if err != nil {
			f.failed(decodeProtoName, err)
			return value{}
		}
		var b []byte
		if raw {
			b, err = f.rawProto()
		} else {
			b, err = f.proto64(x)
		}
		if err == nil {
			return f.fromProto(s, md, b)
		}
		f.failed(decodeProtoName, err)
		return value{kind: kindNull}
	}
}

var errNotBase64 = errors.New("the value is no base64 text")

// rawProto is the payload's bytes. A payload that is a JSON string is base64
// (guide, Decoding protobuf message payloads).
func (f *frame) rawProto() ([]byte, error) {
	if f.doc == docUnknown {
		f.scan()
	}
	if f.doc == docOther && f.body[0] == '"' {
		return f.proto64(wireValue(f.body))
	}
	return f.m.Payload, nil
}

func (f *frame) proto64(v value) ([]byte, error) {
	if v.kind != kindText {
		return nil, errNotBase64
	}
	from := len(f.arena)
	var err error
	f.arena, err = base64.StdEncoding.AppendDecode(f.arena, f.content(v))
	if err != nil {
		f.arena = f.arena[:from]
		return nil, errNotBase64
	}
	return f.arena[from:len(f.arena):len(f.arena)], nil
}

// fromProto decodes a message into JSON.
func (f *frame) fromProto(s *schema, md protoreflect.MessageDescriptor, b []byte) value {
	from := len(f.arena)
	out, err := s.types.Append(f.arena, md, b, maxOutput)
	switch {
	case errors.Is(err, protojson.ErrTooLarge):
		f.fail(errTooLarge)
		return value{}
	case err != nil:
		f.failed(decodeProtoName, err)
		return value{kind: kindNull}
	}
	f.arena = out
	return wireValue(f.built(kindObject, from).b)
}

// schema returns the descriptor set of an object, nil when there is none.
func (f *frame) schema(bucket, key string) (*schema, error) {
	x := f.prog.services
	s, err := x.schemas.get(f.ctx, x, bucket, key)
	if s == nil && f.ctx.Err() != nil {
		f.fail(fmt.Errorf("iotsql: %s: %w", decodeProtoName, context.Cause(f.ctx)))
	}
	return s, err
}
