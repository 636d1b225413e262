package rules

import (
	"strings"
	"testing"
)

// Documents of other tools, and members of a wrong type, are told from mistakes.
func TestSpellingIsTold(t *testing.T) {
	for doc, want := range map[string]string{
		`{"Sql":"SELECT * FROM 'a'","Actions":[{"Kinesis":{}}],"RuleDisabled":"false"}`: "CloudFormation's spelling",
		`{"sql":"SELECT * FROM 'a'","actions":[],"RuleDisabled":"false"}`:               "CloudFormation's spelling",
		`{"sql":"SELECT * FROM 'a'","actions":[],"ruleDisabled":"false"}`:               "ruleDisabled: string is not what it takes",
		`{"sql":7,"actions":[]}`: "sql: number is not what it takes",
		`[]`:                     "want one object",
	} {
		_, err := new(Compiler).Parse("r", []byte(doc))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: %v, want word of %q", doc, err, want)
		}
	}
}
