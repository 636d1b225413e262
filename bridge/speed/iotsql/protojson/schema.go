package protojson

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// MaxSchema is the longest descriptor set, in bytes (AWS IoT developer guide,
// Decoding protobuf message payloads).
const MaxSchema = 32 << 10

// A Schema is a set of message types. Several goroutines may use it.
type Schema struct{ files *protoregistry.Files }

// Parse reads a serialized FileDescriptorSet of at most MaxSchema bytes.
func Parse(b []byte) (*Schema, error) {
	if len(b) > MaxSchema {
		return nil, fmt.Errorf("the descriptor set has %d bytes, %d are the limit", len(b), MaxSchema)
	}
	var set descriptorpb.FileDescriptorSet
	if err := (proto.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(b, &set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, err
	}
	return &Schema{files}, nil
}

// Message finds a message type by the name of its file, with or without
// ".proto", and its own, with or without the package.
func (s *Schema) Message(file, name string) (protoreflect.MessageDescriptor, error) {
	fd, err := s.files.FindFileByPath(file)
	if err != nil {
		fd, err = s.files.FindFileByPath(file + ".proto")
	}
	if err != nil {
		return nil, fmt.Errorf("the descriptor set has no file %q", file)
	}
	for _, full := range []protoreflect.FullName{fd.Package().Append(protoreflect.Name(name)),
		protoreflect.FullName(name)} {
		if d, err := s.files.FindDescriptorByName(full); err == nil && d.ParentFile() == fd {
			if md, ok := d.(protoreflect.MessageDescriptor); ok {
				return md, nil
			}
		}
	}
	return nil, fmt.Errorf("%s has no message %q", fd.Path(), name)
}
