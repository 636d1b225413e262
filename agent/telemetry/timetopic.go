package telemetry

import (
	"encoding/json"
	"fmt"
	"time"
)

// TimeTopic is where an agent asks the bridge for its time, with a TimeRequest, and
// TimeAnswerTopic where it is told, with a TimeAnswer. The right to ask is that to
// publish on Topic; to hear the answer needs none. Bridges of before refuse both,
// and take batches of version 1 alone.
const (
	TimeTopic       = "$tidemill/time"
	TimeAnswerTopic = "$tidemill/time/accepted"
)

// A TimeRequest is what an agent sends.
type TimeRequest struct {
	// Nonce is random, 1 to 64 of the characters 0-9 A-Z a-z _ -. The answer has
	// it, so that an answer of before, or to another question, is none.
	Nonce string `json:"nonce"`
}

// A TimeAnswer says what time it was at the bridge between question and answer.
type TimeAnswer struct {
	Nonce string `json:"nonce"`
	Time  int64  `json:"time_ms"`  // epoch ms
	Error int64  `json:"error_ms"` // how far off that is at most, as the bridge states it
}

// maxTimeRequest is more than a request needs.
const maxTimeRequest = 256

// AnswerTime returns the answer to a request: now, which is off by bound at most.
func AnswerTime(request []byte, now time.Time, bound time.Duration) ([]byte, error) {
	var r TimeRequest
	if len(request) > maxTimeRequest {
		return nil, fmt.Errorf("telemetry: a request for the time of %d bytes, at most %d",
			len(request), maxTimeRequest)
	}
	if err := json.Unmarshal(request, &r); err != nil {
		return nil, fmt.Errorf("telemetry: a request for the time: %w", err)
	}
	if !r.valid() {
		return nil, fmt.Errorf("telemetry: a request for the time with the nonce %.70q", r.Nonce)
	}
	a := TimeAnswer{Nonce: r.Nonce, Time: now.UnixMilli(), Error: bound.Milliseconds() + 2} // both were cut off
	return json.Marshal(a)
}

func (r TimeRequest) valid() bool {
	for _, c := range []byte(r.Nonce) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && c != '-' {
			return false
		}
	}
	return len(r.Nonce) >= 1 && len(r.Nonce) <= 64
}
