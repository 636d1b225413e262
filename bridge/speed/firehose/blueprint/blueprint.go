// Package blueprint is the functions that AWS published for delivery streams to
// be transformed by, built in: they need no function to be deployed. Each takes a
// record and gives it in another form, or says that it cannot.
//
// What they make of a record is what the published functions make of it on
// Node.js in UTC, to the byte, so that who used them finds the same: their texts
// are JavaScript's, as are their dates and numbers (js.go, jsdate.go). One fault is
// kept on purpose: syslog-to-csv writes the word undefined for a process id that
// is missing, and as a sixth column. syslog-to-csv-clean does not.
package blueprint

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
)

// Prefix is what the names of blueprints begin with where a function's ARN is
// wanted.
const Prefix = "tidemill:blueprint:"

// A function appends the new form of a record to dst; ok false: it cannot.
type function func(dst, record []byte) (out []byte, ok bool)

var functions = map[string]function{
	"general-processing":  func(dst, record []byte) ([]byte, bool) { return append(dst, record...), true },
	"apachelog-to-json":   apacheToJSON,
	"apachelog-to-csv":    apacheToCSV,
	"syslog-to-json":      syslogToJSON,
	"syslog-to-csv":       syslogToCSV,
	"syslog-to-csv-clean": syslogToCleanCSV,
}

// Has says whether there is a blueprint of that name, without its Prefix.
func Has(name string) bool { return functions[name] != nil }

// Transform returns the new form of a record by the blueprint of a name that Has
// knows. ok is false where the published function says ProcessingFailed.
func Transform(name string, record []byte) (out []byte, ok bool) {
	return functions[name](nil, record)
}

type record struct {
	RecordID string `json:"recordId"`
	Result   string `json:"result,omitempty"`
	Data     string `json:"data"`
}

type document struct {
	Records []record `json:"records"`
}

// An Invoker calls blueprints as functions are called.
type Invoker struct{}

// Invoke answers an invocation by a delivery stream: function is Prefix and a
// blueprint's name, event and answer are of Firehose's form. functionError is not
// "" if answer is an error object instead; err is that there is no such blueprint.
func (Invoker) Invoke(_ context.Context, function string, event []byte) (
	answer []byte, functionError string, err error) {
	f := functions[strings.TrimPrefix(function, Prefix)]
	if f == nil || !strings.HasPrefix(function, Prefix) {
		return nil, "", fmt.Errorf("there is no blueprint %.200q", function)
	}
	var in document
	if err := json.Unmarshal(event, &in); err != nil || in.Records == nil {
		return []byte(`{"errorType":"TypeError","errorMessage":"the event has no records"}`), "Unhandled", nil
	}
	out := document{Records: make([]record, 0, len(in.Records))}
	for _, r := range in.Records {
		r.Result = "ProcessingFailed"
		if data, err := base64.StdEncoding.DecodeString(r.Data); err == nil {
			if data, ok := f(nil, data); ok {
				r.Result, r.Data = "Ok", base64.StdEncoding.EncodeToString(data)
			}
		}
		out.Records = append(out.Records, r)
	}
	answer, err = json.Marshal(out)
	return answer, "", err
}
