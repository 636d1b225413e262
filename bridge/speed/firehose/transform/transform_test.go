package transform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose/blueprint"
)

// A script answers calls, one function each, the last of them again and again.
type script struct {
	answers []func(ctx context.Context, event []byte) ([]byte, string, error)
	events  [][]byte
}

func (s *script) Invoke(ctx context.Context, _ string, event []byte) ([]byte, string, error) {
	s.events = append(s.events, event)
	return s.answers[min(len(s.events), len(s.answers))-1](ctx, event)
}

func says(text string) func(context.Context, []byte) ([]byte, string, error) {
	return func(context.Context, []byte) ([]byte, string, error) { return []byte(text), "", nil }
}

func fails(err error) func(context.Context, []byte) ([]byte, string, error) {
	return func(context.Context, []byte) ([]byte, string, error) { return nil, "", err }
}

func hangs(ctx context.Context, _ []byte) ([]byte, string, error) {
	<-ctx.Done()
	return nil, "", ctx.Err()
}

func three() []Record {
	return []Record{{ID: "a", Arrived: 1, Data: []byte("one")}, {ID: "b", Arrived: 2, Data: []byte("two")},
		{ID: "c", Arrived: 3}}
}

func ok(id, data string) string {
	return fmt.Sprintf(`{"recordId":%q,"result":"Ok","data":%q}`, id, data)
}

func answers(records ...string) func(context.Context, []byte) ([]byte, string, error) {
	return says(`{"records":[` + strings.Join(records, ",") + `]}`)
}

// Each edge of the contract, with what becomes of the three records.
func TestContract(t *testing.T) {
	type answer = func(context.Context, []byte) ([]byte, string, error)
	for name, c := range map[string]struct {
		answers  []answer
		codes    string // of each record: its code, ok or dropped
		attempts int    // of those that failed
		calls    int
	}{
		"all ok, in another order": {[]answer{answers(ok("c", ""), ok("b", "Qg=="), ok("a", "QQ=="))}, "ok ok ok", 0,
			1},
		"one of each": {[]answer{answers(ok("a", "QQ=="), `{"recordId":"b","result":"Dropped"}`,
			`{"recordId":"c","result":"ProcessingFailed","data":"x"}`)}, "ok dropped Lambda.ProcessingFailedStatus",
			1, 1},
		"an unknown result": {[]answer{answers(ok("a", ""), ok("b", ""), `{"recordId":"c","result":"OK","data":""}`)},
			"ok ok Lambda.UnexpectedRecordResult", 1, 1},
		"missing":   {[]answer{answers(ok("a", "QQ=="), ok("b", ""))}, "Lambda.MissingRecordId", 1, 1},
		"none":      {[]answer{says(`{}`)}, "Lambda.MissingRecordId", 1, 1},
		"duplicate": {[]answer{answers(ok("a", ""), ok("a", ""), ok("c", ""))}, "Lambda.DuplicatedRecordId", 1, 1},
		"unknown": {[]answer{answers(ok("a", ""), ok("b", ""), ok("c", ""), ok("d", ""))}, "Lambda.UnknownRecordId",
			1, 1},
		"no JSON": {[]answer{says("oops")}, "Lambda.JsonProcessingException", 1, 1},
		"null":    {[]answer{says("null")}, "Lambda.MissingRecordId", 1, 1},
		"a list":  {[]answer{says("[]")}, "Lambda.JsonProcessingException", 1, 1},
		"no base64": {[]answer{answers(ok("a", "!"), ok("b", ""), ok("c", ""))}, "Lambda.JsonProcessingException", 1,
			1},
		"no data":  {[]answer{answers(`{"recordId":"a","result":"Ok"}`, ok("b", ""), ok("c", ""))}, "Lambda.JsonProcessingException", 1, 1},
		"too much": {[]answer{says(strings.Repeat(" ", maxPayload+1))}, "Lambda.PayloadTooLarge", 1, 1},
		"error": {[]answer{func(context.Context, []byte) ([]byte, string, error) {
			return []byte(`{"errorMessage":"x"}`), "Unhandled", nil
		}}, "Lambda.FunctionError", 1, 1},
		"throttled":   {[]answer{fails(fmt.Errorf("busy: %w", ErrThrottled))}, "Lambda.InvokeLimitExceeded", 4, 4},
		"away":        {[]answer{fails(errors.New("no route"))}, "Lambda.InvocationFailed", 4, 4},
		"denied":      {[]answer{fails(ErrDenied)}, "Lambda.InvokeAccessDenied", 1, 1},
		"not found":   {[]answer{fails(ErrNotFound)}, "Lambda.ResourceNotFound", 1, 1},
		"hangs":       {[]answer{hangs}, "Lambda.FunctionTimedOut", 4, 4},
		"better once": {[]answer{fails(ErrThrottled), hangs, answers(ok("a", ""), ok("b", ""), ok("c", ""))}, "ok ok ok", 0, 3},
		"worse":       {[]answer{fails(ErrThrottled), says("oops")}, "Lambda.JsonProcessingException", 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &script{answers: c.answers}
				f := &Function{ARN: "arn:x", Retries: 3, Batch: 1 << 20}
				results, err := f.Transform(t.Context(), s, three())
				if err != nil || len(results) != 3 || len(s.events) != c.calls {
					t.Fatalf("%+v, %v after %d calls, want %d", results, err, len(s.events), c.calls)
				}
				var codes []string
				for _, r := range results {
					codes = append(codes, map[Status]string{Ok: "ok", Dropped: "dropped", Failed: r.Code}[r.Status])
					if r.Status == Failed && (r.Attempts != c.attempts || r.Message == "") {
						t.Errorf("%+v, want %d attempts", r, c.attempts)
					}
				}
				if !strings.Contains(c.codes, " ") {
					c.codes = strings.Join([]string{c.codes, c.codes, c.codes}, " ")
				}
				if got := strings.Join(codes, " "); got != c.codes {
					t.Errorf("%s, want %s", got, c.codes)
				}
			})
		})
	}
}

