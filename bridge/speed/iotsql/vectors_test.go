package iotsql

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/cockroachdb/apd/v3"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/deploy/conformance"
)

// A vector is a case of the conformance vectors; README-iotsql.md beside them
// describes the members.
type vector struct {
	ID, Group     string
	SQL           string
	Version       string
	Topic         string
	Payload       json.RawMessage
	PayloadBase64 *string

	ClientID, Protocol, AccountID, Principal, SourceIP, TraceID, RuleName *string

	Timestamp      *int64
	UserProperties [][2]string
	MQTTProperties *struct {
		ContentType, ResponseTopic, FormatIndicator, CorrelationDataBase64 string
	}
	Externals externals
	Template  *string
	outcome
	OneOf []outcome
	Note  string
}

// An outcome is what one reading of the guide expects.
type outcome struct {
	Expect                              json.RawMessage
	ExpectBase64                        *string
	ExpectRegex                         map[string]string
	Match                               *bool
	Error                               bool
	ExpectTemplate, ExpectTemplateRegex *string
	Approx                              float64
}

// message is the incoming message of the vector, with the README's defaults.
func (v *vector) message(t *testing.T) *Input {
	or := func(s *string, def string) string {
		if s != nil {
			return *s
		}
		return def
	}
	trace, ok := message.ParseTrace(or(v.TraceID, "12345678-1234-1234-1234-123456789012"))
	if !ok {
		t.Fatalf("trace %s", *v.TraceID)
	}
	m := &Input{
		Message: message.Message{
			Topic: v.Topic, Time: 1481825251155,
			ClientID: or(v.ClientID, "dev-1"), Protocol: or(v.Protocol, "mqtt"),
			Principal: or(v.Principal, "ba67293af50bf2506f5f93469686da660c7c844e7b3950bfb16813e0d31e9373"),
			SourceIP:  or(v.SourceIP, "192.0.2.10"),
			Trace:     trace,
		},
		Account: or(v.AccountID, "123456789012"),
		Rule:    or(v.RuleName, "conformance"),
	}
	if v.Timestamp != nil {
		m.Time = *v.Timestamp
	}
	if v.PayloadBase64 != nil {
		p, err := base64.StdEncoding.DecodeString(*v.PayloadBase64)
		if err != nil {
			t.Fatal(err)
		}
		m.Payload = p
	} else {
		var b bytes.Buffer
		if err := json.Compact(&b, v.Payload); err != nil {
			t.Fatal(err)
		}
		m.Payload = b.Bytes()
	}
	var p properties
	if x := v.MQTTProperties; x != nil {
		p.ContentType, p.ResponseTopic, p.FormatIndicator = x.ContentType, x.ResponseTopic, x.FormatIndicator
		p.CorrelationData, _ = base64.StdEncoding.DecodeString(x.CorrelationDataBase64)
	}
	p.User = v.UserProperties
	m.Properties = p.wire()
	return m
}

// run evaluates the vector and returns why it doesn't match, nil if it does.
func (v *vector) run(t *testing.T) error {
	if v.OneOf == nil {
		return v.matches(t, &v.outcome)
	}
	var err error
	for i := range v.OneOf {
		if v.OneOf[i].Approx == 0 {
			v.OneOf[i].Approx = v.Approx
		}
		if err = v.matches(t, &v.OneOf[i]); err == nil {
			return nil
		}
	}
	return fmt.Errorf("none of %d outcomes, the last: %w", len(v.OneOf), err)
}

