package server

import (
	"archive/zip"
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/lambda/store"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// doubles is a function that doubles n, and answers hooks.
const doubles = `
import os, socket
def handler(event, context):
    if "n" in event:
        print("doubles", event["n"])
        return {"n": 2 * event["n"]}
    return {"allowProvisioning": True}
`

// function makes a function of the bridge, whose code is app.py.
func (b *bridge) function(name, code string) (arn string) {
	b.t.Helper()
	var text bytes.Buffer
	w := zip.NewWriter(&text)
	f, err := w.Create("app.py")
	if err == nil {
		_, err = f.Write([]byte(code))
	}
	if err != nil || w.Close() != nil {
		b.t.Fatal("the package could not be written", err)
	}
	python, handler, role, timeout := "python3.11", "app.handler", "arn:aws:iam::000000000000:role/any", 20
	v, err := b.functions.store.Create(name, store.Configuration{Runtime: &python, Handler: &handler, Role: &role,
		Timeout: &timeout}, store.Code{Zip: text.Bytes()}, false, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.functions.store.ARN(v.Function, "")
}

// A rule asks a function by aws_lambda, and gives messages to one by its action; a
// hook is a function. To explain a message calls none.
func TestFunctions(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	cfg := configure(t)
	cfg.Lambda.Enabled, cfg.Lambda.Unsafe = true, true
	declareFiles(t, cfg, map[string]string{"streams/out.json": `{"StreamName":"out"}`})
	b := start(t, cfg)
	arn := b.function("double", doubles)
	// A process that starts may take longer than a rule waits on a busy machine.
	answer, err := b.ownFunctions().Ask(t.Context(), arn, []byte(`{"claimCertificateId":"c"}`))
	if string(answer) != `{"allowProvisioning": true}` || err != nil {
		t.Fatalf("%s, %v", answer, err)
	}
	d := b.connect(b.thing("dev", ""), "dev")
	sql := "SELECT aws_lambda('" + arn + "', *).n AS n FROM 'dt/+/x'"
	if err := b.topicRules.Create(t.Context(), "ask", []byte(payload(sql, "out"))); err != nil {
		t.Fatal(err)
	}
	give := `{"sql":"SELECT 21 AS n FROM 'dt/+/give'","awsIotSqlVersion":"2016-03-23",` +
		`"actions":[{"lambda":{"functionArn":"` + arn + `"}}]}`
	if err := b.topicRules.Create(t.Context(), "give", []byte(give)); err != nil {
		t.Fatal(err)
	}
	d.publish("dt/dev/x", `{"n":4}`)
	b.eventually("the function's answer", func() bool {
		return slices.Equal(b.documents("out"), []string{`{"n":8}`})
	})
	d.publish("dt/dev/give", `{}`)
	b.eventually("the action's call", func() bool {
		log, _ := b.functions.logs.Tail("double", 1<<16)
		return strings.Contains(string(log), "doubles 21\n")
	})
	rule, err := b.topicRules.Named("ask")
	if err != nil {
		t.Fatal(err)
	}
	calls := func() uint64 { return b.functions.manager.Stats()["double"].Invocations }
	b.eventually("three calls", func() bool { return calls() >= 3 }) // they are counted after the answer
	before := calls()
	w := b.rules.Try(t.Context(), rule, &message.Message{Topic: "dt/dev/x", Payload: []byte(`{"n":1}`)})
	if len(w.Notes) != 1 || !strings.Contains(w.Notes[0], "aws_lambda") || string(w.Document.JSON) != "{}" {
		t.Errorf("%+v", w)
	}
	if after := calls(); after != before {
		t.Errorf("looking made %d calls", after-before)
	}
	if !b.ownFunctions().HasFunction(arn) || b.ownFunctions().HasFunction(arn+"none") {
		t.Error("the function is not found by its ARN")
	}
	if text := b.metrics(); !strings.Contains(text, `tidemill_function_invocations_total{function="double"} 3`) {
		t.Error("no metrics of the function")
	}
}
