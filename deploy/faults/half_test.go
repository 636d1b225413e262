package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// A doc is a JSON object.
type doc = map[string]any

func read(raw []byte) (d doc) {
	_ = json.Unmarshal(raw, &d)
	return d
}

func write(d doc) []byte {
	raw, err := json.Marshal(d)
	if err != nil {
		panic(err)
	}
	return raw
}

// odd parts a list into what stays and what is left out.
func odd(all []any) (stays, out []any) {
	for i, v := range all {
		if i%2 == 0 {
			stays = append(stays, v)
		} else {
			out = append(out, v)
		}
	}
	return stays, out
}

// halveList halves a member of a JSON request that is a list; complete adds to the
// answer what was left out.
func halveList(operation, member string, complete func(answer doc, out []any)) halving {
	return func(r *http.Request, body []byte) ([]byte, func([]byte) []byte, bool) {
		d := read(body)
		all, _ := d[member].([]any)
		if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), "."+operation) || len(all) < 2 {
			return nil, nil, false
		}
		stays, out := odd(all)
		d[member] = stays
		return write(d), func(raw []byte) []byte {
			a := read(raw)
			complete(a, out)
			return write(a)
		}, true
	}
}

// halveSQS is of SendMessageBatch.
var halveSQS = halveList("SendMessageBatch", "Entries", func(answer doc, out []any) {
	failed, _ := answer["Failed"].([]any)
	for _, e := range out {
		failed = append(failed, doc{"Id": e.(doc)["Id"], "Code": "InternalError", "SenderFault": false, "Message": "busy"})
	}
	answer["Failed"] = failed
})

// inPlaces is of services that answer in the order of what they were sent.
func inPlaces(member, count string, ok func(of doc) doc) func(doc, []any) {
	return func(answer doc, out []any) {
		were, _ := answer[member].([]any)
		var all []any
		for i := 0; i < len(were)+len(out) || i < 2*len(out); i++ {
			if i%2 == 1 && i/2 < len(out) {
				all = append(all, doc{"ErrorCode": "InternalFailure", "ErrorMessage": "busy"})
			} else if i/2 < len(were) {
				all = append(all, were[i/2])
			} else if ok != nil {
				all = append(all, ok(nil))
			}
		}
		answer[member], answer[count] = all, len(out)
	}
}

var (
	halveKinesis  = halveList("PutRecords", "Records", inPlaces("Records", "FailedRecordCount", nil))
	halveFirehose = halveList("PutRecordBatch", "Records", inPlaces("RequestResponses", "FailedPutCount",
		func(doc) doc { return doc{"RecordId": "1"} }))
)

// halveDynamoDB is of BatchWriteItem.
func halveDynamoDB(r *http.Request, body []byte) ([]byte, func([]byte) []byte, bool) {
	d := read(body)
	tables, _ := d["RequestItems"].(doc)
	left := doc{}
	for name, v := range tables {
		stays, out := odd(v.([]any))
		if len(out) > 0 {
			tables[name], left[name] = stays, out
		}
	}
	if len(left) == 0 {
		return nil, nil, false
	}
	return write(d), func(raw []byte) []byte {
		a := read(raw)
		a["UnprocessedItems"] = left
		return write(a)
	}, true
}

// halveSNS is of PublishBatch, which has a form and an answer in XML.
func halveSNS(_ *http.Request, body []byte) ([]byte, func([]byte) []byte, bool) {
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("Action") != "PublishBatch" {
		return nil, nil, false
	}
	const entries = "PublishBatchRequestEntries.member."
	sent, failed := url.Values{}, ""
	for name, v := range form {
		n, member := 0, ""
		if _, err := fmt.Sscanf(strings.Replace(name, entries, "", 1), "%d.%s", &n, &member); err != nil {
			sent[name] = v
			continue
		}
		if n%2 == 1 {
			sent[fmt.Sprintf("%s%d.%s", entries, (n+1)/2, member)] = v
		} else if member == "Id" {
			failed += "<member><Id>" + v[0] + "</Id><Code>InternalError</Code><Message>busy</Message>" +
				"<SenderFault>false</SenderFault></member>"
		}
	}
	if failed == "" {
		return nil, nil, false
	}
	return []byte(sent.Encode()), func(raw []byte) []byte {
		text := strings.NewReplacer("<Failed></Failed>", "", "<Failed/>", "", "<Failed />", "").Replace(string(raw))
		return []byte(strings.Replace(text, "</PublishBatchResult>", "<Failed>"+failed+"</Failed></PublishBatchResult>", 1))
	}, true
}

// halveBulk is of a search's _bulk: each second document is answered with 429.
func halveBulk(r *http.Request, body []byte) ([]byte, func([]byte) []byte, bool) {
	lines := bytes.SplitAfter(body, []byte("\n"))
	if !strings.HasSuffix(r.URL.Path, "/_bulk") || len(lines) < 5 {
		return nil, nil, false
	}
	var sent []byte
	for i, l := range lines {
		if i%4 < 2 {
			sent = append(sent, l...)
		}
	}
	n := len(lines) / 2
	return sent, func(raw []byte) []byte {
		a := read(raw)
		were, _ := a["items"].([]any)
		var all []any
		for i := range n {
			if i%2 == 0 {
				all = append(all, were[i/2])
				continue
			}
			all = append(all, doc{"index": doc{"status": 429,
				"error": doc{"type": "es_rejected_execution_exception", "reason": "queue is full"}}})
		}
		a["items"], a["errors"] = all, true
		return write(a)
	}, true
}
