package faults

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// A receiver takes records by HTTP and keeps each as often as it came.
type receiver struct {
	mu  sync.Mutex
	all []int
}

func (x *receiver) got() []int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append([]int(nil), x.all...)
}

func (x *receiver) take(text string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, numbers(text)...)
}

// hook takes what the http action sends.
func (x *receiver) hook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Idempotency-Key") == "" || !json.Valid(body) {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	x.take(string(body))
}

// endpoint takes what Firehose sends to an HTTP endpoint.
func (x *receiver) endpoint(w http.ResponseWriter, r *http.Request) {
	var q struct {
		RequestID string
		Timestamp int64
		Records   []struct{ Data []byte }
	}
	err := json.NewDecoder(r.Body).Decode(&q)
	if err != nil || q.RequestID == "" || q.RequestID != r.Header.Get("X-Amz-Firehose-Request-Id") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var text strings.Builder
	for _, rec := range q.Records {
		text.Write(rec.Data)
	}
	x.take(text.String())
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"requestId":%q,"timestamp":%d}`, q.RequestID, q.Timestamp)
}

// A collector stands for Splunk's HTTP Event Collector with indexer acknowledgement.
type collector struct {
	receiver
	acks int
}

// ServeHTTP implements http.Handler.
func (x *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	channel := r.URL.Query().Get("channel")
	switch {
	case err != nil:
	case r.Header.Get("Authorization") != "Splunk token":
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method != http.MethodPost || len(channel) != 36 || channel != r.Header.Get("X-Splunk-Request-Channel"):
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"text":"Data channel is missing","code":10}`))
	case r.URL.Path == "/services/collector/raw":
		x.take(string(body))
		x.mu.Lock()
		x.acks++
		fmt.Fprintf(w, `{"text":"Success","code":0,"ackId":%d}`, x.acks)
		x.mu.Unlock()
	case r.URL.Path == "/services/collector/ack":
		x.ack(w, body)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// ack tells that all that was taken is indexed; each once, as the collector does.
func (x *collector) ack(w http.ResponseWriter, body []byte) {
	var q struct{ Acks []int }
	if json.Unmarshal(body, &q) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	acks := map[string]bool{}
	for _, id := range q.Acks {
		acks[fmt.Sprint(id)] = id <= x.acks
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"acks": acks})
}

// A function stands for Lambda: it takes events.
type function struct{ receiver }

// ServeHTTP implements http.Handler.
func (x *function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/2015-03-31/functions/") ||
		r.Header.Get("X-Amz-Invocation-Type") != "Event" || !json.Valid(body) ||
		!strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	x.take(string(body))
	w.WriteHeader(http.StatusAccepted)
}
