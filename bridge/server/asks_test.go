package server

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/config"
)

const farFunction = "arn:aws:lambda:us-east-1:111111111111:function:far"

// services stand for DynamoDB, Lambda and a model at one endpoint, and are strict about
// what they are asked.
func services(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var in map[string]any
		_ = json.Unmarshal(body, &in)
		signed := func(scope string) bool {
			a := r.Header.Get("Authorization")
			return strings.HasPrefix(a, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") && strings.Contains(a, scope)
		}
		answer := ""
		switch {
		case r.Header.Get("X-Amz-Target") == "DynamoDB_20120810.GetItem" && signed("/eu-local-1/dynamodb/aws4_request"):
			if string(body) == `{"Key":{"id":{"S":"d1"}},"TableName":"Devices"}` {
				answer = `{"Item":{"id":{"S":"d1"},"floor":{"N":"3"}}}`
			}
		case r.URL.Path == "/2015-03-31/functions/"+farFunction+"/invocations" &&
			r.Header.Get("X-Amz-Invocation-Type") == "RequestResponse" && signed("/us-east-1/lambda/aws4_request"):
			answer = `{"got":` + string(body) + `}`
		case r.URL.Path == "/models/m1" && r.Header.Get("Authorization") == "Bearer t0ken" &&
			r.Header.Get("X-Amz-Target") == "AmazonML_20141212.Predict":
			if rec, _ := in["Record"].(map[string]any); in["MLModelId"] == "m1" && rec["id"] == "d1" && rec["n"] == "1.5" {
				answer = `{"Prediction":{"predictedLabel":"1"}}`
			}
		}
		if answer == "" {
			t.Errorf("asked %s %s %v: %s", r.Method, r.URL.EscapedPath(), r.Header, body)
			http.Error(w, "{}", http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return s
}

// Statements ask DynamoDB, Lambda and a model where the configuration says; hooks and
// authorizers may be functions of Lambda.
func TestAsks(t *testing.T) {
	srv := services(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	cfg := configure(t)
	cfg.Egress.Allow = []string{srv.Listener.Addr().String()}
	cfg.Actions = []config.Action{{Kind: "dynamoDB", EndpointURL: srv.URL, Region: "eu-local-1"},
		{Kind: "lambda", EndpointURL: srv.URL}}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Predict = config.Predict{URL: srv.URL + "/models/{model}", TokenFile: token}
	const role = "'arn:aws:iam::000000000000:role/any'"
	declareFiles(t, cfg, map[string]string{"streams/out.json": `{"StreamName":"out"}`,
		"rules/ask.json": payload("SELECT get_dynamodb('Devices', 'id', id, "+role+").floor AS floor, "+
			"aws_lambda('"+farFunction+"', {'n': n}).got.n AS n, "+
			"machinelearning_predict('m1', "+role+", *).predictedLabel AS label FROM 'dt/#'", "out")})
	b := start(t, cfg)
	d := b.connect(b.thing("dev", ""), "dev")
	d.publish("dt/dev/x", `{"id":"d1","n":1.5}`)
	b.eventually("all three answers", func() bool {
		return slices.Equal(b.documents("out"), []string{`{"floor":3,"n":1.5,"label":"1"}`})
	})
	if !b.ownFunctions().HasFunction(farFunction) {
		t.Error("a hook may not be a function of Lambda")
	}
	answer, err := b.ownFunctions().Ask(t.Context(), farFunction, []byte(`{}`))
	if string(answer) != `{"got":{}}` || err != nil {
		t.Errorf("%s, %v", answer, err)
	}
}

// Without a word of the configuration nobody is asked.
func TestAsksNobody(t *testing.T) {
	b := idle(t, configure(t))
	const role = "'arn:aws:iam::000000000000:role/any'"
	for _, call := range []string{"get_dynamodb('Devices', 'id', id, " + role + ")", "aws_lambda('" + farFunction + "', *)",
		"machinelearning_predict('m1', " + role + ", *)"} {
		_, err := b.compiler.Services.Compile("SELECT "+call+" AS x FROM 'dt/#'", "2016-03-23")
		if err == nil || !strings.Contains(err.Error(), "no service here has them") {
			t.Errorf("%s: %v", call, err)
		}
	}
	if b.ownFunctions().HasFunction(farFunction) {
		t.Error("there are no functions")
	}
}
