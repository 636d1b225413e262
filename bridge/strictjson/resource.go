package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// besides are members of a resource that tell CloudFormation how to make it, not what.
var besides = []string{"Condition", "DeletionPolicy", "DependsOn", "Metadata", "UpdateReplacePolicy"}

// Resource returns the Properties of doc if that is a resource of a CloudFormation
// template, {"Type": …, "Properties": …}, of the type typ, and doc itself if it is none.
// What only CloudFormation could compute is an error for each, by its path, and so is a
// template as a whole.
func Resource(doc []byte, typ string) ([]byte, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(doc, &members) != nil {
		return doc, nil // told by whoever reads it
	}
	if _, ok := members["Resources"]; ok && members["Type"] == nil {
		//lint:ignore ST1005 a member
		return nil, errors.New("Resources: a template of CloudFormation; want one of its resources a file, as it is")
	}
	var is string
	if json.Unmarshal(members["Type"], &is) != nil || !strings.HasPrefix(is, "AWS::") {
		return doc, nil
	}
	var errs []error
	if is != typ {
		errs = append(errs, fmt.Errorf("Type: %.100q, want %s", is, typ)) //lint:ignore ST1005 a member
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if name != "Type" && name != "Properties" && !slices.Contains(besides, name) {
			errs = append(errs, fmt.Errorf("%.100s: unknown member of a resource; take it out", name))
		}
	}
	var properties any
	if json.Unmarshal(members["Properties"], &properties) != nil {
		errs = append(errs, errors.New("Properties: missing")) //lint:ignore ST1005 a member
	}
	if errs = append(errs, computed("Properties", properties)...); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return members["Properties"], nil
}

// computed tells of the values that CloudFormation computes: objects whose one member is
// Ref or Fn::….
func computed(path string, v any) (errs []error) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if len(v) == 1 && (name == "Ref" || strings.HasPrefix(name, "Fn::")) {
				return []error{fmt.Errorf("%.200s: {%q: …} is computed by CloudFormation; write the value in its place",
					path, name)}
			}
			errs = append(errs, computed(path+"."+name, v[name])...)
		}
	case []any:
		for i, inner := range v {
			errs = append(errs, computed(fmt.Sprintf("%s[%d]", path, i), inner)...)
		}
	}
	return errs
}