func TestEvent(t *testing.T) {
	s := &script{answers: []func(context.Context, []byte) ([]byte, string, error){
		answers(`{"recordId":"a\"","result":"Ok","data":"QQ==","metadata":{"partitionKeys":{"k":"v","n":12,"b":true,"o":{}}}}`)}}
	f := &Function{ARN: "arn:f", Stream: "arn:d", Source: "arn:k", Region: "eu-local-1", Batch: 1}
	in := []Record{{ID: `a"`, Arrived: 1481825251155, Data: []byte{0xff}, Kinesis: &Kinesis{"shardId-0", `p"ü`, 5, "49", "0"}}}
	results, err := f.Transform(t.Context(), s, in)
	want := Result{Status: Ok, Data: []byte("A"), Keys: map[string]string{"k": "v", "n": "12", "b": "true"}}
	if err != nil || !reflect.DeepEqual(results, []Result{want}) {
		t.Fatalf("%+v, %v", results, err)
	}
	var e map[string]any
	if err := json.Unmarshal(s.events[0], &e); err != nil {
		t.Fatal(err)
	}
	if id, _ := e["invocationId"].(string); len(id) != 36 {
		t.Errorf("invocation %q", id)
	}
	delete(e, "invocationId")
	got, err := json.Marshal(e)
	if want := `{"deliveryStreamArn":"arn:d","records":[{"approximateArrivalTimestamp":1481825251155,"data":"/w==",` +
		`"kinesisRecordMetadata":{"approximateArrivalTimestamp":5,"partitionKey":"p\"ü","sequenceNumber":"49",` +
		`"shardId":"shardId-0","subsequenceNumber":"0"},"recordId":"a\""}],"region":"eu-local-1",` +
		`"sourceKinesisStreamArn":"arn:k"}`; err != nil || string(got) != want {
		t.Errorf("%s", got)
	}
}

// An event has as many records as both bounds let it have, and every record is
// in one.
func TestBatches(t *testing.T) {
	for _, c := range []struct{ records, size, batch, calls int }{
		{10, 100, 1 << 20, 1}, {10, 100, 100, 10}, {10, 100, 250, 5}, {5, 1000 << 10, 3 << 20, 2}, {3, 1000 << 10, 1,
			3},
		{30_000, 0, 3 << 20, 2},
	} {
		var in []Record
		for i := range c.records {
			in = append(in, Record{ID: fmt.Sprint(i), Data: bytes.Repeat([]byte{'x'}, c.size)})
		}
		s := &script{answers: []func(context.Context, []byte) ([]byte, string, error){
			func(_ context.Context, event []byte) ([]byte, string, error) {
				if len(event) > maxPayload {
					t.Errorf("an event of %d bytes", len(event))
				}
				var d struct {
					Records []map[string]any `json:"records"`
				}
				if err := json.Unmarshal(event, &d); err != nil {
					t.Fatal(err)
				}
				for _, r := range d.Records {
					r["result"] = "Ok"
				}
				slices.Reverse(d.Records)
				answer, err := json.Marshal(d)
				return answer, "", err
			}}}
		f := &Function{Batch: c.batch}
		results, err := f.Transform(t.Context(), s, in)
		if err != nil || len(results) != c.records || len(s.events) != c.calls {
			t.Errorf("%+v: %d results of %d calls, %v", c, len(results), len(s.events), err)
		}
		for _, r := range results {
			if r.Status != Ok || len(r.Data) != c.size {
				t.Fatalf("%+v: %v %s", c, r.Status, r.Code)
			}
		}
	}
}

func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := &script{answers: []func(context.Context, []byte) ([]byte, string, error){hangs}}
		if _, err := (&Function{Retries: 9}).Transform(ctx, s, three()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

// A blueprint needs no invoker, and says the same as through one.
func TestBlueprint(t *testing.T) {
	in := []Record{{ID: "a", Data: []byte("Jan 1 00:00:00 h p: m")}, {ID: "b", Data: []byte("no syslog")}}
	f := &Function{ARN: blueprint.Prefix + "syslog-to-json", Batch: 1 << 20}
	here, err := f.Transform(t.Context(), nil, in)
	if err != nil || here[0].Status != Ok || here[1].Status != Failed {
		t.Fatalf("%+v, %v", here, err)
	}
	called, err := (&Function{ARN: "arn:f", Batch: 1 << 20}).Transform(t.Context(), named{f.ARN}, in)
	if err != nil || !reflect.DeepEqual(here, called) {
		t.Errorf("%+v, %v; want %+v", called, err, here)
	}
}

type named struct{ function string }

func (n named) Invoke(ctx context.Context, _ string, event []byte) ([]byte, string, error) {
	return blueprint.Invoker{}.Invoke(ctx, n.function, event)
}

// Whatever a function answers, each record has one result, and a code if it
// failed.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"records":[{"recordId":"a","result":"Ok","data":"QQ=="},{"recordId":"b","result":"Dropped"},` +
		`{"recordId":"c","result":"ProcessingFailed","metadata":{"partitionKeys":{"k":1}}}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		results, why := read(doc, three())
		if (why == nil) != (len(results) == 3) || why != nil && (why.code == "" || why.message == "") {
			t.Fatalf("%q: %v, %+v", doc, results, why)
		}
		for _, r := range results {
			if (r.Status == Failed) != (r.Code != "") {
				t.Fatalf("%q: %+v", doc, r)
			}
		}
	})
}
