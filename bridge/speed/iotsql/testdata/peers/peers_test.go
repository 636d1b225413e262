// Package peers measures the reference rule in other engines beside ours.
package peers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"testing"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
	"github.com/itchyny/gojq"
	"github.com/redpanda-data/benthos/v4/public/bloblang"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

const topic = "dt/boiler-17/room"

// documents returns the reference document, whose temp of 31.5 makes the rule
// fire, and one with which it does not.
func documents(tb testing.TB) (hit, miss []byte) {
	tb.Helper()
	hit = read(tb, "../reference.json")
	miss = bytes.Replace(hit, []byte("31.5"), []byte("21.5"), 1)
	if len(hit) != 200 || bytes.Equal(hit, miss) {
		tb.Fatalf("the reference document has %d bytes, want 200, and a temp of 31.5", len(hit))
	}
	return hit, miss
}

func read(tb testing.TB, file string) []byte {
	tb.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// A rule evaluates the reference rule: nil, or the document for the actions.
type rule func(payload []byte) ([]byte, error)

// engines are compiled once and then used by one goroutine, each in the way
// that its documentation has for many evaluations. Payloads come as bytes and
// documents leave as bytes, as they do in a rules engine; rules say what they
// read, so that no engine may know the payload's type beforehand.
var engines = []struct {
	name    string
	compile func(testing.TB) rule
}{
	{"tidemill", func(tb testing.TB) rule {
		s, err := iotsql.Compile(string(read(tb, "../reference.sql")), iotsql.Version2016)
		if err != nil {
			tb.Fatal(err)
		}
		ctx, buf, m := context.Background(), make([]byte, 0, 256), iotsql.Input{Message: message.Message{Topic: topic}}
		return func(payload []byte) ([]byte, error) {
			m.Payload = payload
			out, fired, err := s.Eval(ctx, buf, &m)
			if !fired {
				return nil, err
			}
			return out, err
		}
	}},
	{"encoding-json", func(testing.TB) rule { // the rule written by hand in Go
		return func(payload []byte) ([]byte, error) {
			var doc map[string]any
			if err := json.Unmarshal(payload, &doc); err != nil {
				return nil, err
			}
			if temp, ok := doc["temp"].(float64); !ok || temp <= 30 {
				return nil, nil
			}
			return json.Marshal(map[string]any{"temp": doc["temp"], "hum": doc["hum"], "t": topic})
		}
	}},
	{"expr", func(tb testing.TB) rule {
		// One machine for all runs, as the guide advises.
		program, err := expr.Compile(`temp > 30 ? {"temp": temp, "hum": hum, "t": topic} : nil`,
			expr.Env(map[string]any{"topic": ""}), expr.AllowUndefinedVariables())
		if err != nil {
			tb.Fatal(err)
		}
		var machine vm.VM
		return func(payload []byte) ([]byte, error) {
			var env map[string]any
			if err := json.Unmarshal(payload, &env); err != nil {
				return nil, err
			}
			env["topic"] = topic
			out, err := machine.Run(program, env)
			if out == nil || err != nil {
				return nil, err
			}
			return json.Marshal(out)
		}
	}},
	{"gojq", func(tb testing.TB) rule {
		query, err := gojq.Parse(`select(.temp > 30) | {temp, hum, t: $topic}`)
		if err != nil {
			tb.Fatal(err)
		}
		code, err := gojq.Compile(query, gojq.WithVariables([]string{"$topic"}))
		if err != nil {
			tb.Fatal(err)
		}
		return func(payload []byte) ([]byte, error) {
			var doc any
			if err := json.Unmarshal(payload, &doc); err != nil {
				return nil, err
			}
			out, ok := code.Run(doc, topic).Next()
			if !ok {
				return nil, nil
			}
			if err, ok := out.(error); ok {
				return nil, err
			}
			return gojq.Marshal(out) // quicker than encoding/json on its values
		}
	}},
	{"bloblang", func(tb testing.TB) rule {
		mapping, err := bloblang.Parse(
			`root = if this.temp > 30 { {"temp": this.temp, "hum": this.hum, "t": this.topic} } else { deleted() }`)
		if err != nil {
			tb.Fatal(err)
		}
		return func(payload []byte) ([]byte, error) {
			var doc map[string]any
			if err := json.Unmarshal(payload, &doc); err != nil {
				return nil, err
			}
			doc["topic"] = topic // there is no metadata outside of a pipeline
			out, err := mapping.Query(doc)
			if errors.Is(err, bloblang.ErrRootDeleted) {
				return nil, nil
			} else if err != nil {
				return nil, err
			}
			return json.Marshal(out)
		}
	}},
}

func TestSameOutput(t *testing.T) {
	hit, miss := documents(t)
	want := map[string]any{"temp": 31.5, "hum": 48.2, "t": topic}
	for _, e := range engines {
		eval := e.compile(t)
		for range 2 { // an engine that is used again
			out, err := eval(hit)
			var got map[string]any
			if err != nil || json.Unmarshal(out, &got) != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: match: %s, %v; want %v", e.name, out, err, want)
			}
			if out, err := eval(miss); out != nil || err != nil {
				t.Errorf("%s: no match: %s, %v; want nothing", e.name, out, err)
			}
		}
	}
}

// BenchmarkReferenceRule is SELECT temp, hum, topic() AS t FROM 'dt/#' WHERE
// temp > 30 over 200 bytes of JSON.
func BenchmarkReferenceRule(b *testing.B) {
	hit, miss := documents(b)
	for _, doc := range []struct {
		name    string
		payload []byte
	}{{"match", hit}, {"no-match", miss}} {
		for _, e := range engines {
			b.Run(doc.name+"/"+e.name, func(b *testing.B) {
				eval := e.compile(b)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := eval(doc.payload); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
