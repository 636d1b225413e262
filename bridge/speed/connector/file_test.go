package connector

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
)

// noEmitters knows one kind, which wants nothing.
func noEmitters(kind string, doc json.RawMessage) (Emitter, error) {
	if kind != "Known" {
		return nil, errors.New("no emitter of that name")
	}
	return &objects{}, nil
}

// The example in FORMAT.md is right.
func TestFormatExample(t *testing.T) {
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(text)
	if _, err := ParseFile(doc[1], noEmitters, true); err != nil {
		t.Error(err)
	}
	if _, err := ParseFile(doc[1], noEmitters, false); err == nil || !strings.Contains(err.Error(), "Leases: missing") {
		t.Errorf("by itself: %v", err)
	}
}

func TestParseFileErrors(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"no JSON", `{`, "want one JSON object"},
		{"two values", `{} {}`, "want one JSON object"},
		{"no object", `[]`, "the file: want an object"},
		{"all at once", `{"ConnectorName":"a b","Sauce":1,"Source":{"StreamName":7,"streamName":"x"},` +
			`"Buffer":{"Records":-1,"Seconds":"x"},"Retry":{"Limit":-2},"Workers":65,"Emit":{"Other":{}},"Leases":{"File":{"Path":"x"}}}`,
			`Buffer.Seconds: a string, want a number
Sauce: unknown member
Source.StreamName: a number, want a string
Source.streamName: unknown member
ConnectorName: "a b", want 1 to 128 of a-z A-Z 0-9 _ . -
Source: want StreamName or StreamARN
Buffer.Records: -1, want at most 100000, or 0 for the default
Workers: 65, want at most 64, or 0 for the default
Retry.Limit: -2, want 0 to 1000
Emit.Other: no emitter of that name
Leases.File: it is for a connector that runs by itself; in the bridge the log has the leases`},
		{"no emitter", `{"ConnectorName":"c","Source":{"StreamName":"s"},"Emit":{}}`,
			"Emit: 0 members, want one, such as S3"},
		{"statement", `{"ConnectorName":"c","Source":{"StreamName":"s"},"Transform":{"SQL":"SELECT FROM"},"Emit":{"Known":{}}}`,
			"Transform.SQL: "},
		{"position", `{"ConnectorName":"c","Source":{"StreamName":"s","StartingPosition":"AT_TIMESTAMP"},"Emit":{"Known":{}}}`,
			"Source.StartingTimestamp: missing"},
		{"arn", `{"ConnectorName":"c","Source":{"StreamARN":"arn:aws:s3:::x"},"Emit":{"Known":{}}}`,
			"Source.StreamARN: "},
		{"leases", `{"ConnectorName":"c","Source":{"StreamName":"s"},"Emit":{"Known":{}},"Leases":{"File":{}}}`,
			"Leases.File.Path: missing"},
		{"in the bridge", `{"ConnectorName":"c","Source":{"StreamName":"s"},"Emit":{"Known":{}},"Leases":{"File":{"Path":"x"}}}`,
			"Leases.File: it is for"},
		{"emitter", `{"ConnectorName":"c","Source":{"StreamName":"s"},"Emit":{"Other":{}}}`, "Emit.Other: no emitter"},
		{"round", `{"ConnectorName":"c","Source":{"StreamName":"s"},"Emit":{"Stream":{"StreamName":"s"}}}`,
			"round for ever"},
	} {
		_, err := ParseFile([]byte(c.doc), noEmitters, true)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.name, err, c.want)
		}
	}
}

// Whatever is taken has a name, a source and an emitter, within the bounds.
func FuzzParseFile(f *testing.F) {
	f.Add([]byte(`{"ConnectorName":"c","Source":{"StreamName":"s"},"Emit":{"Known":{}}}`))
	f.Add([]byte(`{"ConnectorName":"c","Source":{"StreamARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/s",` +
		`"StartingTimestamp":"2026-01-01T00:00:00Z"},"Emit":{"Known":{}},"DeadLetter":null,"Retry":{"Limit":0}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		c, err := ParseFile(doc, noEmitters, true)
		if err != nil {
			return
		}
		if !nameForm.MatchString(c.ConnectorName) || c.Source.stream() == "" || len(c.Emit) != 1 ||
			c.Buffer.Records < 0 || c.Buffer.Records > maxBufferRecords || c.Buffer.Bytes < 0 ||
			c.Buffer.Bytes > maxBufferBytes || c.Workers > maxWorkers {
			t.Errorf("%+v", c)
		}
	})
}

// What String writes parsePosition reads.
func FuzzPosition(f *testing.F) {
	f.Add("49.3")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePosition(s)
		if err != nil {
			return
		}
		if q, err := parsePosition(p.String()); err != nil || q != p {
			t.Errorf("%q is %+v, and again %+v, %v", s, p, q, err)
		}
	})
}
