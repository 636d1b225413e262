package lookup

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestModels(t *testing.T) {
	answer, asked := "", ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = r.URL.EscapedPath() + " " + r.Header.Get("Authorization") + " " + string(body)
		if answer == "" {
			http.Error(w, "sick", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	defer srv.Close()
	x := Models{URL: srv.URL + "/{model}/predict", HTTP: srv.Client()}
	for _, c := range []struct{ model, answer, want, fails string }{
		{"m.1", `{"Prediction":{"predictedLabel":"1"}}`, `{"predictedLabel":"1"}`, ""},
		{"m.1", `{"Prediction":[]}`, `[]`, ""},
		{"m.1", `{}`, "", "no Prediction"},
		{"m.1", `x`, "", "no JSON"},
		{"m.1", `{"Prediction":"` + strings.Repeat("x", 1<<20) + `"}`, "", "no JSON"},
		{"m.1", "", "", "status 503"},
		{"..", "{}", "", "want 1 to 64"}, {"a/b", "{}", "", "want 1 to 64"}, {"", "{}", "", "want 1 to 64"},
	} {
		answer = c.answer
		got, err := x.Predict(t.Context(), c.model, []byte(`{"a":"x\n","b":1.50,"c":null,"d":"{\"e\":1}"}`))
		if string(got) != c.want || (err == nil) != (c.fails == "") ||
			err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
	want := `/m.1/predict  {"MLModelId":"m.1","PredictEndpoint":"` + srv.URL + `/m.1/predict",` +
		`"Record":{"a":"x\n","b":"1.50","c":"null","d":"{\"e\":1}"}}`
	if asked != want {
		t.Errorf("asked %s\nwant  %s", asked, want)
	}
}

// A record is texts, and none of it gets lost.
func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":"x","":null}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		texts, err := recordOf(in)
		var all map[string]any
		if json.Unmarshal(in, &all) == nil && (err != nil || len(texts) != len(all)) {
			t.Fatalf("%s became %q, %v", in, texts, err)
		}
	})
}
