package authz

import (
	"errors"
	"strings"
	"testing"
)

// An action that does not exist is refused where a document is made, with the
// nearest name, and is without effect where it is read.
func TestActionsExist(t *testing.T) {
	for _, c := range []struct{ action, want string }{
		{"*", ""}, {"iot:*", ""}, {"iot:DeleteThing", ""}, {"IOT:deletething", ""}, {"iot:Delete*", ""},
		{"iot:?onnect", ""}, {"iot:CreateJob", ""}, {"iotjobsdata:DescribeJobExecution", ""}, {"s3:GetObject", ""},
		{"s3:GetObject*", ""}, {"kinesis:PutRecord", ""}, {"firehose:PutRecordBatch", ""}, {"sqs:SendMessage", ""},
		{"lambda:InvokeFunction", ""}, {"tidemill:CreateUser", ""}, {"ec2:RunInstances", ""}, {"ec2:*", ""},
		{"iot:DeleteThng", `, the nearest is "iot:DeleteThing"`},
		{"iot:DeleteThign", `, the nearest is "iot:DeleteThing"`},
		{"iot:DeleteThng*", `, the nearest is "iot:DeleteThing"`},
		{"iott:DeleteThing", `, the nearest is "iot:DeleteThing"`},
		{"s3:ReadObject", `, the nearest is "s3:GetObject"`},
		{"kinesis:PutRecrod", `, the nearest is "kinesis:PutRecord"`},
		{"sqs:SendMesage", `, the nearest is "sqs:SendMessage"`},
		{"lambda:InvokeFuncton", `, the nearest is "lambda:InvokeFunction"`},
		{"tidemill:CreatUser", `, the nearest is "tidemill:CreateUser"`},
		{"ecc2:RunInstances", `, the nearest is "ec2:"`},
		{"iot:SetSomethingElseAltogether", ""},
		{"nonsense:Whatever", ""},
	} {
		for _, element := range []string{"Action", "NotAction"} {
			doc := []byte(`{"Statement":{"Effect":"Deny","` + element + `":["iot:Connect","` + c.action +
				`"],"Resource":"*"}}`)
			_, err := ParseNew(doc)
			known := c.want == "" && !strings.HasPrefix(c.action, "iot:SetS") && !strings.HasPrefix(c.action, "nonsense")
			switch {
			case known && err != nil:
				t.Errorf("%s: %v", c.action, err)
			case !known && (!errors.Is(err, ErrMalformed) || !errors.Is(err, errAction)):
				t.Errorf("%s: %v", c.action, err)
			case !known && !strings.HasSuffix(err.Error(), `: "`+c.action+`"`+c.want):
				t.Errorf("%s: %v, want%s", c.action, err, c.want)
			}
		}
	}
	// A document that is stored already is read.
	if _, err := Parse([]byte(`{"Statement":{"Effect":"Deny","Action":"iot:DeleteThng","Resource":"*"}}`)); err != nil {
		t.Error(err)
	}
}
