package strictjson

import (
	"encoding/json"
	"testing"
)

func TestResource(t *testing.T) {
	const typ = "AWS::A::B"
	for doc, want := range map[string]string{
		`{"sql":"x"}`:          `{"sql":"x"}`,
		`{"Type":"Lambda"}`:    `{"Type":"Lambda"}`,
		`no`:                   `no`,
		`{"Type":"AWS::A::B"}`: "!Properties: missing",
		`{"Type":"AWS::A::B","DependsOn":"x","DeletionPolicy":"Retain","Properties":{"A":[{"Reference":1}]}}`: `{"A":[{"Reference":1}]}`,
		`{"Type":"AWS::A::C","Properties":{}}`:          `!Type: "AWS::A::C", want AWS::A::B`,
		`{"Type":"AWS::A::B","Else":1,"Properties":{}}`: "!Else: unknown member of a resource; take it out",
		`{"Resources":{"X":{"Type":"AWS::A::B"}}}`: "!Resources: a template of CloudFormation; want one of its resources " +
			"a file, as it is",
		`{"Type":"AWS::A::B","Properties":{"A":{"Ref":"X"},"B":[1,{"C":{"Fn::GetAtt":["X","Arn"]}}]}}`: "" +
			`!Properties.A: {"Ref": …} is computed by CloudFormation; write the value in its place` + "\n" +
			`Properties.B[1].C: {"Fn::GetAtt": …} is computed by CloudFormation; write the value in its place`,
	} {
		out, err := Resource([]byte(doc), typ)
		got := string(out)
		if err != nil {
			got = "!" + err.Error()
		}
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", doc, got, want)
		}
	}
}

func FuzzResource(f *testing.F) {
	f.Add([]byte(`{"Type":"AWS::A::B","Properties":{"A":{"Ref":"X"}}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		out, err := Resource(doc, "AWS::A::B")
		if err == nil && json.Valid(doc) && !json.Valid(out) {
			t.Fatalf("%q", out)
		}
	})
}
