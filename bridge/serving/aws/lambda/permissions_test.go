package lambda

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/lambda/store"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
)

// Permissions are kept, shown as AWS shows them, and taken away, also over a restart;
// what cannot be a permission is refused, and says why.
func TestPermissions(t *testing.T) {
	s, h := newStand(t)
	if a := ask(h, "POST", functions, newFunction("f")); a.Status != 201 {
		t.Fatal(a)
	}
	add := func(id, more string) wiretest.Answer {
		return ask(h, "POST", functions+"/f/policy", fmt.Sprintf(`{"StatementId":%q,"Action":"lambda:InvokeFunction",`+
			`"Principal":"iot.amazonaws.com"%s}`, id, more))
	}
	if a := ask(h, "GET", functions+"/f/policy", ""); a.Status != 404 || a.Code != "ResourceNotFoundException" {
		t.Errorf("no policy: %d %s", a.Status, a.Body)
	}
	a := add("rule", `,"SourceArn":"arn:aws:iot:eu-local-1:000000000000:rule/r","SourceAccount":"000000000000"`)
	var added struct{ Statement string }
	if json.Unmarshal([]byte(a.Body), &added) != nil || a.Status != 201 {
		t.Fatal(a)
	}
	arn := "arn:aws:lambda:" + wiretest.Region + ":000000000000:function:f"
	want := `{"Action":"lambda:InvokeFunction","Condition":{"ArnLike":{"AWS:SourceArn":` +
		`"arn:aws:iot:eu-local-1:000000000000:rule/r"},"StringEquals":{"AWS:SourceAccount":"000000000000"}},` +
		`"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Resource":"` + arn + `","Sid":"rule"}`
	if added.Statement != want {
		t.Errorf("statement %s, want %s", added.Statement, want)
	}
	for more, code := range map[string]string{
		`,"RevisionId":"other"`: "PreconditionFailedException", `,"SourceArn":"x"`: "InvalidParameterValueException",
		`,"SourceAccount":"1"`: "InvalidParameterValueException", `,"Principal":"*"`: "InvalidParameterValueException",
		`,"Principal":"arn:aws:iam::000000000000:user/u"`: "InvalidParameterValueException",
		`,"Action":"s3:Get"`:                              "InvalidParameterValueException",
		`,"EventSourceToken":"x"`:                         "InvalidParameterValueException",
		`,"StatementId":"a b"`:                            "InvalidParameterValueException",
		`,"StatementId":"rule"`:                           "ResourceConflictException",
	} {
		if a := add("new", more); a.Code != code {
			t.Errorf("%s: %d %s, want %s", more, a.Status, a.Body, code)
		}
	}
	for n, full := 0, false; !full; n++ {
		a := add(fmt.Sprintf("%d-%s", n, strings.Repeat("x", 90)), "")
		if full = a.Code == "PolicyLengthExceededException"; !full && a.Status != 201 || n > 200 {
			t.Fatal(n, a)
		}
	}
	s.store = reopened(t, s.store)
	h = wire.New(wiretest.Options(Service(Options{Store: s.store, Functions: s, Queue: s, Right: right})))
	a = ask(h, "GET", functions+"/f/policy", "")
	var kept struct{ Policy, RevisionId string }
	if json.Unmarshal([]byte(a.Body), &kept) != nil || kept.RevisionId == "" ||
		!strings.HasPrefix(kept.Policy, `{"Id":"default","Statement":[`+want+`,`) {
		t.Errorf("%d %.600s", a.Status, a.Body)
	}
	if a := ask(h, "GET", functions+"/f/policy?Qualifier=1", ""); a.Status != 404 {
		t.Errorf("of another qualifier: %d %s", a.Status, a.Body)
	}
	for _, want := range []int{204, 404} {
		if a := ask(h, "DELETE", functions+"/f/policy/rule", ""); a.Status != want {
			t.Errorf("%d %s, want %d", a.Status, a.Body, want)
		}
	}
	if a := ask(h, "GET", functions+"/f/policy", ""); strings.Contains(a.Body, `rule/r`) {
		t.Error(a.Body)
	}
}

// reopened is a store over the folder of another.
func reopened(t *testing.T, s *store.Store) *store.Store {
	t.Helper()
	again, err := store.Open(store.Options{Dir: s.Path(), Account: "000000000000", Region: wiretest.Region})
	if err != nil {
		t.Fatal(err)
	}
	return again
}
