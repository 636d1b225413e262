package restjson

import (
	"encoding/json"
	"math"
	"net/http/httptest"
	"testing"
)

func TestWriteError(t *testing.T) {
	w := httptest.NewRecorder()
	WriteError(w, 403, "ForbiddenException", `a<b "no"`)
	if w.Code != 403 || w.Header().Get("X-Amzn-Errortype") != "ForbiddenException" ||
		w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Content-Length") != "25" ||
		w.Body.String() != `{"message":"a<b \"no\""}`+"\n" {
		t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
	}
}

func TestEncode(t *testing.T) {
	for _, c := range []struct {
		in   any
		want string
	}{
		{nil, ""}, {json.RawMessage(`{"a": 1}`), `{"a": 1}`}, {map[string]int{"<": 1}, `{"<":1}` + "\n"},
	} {
		if got, err := Encode(c.in); string(got) != c.want || err != nil {
			t.Errorf("%v: %q, %v; want %q", c.in, got, err, c.want)
		}
	}
	if _, err := Encode(math.NaN()); err == nil {
		t.Error("no number is JSON")
	}
}
