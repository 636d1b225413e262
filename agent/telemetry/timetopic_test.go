package telemetry

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestAnswerTime(t *testing.T) {
	now := time.UnixMilli(1_796_000_000_000)
	got, err := AnswerTime([]byte(`{"nonce":"aZ_-9"}`), now, 3*time.Millisecond)
	if err != nil || string(got) != `{"nonce":"aZ_-9","time_ms":1796000000000,"error_ms":5}` {
		t.Errorf("%s, %v", got, err)
	}
	for _, bad := range []string{"", "{", "{}", `{"nonce":""}`, `{"nonce":"a\"b"}`, `{"nonce":1}`,
		`{"nonce":"` + strings.Repeat("a", 65) + `"}`, `{"nonce":"a"}` + strings.Repeat(" ", 256)} {
		if got, err := AnswerTime([]byte(bad), now, 0); err == nil {
			t.Errorf("%.80s: %s", bad, got)
		}
	}
}

// Whatever is answered has the nonce of the question.
func FuzzAnswerTime(f *testing.F) {
	f.Add([]byte(`{"nonce":"x"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		out, err := AnswerTime(in, time.UnixMilli(1), 0)
		if err != nil {
			return
		}
		var r TimeRequest
		var a TimeAnswer
		if json.Unmarshal(in, &r) != nil || json.Unmarshal(out, &a) != nil || a.Nonce != r.Nonce || a.Nonce == "" {
			t.Fatalf("%s to %s", out, in)
		}
	})
}
