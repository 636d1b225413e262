// Package customauthtest is a custom authorizer for tests.
package customauthtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// What the authorizer knows: who shows one of them is let in.
const (
	password = "open sesame" // of an MQTT client
	token    = "sesame"
)

// An Answer is what the authorizer says.
type Answer struct {
	Deny      bool // nobody is let in
	Principal string
	Policy    string // a document
}

// A Service is a custom authorizer over HTTP. Its methods may be called from several
// goroutines.
type Service struct {
	*httptest.Server

	mu     sync.Mutex // guards what follows
	asked  int
	answer Answer
}

// New returns a Service that serves until the test ends.
func New(t testing.TB, a Answer) *Service {
	s := &Service{answer: a}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Token        string
		ProtocolData struct{ MQTT struct{ Password []byte } }
	}
	err := json.NewDecoder(r.Body).Decode(&q)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	ok := err == nil && !s.answer.Deny && (string(q.ProtocolData.MQTT.Password) == password || q.Token == token)
	fmt.Fprintf(w, `{"isAuthenticated":%v,"principalId":%q,"policyDocuments":[%s],"disconnectAfterInSeconds":300,`+
		`"refreshAfterInSeconds":300}`, ok, s.answer.Principal, s.answer.Policy)
}

// Calls is how often the authorizer was asked.
func (s *Service) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Change changes what is answered from now on.
func (s *Service) Change(f func(*Answer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.answer)
}
