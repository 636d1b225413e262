// Package protojsontest has a descriptor set and messages for tests of what
// decodes protobuf.
package protojsontest

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// meterProto is a file with a field of each kind.
const meterProto = `
name: "site/meter.proto" package: "site.v1" syntax: "proto3"
dependency: ["google/protobuf/any.proto", "google/protobuf/timestamp.proto", "google/protobuf/duration.proto", "google/protobuf/struct.proto", "google/protobuf/wrappers.proto"]
enum_type { name: "Mode" value { name: "OFF" number: 0 } value { name: "ON" number: 1 } }
message_type { name: "Reading"
	field { name: "sensor_id" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
	field { name: "temp" number: 2 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
	field { name: "hum" number: 3 type: TYPE_FLOAT label: LABEL_OPTIONAL }
	field { name: "count" number: 4 type: TYPE_INT64 label: LABEL_OPTIONAL }
	field { name: "total" number: 5 type: TYPE_UINT64 label: LABEL_OPTIONAL }
	field { name: "small" number: 6 type: TYPE_SINT32 label: LABEL_OPTIONAL }
	field { name: "flags" number: 7 type: TYPE_FIXED32 label: LABEL_OPTIONAL }
	field { name: "alarm" number: 8 type: TYPE_BOOL label: LABEL_OPTIONAL }
	field { name: "raw" number: 9 type: TYPE_BYTES label: LABEL_OPTIONAL }
	field { name: "mode" number: 10 type: TYPE_ENUM type_name: ".site.v1.Mode" label: LABEL_OPTIONAL }
	field { name: "modes" number: 11 type: TYPE_ENUM type_name: ".site.v1.Mode" label: LABEL_REPEATED }
	field { name: "tags" number: 12 type: TYPE_STRING label: LABEL_REPEATED }
	field { name: "inner" number: 13 type: TYPE_MESSAGE type_name: ".site.v1.Reading" label: LABEL_OPTIONAL }
	field { name: "list" number: 14 type: TYPE_MESSAGE type_name: ".site.v1.Reading" label: LABEL_REPEATED }
	field { name: "by_name" number: 15 type: TYPE_MESSAGE type_name: ".site.v1.Reading.ByNameEntry" label: LABEL_REPEATED }
	field { name: "by_id" number: 16 type: TYPE_MESSAGE type_name: ".site.v1.Reading.ByIdEntry" label: LABEL_REPEATED }
	field { name: "text" number: 17 type: TYPE_STRING oneof_index: 0 label: LABEL_OPTIONAL }
	field { name: "number" number: 18 type: TYPE_INT32 oneof_index: 0 label: LABEL_OPTIONAL }
	field { name: "maybe" number: 19 type: TYPE_INT32 oneof_index: 1 proto3_optional: true label: LABEL_OPTIONAL }
	field { name: "any" number: 20 type: TYPE_MESSAGE type_name: ".google.protobuf.Any" label: LABEL_OPTIONAL }
	field { name: "at" number: 21 type: TYPE_MESSAGE type_name: ".google.protobuf.Timestamp" label: LABEL_OPTIONAL }
	field { name: "took" number: 22 type: TYPE_MESSAGE type_name: ".google.protobuf.Duration" label: LABEL_OPTIONAL }
	field { name: "doc" number: 23 type: TYPE_MESSAGE type_name: ".google.protobuf.Struct" label: LABEL_OPTIONAL }
	field { name: "wrapped" number: 24 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" label: LABEL_OPTIONAL }
	nested_type { name: "ByNameEntry" options { map_entry: true }
		field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
		field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".site.v1.Reading" label: LABEL_OPTIONAL } }
	nested_type { name: "ByIdEntry" options { map_entry: true }
		field { name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
		field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
	oneof_decl { name: "choice" } oneof_decl { name: "_maybe" } }`

// Set is the descriptor set that has it, serialized.
func Set(t testing.TB) []byte {
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(meterProto), &file); err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, fd := range []protoreflect.FileDescriptor{
		anypb.File_google_protobuf_any_proto, timestamppb.File_google_protobuf_timestamp_proto,
		durationpb.File_google_protobuf_duration_proto,
		structpb.File_google_protobuf_struct_proto, wrapperspb.File_google_protobuf_wrappers_proto,
	} {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(fd))
	}
	set.File = append(set.File, &file)
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Readings are messages of its type Reading as text.
var Readings = []string{
	``,
	`sensor_id: "s1" temp: 21.5 hum: 0.1 count: 9007199254740993 total: 18446744073709551615 small: -1 flags: 7 alarm: true raw: "\x00\xff" mode: ON`,
	`modes: [ON, OFF, ON] tags: ["a", "", "\"\\\n\t\001é"]`,
	`inner { sensor_id: "i" inner {} } list { temp: 1 } list {}`,
	`by_name { key: "b" value { temp: 2 } } by_name { key: "a" value {} } by_id { key: 10 value: "ten" } by_id { key: -2 value: "" }`,
	`text: "" maybe: 0`, `number: 0`,
	`temp: nan hum: inf list { temp: -inf } list { temp: 1e300 } list { temp: 1e-300 } list { hum: 16777216 } list { temp: 1e20 }`,
	`at { seconds: 1481825251 nanos: 155000000 } took { seconds: -3 nanos: -500000000 } wrapped { value: 0 }`,
	`doc { fields { key: "k" value { list_value { values { number_value: 1 } values { null_value: NULL_VALUE } values { struct_value {} } } } } }`,
	`any { [type.googleapis.com/site.v1.Reading] { sensor_id: "in" any { [type.googleapis.com/google.protobuf.Duration] { seconds: 1 } } } }`,
	`any {}`,
}

// Encode returns the bytes of a reading, and what the library's package
// protojson makes of it.
func Encode(t testing.TB, text string) (b, want []byte) {
	t.Helper()
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(Set(t), &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	d, err := files.FindDescriptorByName("site.v1.Reading")
	if err != nil {
		t.Fatal(err)
	}
	m, types := dynamicpb.NewMessage(d.(protoreflect.MessageDescriptor)), dynamicpb.NewTypes(files)
	if err := (prototext.UnmarshalOptions{Resolver: types}).Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if b, err = proto.Marshal(m); err != nil {
		t.Fatal(err)
	}
	if want, err = (protojson.MarshalOptions{UseProtoNames: true, Resolver: types}).Marshal(m); err != nil {
		t.Fatal(err)
	}
	return b, want
}