func (v *vector) matches(t *testing.T, o *outcome) error {
	s, err := v.Externals.services(t).Compile(v.SQL, v.Version)
	if o.Error {
		if err == nil {
			return fmt.Errorf("compiles, want an error")
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	m := v.message(t)
	rule, _, basic := topic.CutRule(m.Topic)
	var out []byte
	fired := false
	if s.Matches(m.Topic) || basic && rule == m.Rule {
		out, fired, err = s.Eval(context.Background(), nil, m)
	}
	if e := s.Explain(context.Background(), m); e.Fired != fired {
		return fmt.Errorf("Eval fired = %v, Explain %v", fired, e.Fired)
	}
	if o.Match != nil {
		if fired {
			return fmt.Errorf("fires with %s, want none", out)
		}
		return nil
	}
	if err != nil || !fired {
		return fmt.Errorf("does not fire, err %v", err)
	}
	if v.Template != nil {
		tm, err := s.Template(*v.Template)
		if err != nil {
			return err
		}
		if out, err = tm.Append(context.Background(), nil, m); err != nil {
			return err
		}
	}
	return o.check(out)
}

func (o *outcome) check(out []byte) error {
	switch {
	case o.ExpectTemplate != nil:
		if string(out) != *o.ExpectTemplate {
			return fmt.Errorf("template gives %q, want %q", out, *o.ExpectTemplate)
		}
	case o.ExpectTemplateRegex != nil:
		if !regexp.MustCompile(*o.ExpectTemplateRegex).Match(out) {
			return fmt.Errorf("template gives %q, want a match of %q", out, *o.ExpectTemplateRegex)
		}
	case o.ExpectBase64 != nil:
		if got := base64.StdEncoding.EncodeToString(out); got != *o.ExpectBase64 {
			return fmt.Errorf("bytes %s, want %s", got, *o.ExpectBase64)
		}
	case o.ExpectRegex != nil:
		var doc map[string]json.RawMessage
		if err := json.Unmarshal(out, &doc); err != nil || len(doc) != len(o.ExpectRegex) {
			return fmt.Errorf("got %s, want members %v", out, o.ExpectRegex)
		}
		for k, re := range o.ExpectRegex {
			text := string(doc[k])
			var s string
			if json.Unmarshal(doc[k], &s) == nil {
				text = s
			}
			if !regexp.MustCompile(re).MatchString(text) {
				return fmt.Errorf("%s: got %s, want a match of %s", k, text, re)
			}
		}
	default:
		got, err := readJSON(out)
		if err != nil {
			return fmt.Errorf("output %q: %w", out, err)
		}
		want, err := readJSON(o.Expect)
		if err != nil {
			return err
		}
		if !sameJSON(got, want, o.Approx) {
			return fmt.Errorf("got %s, want %s", out, o.Expect)
		}
	}
	return nil
}

func readJSON(b []byte) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err = d.Decode(&v); err == nil && d.More() {
		err = fmt.Errorf("more than one value")
	}
	return v, err
}

// sameJSON compares numbers by exact decimal value, or within approx.
func sameJSON(a, b any, approx float64) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			return false
		}
		x, _, err1 := apd.NewFromString(string(a))
		y, _, err2 := apd.NewFromString(string(b))
		if err1 != nil || err2 != nil {
			return false
		}
		if approx == 0 {
			return x.Cmp(y) == 0
		}
		p, _ := x.Float64()
		q, _ := y.Float64()
		return max(p-q, q-p) <= approx*max(1, q, -q)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, func(x, y any) bool { return sameJSON(x, y, approx) })
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			w, ok := b[k]
			if !ok || !sameJSON(v, w, approx) {
				return false
			}
		}
		return true
	}
	return a == b
}

// TestVectors runs the conformance vectors; each group passes in full.
func TestVectors(t *testing.T) {
	passed, total := map[string]int{}, map[string]int{}
	for _, v := range conformance.All[vector](t, "iotsql.jsonl") {
		total[v.Group]++
		if err := v.run(t); err != nil {
			t.Errorf("%s: %s\n\t%s: %v", v.ID, v.SQL, v.payload(), err)
			continue
		}
		passed[v.Group]++
	}
	p, n := 0, 0
	for _, g := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%-24s %3d of %3d", g, passed[g], total[g])
		p, n = p+passed[g], n+total[g]
	}
	t.Logf("%-24s %3d of %3d", "all", p, n)
}

func (v *vector) payload() string {
	if v.PayloadBase64 != nil {
		return *v.PayloadBase64
	}
	return string(v.Payload)
}

// properties are those of MQTT 5 that a vector or the naive evaluator has.
type properties struct {
	ContentType, ResponseTopic, FormatIndicator string
	CorrelationData                             []byte // nil: absent
	User                                        [][2]string
}

func (p properties) wire() (b []byte) {
	switch p.FormatIndicator {
	case "":
	case "UTF8_DATA":
		b = packet.AppendNumber(b, packet.PayloadFormat, 1)
	default:
		b = packet.AppendNumber(b, packet.PayloadFormat, 0)
	}
	if p.ContentType != "" {
		b = packet.AppendText(b, packet.ContentType, p.ContentType)
	}
	if p.ResponseTopic != "" {
		b = packet.AppendText(b, packet.ResponseTopic, p.ResponseTopic)
	}
	if p.CorrelationData != nil {
		b = packet.AppendText(b, packet.CorrelationData, p.CorrelationData)
	}
	for _, u := range p.User {
		b = packet.AppendUser(b, u[0], u[1])
	}
	return b
}

func readProperties(wire []byte) (p properties) {
	packet.Each(wire, func(id packet.Property, v, second []byte) bool {
		switch id {
		case packet.PayloadFormat:
			p.FormatIndicator = map[byte]string{0: "UNSPECIFIED_BYTES", 1: "UTF8_DATA"}[v[0]]
		case packet.ContentType:
			p.ContentType = string(v)
		case packet.ResponseTopic:
			p.ResponseTopic = string(v)
		case packet.CorrelationData:
			p.CorrelationData = append([]byte{}, v...)
		case packet.UserProperty:
			p.User = append(p.User, [2]string{string(v), string(second)})
		}
		return true
	})
	return p
}
