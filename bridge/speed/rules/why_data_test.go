package rules

import (
	"encoding/json"
	"testing"
)

// A payload whose strings are no UTF-8 is given as bytes, so that the answer is JSON.
func TestPayloadOfNoUTF8IsBytes(t *testing.T) {
	out, err := json.Marshal(newData([]byte("{\"a\":\"\x9b\"}")))
	if err != nil || string(out) != `{"bytes":"eyJhIjoimyJ9"}` {
		t.Errorf("%s, %v", out, err)
	}
}
