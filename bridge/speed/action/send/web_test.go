package send

import (
	"net/http"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/search"
)

// What a rule names is asked by the client of such URLs, what the operator names by
// the other.
func TestWhoseURL(t *testing.T) {
	for _, c := range []struct {
		kind     string
		operator string // endpoint_url of its actions
		params   []string
		rules    bool // the client of rules asks
	}{
		{"openSearch", "", []string{"endpoint", "https://rule.test", "index", "i", "type", "_doc", "id", "1"}, true},
		{"elasticsearch", "", []string{"endpoint", "https://rule.test", "index", "i", "type", "_doc", "id", "1"}, true},
		{"openSearch", "https://operator.test", []string{"endpoint", "https://rule.test", "index", "i", "id", "1"},
			false},
		{"salesforce", "", []string{"url", "https://rule.test/x", "token", "t"}, true},
		{"salesforce", "https://operator.test", []string{"url", "https://rule.test/x", "token", "t"}, true},
	} {
		own, rules := &fake{answers: []string{"201 {}"}}, &fake{answers: []string{"201 {}"}}
		set := New(Options{Region: "eu-local-1", Places: map[string]awsapi.Place{c.kind: {EndpointURL: c.operator}},
			Search: map[string]search.Authorize{c.kind: search.Open}, HTTP: &http.Client{Transport: own},
			Web: &http.Client{Transport: rules}})
		got := said(set.Senders()[c.kind].Send(t.Context(), []*action.Delivery{delivery(c.kind, `{}`, c.params...)}))
		if got != "done" || (len(rules.bodies) == 1) != c.rules || (len(own.bodies) == 1) == c.rules {
			t.Errorf("%s at %q: %s, %d by the rules' client, %d by the other", c.kind, c.operator, got,
				len(rules.bodies), len(own.bodies))
		}
	}
}

// The events of a salesforce action go to the operator's endpoint, if there is one.
func TestPlaced(t *testing.T) {
	const rule = "https://ingestion-a.b.sfdcnow.com/streams/s/c/event"
	for endpoint, want := range map[string]string{"": rule, "http://127.0.0.1:80/": "http://127.0.0.1:80/streams/s/c/event",
		"https://in.example.org/iot": "https://in.example.org/iot/streams/s/c/event"} {
		if got, err := placed(endpoint, rule); err != nil || got != want {
			t.Errorf("at %q: %s, %v, want %s", endpoint, got, err, want)
		}
	}
	if _, err := placed("https://in.example.org", "https://%"); err == nil {
		t.Error("what is no URL was taken")
	}
}
