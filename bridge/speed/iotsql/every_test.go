package iotsql

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/deploy/nightly"
)

// everyValue is JSON for each corner of each type; "" is a missing member.
func everyValue() []string {
	all := []string{
		"", "null", "true", "false", "[]", "{}", `[1,"a",2.0]`, `[[{"n":1}],null]`, `{"n":1,"s":"x","n":2.0}`,
		`[ {"n": 1} , { } ]`, `{"a":[1.50, "\u0041"]}`,
	}
	all = append(all, payloadNumbers...)
	c := &chooser{}
	for _, s := range payloadTexts {
		all = append(all, c.quoted(s))
	}
	return all
}

// TestAgreeEverywhere compares every function and operator over pairs of
// corner values with the naive evaluator.
func TestAgreeEverywhere(t *testing.T) {
	values := everyValue()
	for _, version := range []string{Version2016, Version2015} {
		for n, expr := range everyCall(version) {
			s, err := Compile("SELECT "+expr+" AS r FROM 't/#'", version)
			if err != nil {
				t.Fatal(err)
			}
			pair := regexp.MustCompile(`\bb\b`).MatchString(expr)
			for i, a := range values {
				for j, b := range values {
					if pair && (i*31+j*17+n)%everyStride != 0 {
						continue
					}
					agree(t, s, &Input{Message: message.Message{Topic: "t/1", Payload: pairPayload(a, b),
						Time: 1481825251155}})
					if !pair {
						break
					}
				}
			}
		}
	}
}

// everyStride is which part of the pairs a test looks at: one in so many.
var everyStride = nightly.Or(499, 97)

func pairPayload(a, b string) []byte {
	var parts []string
	if a != "" {
		parts = append(parts, `"a":`+a)
	}
	if b != "" {
		parts = append(parts, `"b":`+b)
	}
	return []byte("{" + strings.Join(parts, ",") + "}")
}

// everyCall has each function, operator and cast of a and b.
func everyCall(version string) []string {
	all := []string{"-a", "NOT a", "a"}
	for _, op := range []string{"+", "-", "*", "/", "%", "=", "<>", "<", "<=", ">", ">=", "AND", "OR"} {
		all = append(all, "a "+op+" b")
	}
	for typ, cast := range castTypes {
		if !cast.modern || version != Version2015 {
			all = append(all, fmt.Sprintf("cast(a AS %s)", typ))
		}
	}
	if version != Version2015 {
		all = append(all, "a IN [b]", "a IN b", "[a, b]", "{'x': a, 'y': b}", "'' + [a]", "get([a, b], 0) / 2",
			"substring(a, 1, b)", "substring(a, b, 4)", "transform('enrichArray', a, b)")
	}
	for _, sig := range signatures {
		if functions[strings.ToLower(sig.name)].modern && version == Version2015 ||
			strings.ContainsAny(sig.args, "*MERQTPZG") || len(sig.args) > 2 || sig.args == "" {
			continue
		}
		args := strings.Join([]string{"a", "b"}[:len(sig.args)], ", ")
		all = append(all, fmt.Sprintf("%s(%s)", sig.name, args))
	}
	return all
}
