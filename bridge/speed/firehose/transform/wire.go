package transform

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/firehose/blueprint"
)

// builtin returns the blueprint's name, if it is one.
func builtin(function string) (name string, ok bool) {
	name, ok = strings.CutPrefix(function, blueprint.Prefix)
	return name, ok && blueprint.Has(name)
}

// overhead is what a record takes in an event besides its data and its text
// members, in bytes, at most.
const overhead = 300

// batch is how many of records one event holds: at least one, their data within
// f.Batch and the event within maxPayload.
func (f *Function) batch(records []Record) (n int) {
	room, data := maxPayload-len(f.Stream)-len(f.Source)-len(f.Region)-overhead, 0
	for i, r := range records {
		room -= overhead + 6*len(r.ID) + base64.StdEncoding.EncodedLen(len(r.Data))
		if k := r.Kinesis; k != nil {
			room -= 6 * (len(k.ShardID) + len(k.PartitionKey) + len(k.SequenceNumber) + len(k.SubSequence))
		}
		data += len(r.Data)
		if i > 0 && (room < 0 || data > f.Batch) {
			return i
		}
	}
	return len(records)
}

// event is what the function is called with.
func (f *Function) event(batch []Record) []byte {
	size := 1024
	for _, r := range batch {
		size += base64.StdEncoding.EncodedLen(len(r.Data)) + overhead
	}
	b := make([]byte, 0, size)
	b = append(b, `{"invocationId":"`+uuid.NewString()+`","deliveryStreamArn":`...)
	b = appendText(b, f.Stream)
	if f.Source != "" {
		b = appendText(append(b, `,"sourceKinesisStreamArn":`...), f.Source)
	}
	b = appendText(append(b, `,"region":`...), f.Region)
	b = append(b, `,"records":[`...)
	for i, r := range batch {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(append(b, `{"recordId":`...), r.ID)
		b = strconv.AppendInt(append(b, `,"approximateArrivalTimestamp":`...), r.Arrived, 10)
		b = base64.StdEncoding.AppendEncode(append(b, `,"data":"`...), r.Data)
		b = append(b, '"')
		if r.Kinesis != nil {
			if raw, err := json.Marshal(r.Kinesis); err == nil { // of texts and a number
				b = append(append(b, `,"kinesisRecordMetadata":`...), raw...)
			}
		}
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

func appendText(b []byte, s string) []byte {
	raw, err := json.Marshal(s)
	if err != nil { // never, of a string
		return append(b, `""`...)
	}
	return append(b, raw...)
}

// An answer is a function's. What else it has is passed over.
type answer struct {
	Records []answered `json:"records"`
}

type answered struct {
	RecordID string          `json:"recordId"`
	Result   string          `json:"result"`
	Data     json.RawMessage `json:"data"`
	Metadata struct {
		PartitionKeys map[string]any `json:"partitionKeys"`
	} `json:"metadata"`
}

const messageStatus = "ProcessingFailed status set for record"

// read makes results of an answer. Its ids are those of the batch, each once and
// in any order, else the whole batch failed.
func read(doc []byte, batch []Record) ([]Result, *failure) {
	var a answer
	if err := json.Unmarshal(doc, &a); err != nil {
		return nil, &failure{code: codeJSON,
			message: "There was an error parsing returned records from the Lambda function."}
	}
	at := make(map[string]int, len(batch))
	for i, r := range batch {
		at[r.ID] = i
	}
	results := make([]Result, len(batch))
	seen := make([]bool, len(batch))
	for _, r := range a.Records {
		i, ok := at[r.RecordID]
		switch {
		case !ok:
			return nil, &failure{code: codeUnknown, message: fmt.Sprintf("A record was returned with the ID %.100q, "+
				"which was not sent.", r.RecordID)}
		case seen[i]:
			return nil, &failure{code: codeDuplicate, message: "Multiple records were returned with the same " +
				"record ID."}
		}
		seen[i] = true
		var why *failure
		if results[i], why = r.result(); why != nil {
			return nil, why
		}
	}
	for i := range seen {
		if !seen[i] {
			return nil, &failure{code: codeMissing, message: "One or more record IDs were not returned."}
		}
	}
	return results, nil
}

// result is what an answer says of one record.
func (r *answered) result() (Result, *failure) {
	switch r.Result {
	case "Dropped":
		return Result{Status: Dropped}, nil
	case "ProcessingFailed":
		return failed(failure{codeStatus, messageStatus, false, 1}), nil
	case "Ok":
	default:
		return failed(failure{codeResult, fmt.Sprintf("The result %.100q is none of Ok, Dropped and ProcessingFailed.",
			r.Result), false, 1}), nil
	}
	out := Result{Status: Ok}
	if r.Data == nil || json.Unmarshal(r.Data, &out.Data) != nil || out.Data == nil {
		return out, &failure{code: codeJSON, message: "A record was returned whose data is not a text in base64."}
	}
	for name, v := range r.Metadata.PartitionKeys {
		if out.Keys == nil {
			out.Keys = map[string]string{}
		}
		switch v := v.(type) {
		case string:
			out.Keys[name] = v
		case float64:
			out.Keys[name] = strconv.FormatFloat(v, 'f', -1, 64)
		case bool:
			out.Keys[name] = strconv.FormatBool(v)
		} // else it has no value, which fails the record where its prefix is evaluated
	}
	return out, nil
}
