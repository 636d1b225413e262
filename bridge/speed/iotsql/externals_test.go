package iotsql

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// externals are the canned answers of a vector, the fake of every service.
// What has no answer is not there.
type externals struct {
	Lambda []struct {
		FunctionArn   string
		Input, Output json.RawMessage
	}
	Shadows []struct {
		ThingName, ShadowName string
		Document              json.RawMessage
	}
	DynamoDB []struct {
		TableName string
		Key       map[string]json.RawMessage
		Item      json.RawMessage
	}
	Secrets []struct {
		SecretID           string
		SecretString       *string
		SecretBinaryBase64 *string
	}
	Registry []struct {
		Operation, ThingName string
		Output               json.RawMessage
	}
	Predictions []struct {
		ModelID        string
		Record, Output json.RawMessage
	}
}

// services has all but Protobuf, for which the vectors have no answers: it has
// none either.
func (e *externals) services(t testing.TB) *Services {
	return &Services{
		Shadows: e, Things: e, Tables: e, Secrets: e, Lambdas: e, Models: e, Protobuf: e,
		Failed: func(function string, err error) { t.Logf("%s: %v", function, err) },
	}
}

func (e *externals) Shadow(_ context.Context, thing, name string) ([]byte, error) {
	for _, s := range e.Shadows {
		if s.ThingName == thing && s.ShadowName == name {
			return s.Document, nil
		}
	}
	return nil, nil
}

func (e *externals) Describe(_ context.Context, thing string) ([]byte, error) {
	return e.registry("DescribeThing", thing), nil
}

func (e *externals) Groups(_ context.Context, thing string) ([]byte, error) {
	return e.registry("ListThingGroupsForThing", thing), nil
}

func (e *externals) registry(operation, thing string) []byte {
	for _, r := range e.Registry {
		if r.Operation == operation && r.ThingName == thing {
			return r.Output
		}
	}
	return nil
}

func (e *externals) Item(_ context.Context, table, partitionKey string, partitionValue []byte, sortKey string,
	sortValue []byte) ([]byte, error) {
	key := map[string]json.RawMessage{partitionKey: partitionValue}
	if sortKey != "" {
		key[sortKey] = sortValue
	}
	for _, r := range e.DynamoDB {
		if r.TableName == table && maps.EqualFunc(r.Key, key, func(a, b json.RawMessage) bool { return alike(a, b) }) {
			return r.Item, nil
		}
	}
	return nil, nil
}

func (e *externals) Secret(_ context.Context, id string, binary bool) ([]byte, error) {
	for _, s := range e.Secrets {
		switch {
		case s.SecretID != id:
		case binary && s.SecretBinaryBase64 != nil:
			return base64.StdEncoding.DecodeString(*s.SecretBinaryBase64)
		case !binary && s.SecretString != nil:
			return []byte(*s.SecretString), nil
		}
	}
	return nil, nil
}

func (e *externals) Invoke(_ context.Context, arn string, input []byte) ([]byte, error) {
	for _, l := range e.Lambda {
		if l.FunctionArn == arn && alike(l.Input, input) {
			return l.Output, nil
		}
	}
	return nil, nil
}

// Predict checks that the record has one layer. A vector may give the record
// as the statement has it or as the service gets it, with any space in texts.
func (e *externals) Predict(_ context.Context, model string, record []byte) ([]byte, error) {
	var flat map[string]any
	if err := json.Unmarshal(record, &flat); err != nil {
		return nil, err
	}
	for k, v := range flat {
		switch v.(type) {
		case map[string]any, []any:
			return nil, fmt.Errorf("%s of the record is not flat", k)
		}
	}
	for _, p := range e.Predictions {
		if p.ModelID == model && alike(unfolded(p.Record), unfolded(record)) {
			return p.Output, nil
		}
	}
	return nil, nil
}

func (e *externals) DescriptorSet(context.Context, string, string, string) ([]byte, string, error) {
	return nil, "", nil
}

// unfolded replaces members that are JSON text of documents by these.
func unfolded(record []byte) []byte {
	var members map[string]json.RawMessage
	if json.Unmarshal(record, &members) != nil {
		return record
	}
	for k, v := range members {
		var text string
		if json.Unmarshal(v, &text) == nil && len(text) > 0 && (text[0] == '{' || text[0] == '[') &&
			json.Valid([]byte(text)) {
			members[k] = json.RawMessage(text)
		}
	}
	b, _ := json.Marshal(members)
	return b
}

func alike(a, b []byte) bool {
	x, err1 := readJSON(a)
	y, err2 := readJSON(b)
	return err1 == nil && err2 == nil && sameJSON(x, y, 0)
}

// TestExternalForms runs what the vectors' sample leaves out of the functions
// that reach outside.
func TestExternalForms(t *testing.T) {
	var e externals
	if err := json.Unmarshal([]byte(`{
		"lambda": [{"functionArn": "f", "input": {"payload": 21}, "output": {"some": {"value": "ok"}}}, {"functionArn": "f", "input": [1], "output": 7},
			{"functionArn": "f", "input": "gA==", "output": "binary"}, {"functionArn": "f", "input": {}, "output": "empty"}],
		"shadows": [{"thingName": "MyThing", "document": {"state": {"reported": {"alarm": "ON"}}}}, {"thingName": "MyThing", "shadowName": "s", "document": {"n": 1}}, {"thingName": "5", "document": {"n": 5}}],
		"dynamodb": [{"tableName": "T", "key": {"id": "d1"}, "item": {"floor": 3}}, {"tableName": "R", "key": {"id": "d1", "seq": 7}, "item": {"ok": true}}],
		"secrets": [{"secretId": "json", "secretString": "{\"k\":\"v\",\"n\":1}"}, {"secretId": "plain", "secretString": "hunter2"}, {"secretId": "number", "secretString": "42"}, {"secretId": "bin", "secretBinaryBase64": "aGk="}],
		"registry": [{"operation": "DescribeThing", "thingName": "s1", "output": {"attributes": {"max": "9"}}}, {"operation": "ListThingGroupsForThing", "thingName": "s1", "output": {"thingGroups": [{"groupName": "g1"}]}}],
		"predictions": [{"modelId": "m", "record": {"a": 1, "b": {"c": [1, "x"]}}, "output": {"predictedLabel": "1"}}]
	}`), &e); err != nil {
		t.Fatal(err)
	}
	x := e.services(t)
	for _, tt := range []struct{ expr, payload, want string }{
		{`get_thing_shadow('MyThing', 'arn').state.reported.alarm`, `{}`, `"ON"`},
		{`get_thing_shadow('MyThing', 's', 'arn')`, `{}`, `{"n":1}`},
		{`get_thing_shadow('MyThing', none, 'arn')`, `{}`, ``},
		{`get_thing_shadow('MyThing', '', 'arn')`, `{}`, ``},
		{`get_thing_shadow('MyThing', 'other', 'arn')`, `{}`, ``},
		{`get_thing_shadow('Other', 'arn')`, `{}`, ``},
		{`get_thing_shadow(t, 'arn').n`, `{"t":5}`, `5`},
		{`get_thing_shadow(t, 'arn').n`, `{"t":null}`, ``},
		{`get_thing_shadow('MyThing', s, 'arn').n`, `{"s":"s"}`, `1`},
		{`get_or_default(get_thing_shadow('Other', 'arn').n, 'd')`, `{}`, `"d"`},
		{`get_dynamodb('T', 'id', id, 'arn').floor`, `{"id":"d1"}`, `3`},
		{`get_dynamodb('T', 'id', id, 'arn')`, `{"id":true}`, ``},
		{`get_dynamodb('T', 'id', id, 'arn')`, `{}`, ``},
		{`get_dynamodb('R', 'id', id, 'seq', n, 'arn')`, `{"id":"d1","n":7.0}`, `{"ok":true}`},
		{`get_dynamodb('R', 'id', id, 'seq', '7', 'arn')`, `{"id":"d1"}`, ``},
		{`[get_or_default(get_dynamodb('T', 'id', 'd1', 'arn').floor, 0), get_or_default(get_dynamodb('T', 'id', 'd1', 'arn').floor, 0)]`,
			`{}`, errTooManyCalls.Error()},
		{`(SELECT VALUE get_dynamodb('T', 'id', e, 'arn').floor FROM ids AS e)`, `{"ids":["d1"]}`, `[3]`},
		{`(SELECT VALUE get_dynamodb('T', 'id', e, 'arn').floor FROM ids AS e)`, `{"ids":["d1","d1"]}`,
			errTooManyCalls.Error()},
		{`get_secret('json', 'SecretString', 'arn')`, `{}`, `{"k":"v","n":1}`},
		{`get_secret('json', 'SecretString', 'k', 'arn')`, `{}`, `"v"`},
		{`get_secret('json', 'SecretString', 'n', 'arn')`, `{}`, `1`},
		{`get_secret('json', 'SecretString', 'none', 'arn')`, `{}`, ``},
		{`get_secret('json', 'SecretBinary', 'arn')`, `{}`, ``},
		{`get_secret('json', 'secretstring', 'arn')`, `{}`, ``},
		{`get_secret('number', 'SecretString', 'arn')`, `{}`, `"42"`},
		{`get_secret('number', 'SecretString', 'k', 'arn')`, `{}`, errSecretKey.Error()},
		{`get_secret('plain', 'SecretString', 'k', 'arn')`, `{}`, errSecretKey.Error()},
		{`get_secret('bin', 'SecretBinary', 'arn')`, `{}`, `"aGk="`},
		{`get_secret('bin', 'SecretBinary', 'k', 'arn')`, `{}`, errSecretKey.Error()},
		{`get_secret('none', 'SecretString', 'k', 'arn')`, `{}`, ``},
		{`get_or_default(get_secret('plain', 'SecretString', 'k', 'arn'), 'd')`, `{}`, `"d"`},
		{`get_or_default(get_secret('bin', 'SecretBinary', 'k', 'arn'))`, `{}`, ``},
		{`get_registry_data('DescribeThing', 's1', 'arn').attributes.max`, `{}`, `"9"`},
		{`get_registry_data('ListThingGroupsForThing', 's1', 'arn').thingGroups`, `{}`, `[{"groupName":"g1"}]`},
		{`get_registry_data('ListThings', 's1', 'arn')`, `{}`, ``},
		{`get_registry_data('DescribeThing', 'other', 'arn')`, `{}`, ``},
		{`aws_lambda('f', {'payload': a}).some.value`, `{"a":21}`, `"ok"`},
		{`aws_lambda('f', *)`, `{"payload":21}`, `{"some":{"value":"ok"}}`},
		{`aws_lambda('f', *)`, ` [1] `, `7`},
		{`aws_lambda('f', *)`, "\x80", `"binary"`},
		{`aws_lambda('f', *)`, ``, `"empty"`},
		{`aws_lambda('f', none)`, `{}`, ``},
		{`aws_lambda('g', *)`, `{}`, ``},
		{`machinelearning_predict('m', 'arn', *).predictedLabel`, `{"a":1,"b":{"c":[1,"x"]}}`, `"1"`},
		{`machinelearning_predict('m', 'arn', {'b': b, 'a': 1}).predictedLabel`, `{"b":{"c":[1,"x"]}}`, `"1"`},
		{`machinelearning_predict('m', 'arn', [1])`, `{}`, ``},
	} {
		s, err := x.Compile("SELECT VALUE "+tt.expr+" FROM 't'", Version2016)
		if err != nil {
			t.Error(err)
			continue
		}
		got, _, err := s.Eval(t.Context(), nil, &Input{Message: message.Message{Payload: []byte(tt.payload)}})
		if err != nil {
			got = []byte(err.Error())
		}
		if string(got) != tt.want && !(err == nil && tt.want != "" && alike(got, []byte(tt.want))) {
			t.Errorf("%s of %s: %s, want %s", tt.expr, tt.payload, got, tt.want)
		}
		if e := s.Explain(t.Context(), &Input{Message: message.Message{Topic: "t",
			Payload: []byte(tt.payload)}}); e.Err != err {
			t.Errorf("%s: Eval has error %v, Explain %v", tt.expr, err, e.Err)
		} else if n := slices.IndexFunc(e.Steps, func(s Step) bool { return s.Depth == 1 }); err == nil && n < 0 {
			t.Errorf("%s: Explain shows no operand", tt.expr)
		}
	}
}

// silent has all services, and none has anything.
var silent = func() *Services {
	x := new(externals).services(nil)
	x.Failed = nil
	return x
}()
