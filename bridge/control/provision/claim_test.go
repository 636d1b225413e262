package provision

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
)

const fleetTemplate = `{
"Parameters": {"SerialNumber": {"Type": "String"}, "Site": {"Type": "String", "Default": "north"},
  "AWS::IoT::Certificate::Id": {"Type": "String"}},
"Mappings": {"Sites": {"north": {"url": "https://north.example"}}},
"Resources": {
  "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["-", ["pump", {"Ref": "SerialNumber"}]]},
              "AttributePayload": {"site": {"Ref": "Site"}}},
            "OverrideSettings": {"AttributePayload": "MERGE"}},
  "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
    "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
  "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {
    "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}}}
},
"DeviceConfiguration": {"url": {"Fn::FindInMap": ["Sites", {"Ref": "Site"}, "url"]}, "name": {"Fn::Sub": "p-${SerialNumber}"}}
}`

// newService is a service over a new registry, with a template called fleet.
func newService(t testing.TB, hooks *Hooks) (*Service, *registry.Registry) {
	t.Helper()
	dir := t.TempDir()
	p, err := pki.Open(filepath.Join(dir, "pki"), pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := registrytest.Open(filepath.Join(dir, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	err = r.Update(func(tx *registry.Tx) error {
		_, err := tx.CreateTemplate(registry.Template{Name: "fleet", Enabled: true}, []byte(fleetTemplate))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return New(Options{Registry: r, Issuer: p, Hooks: hooks, ARN: func(x string) string {
		return "arn:aws:iot:r:1:" + x
	}}), r
}

// A device asks for a certificate and to be provisioned, and asks again.
func TestClaim(t *testing.T) {
	s, r := newService(t, nil)
	ask := func(topic, payload, want string) (out map[string]any) {
		t.Helper()
		got, answer := s.Handle(t.Context(),
			&Request{Topic: topic, Payload: []byte(payload), ClientID: "c", Principal: "claim"})
		if got != topic+want {
			t.Fatalf("%s: %s %s", topic, got, answer)
		}
		if err := json.Unmarshal(answer, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	made := ask("$aws/certificates/create/json", "", "/accepted")
	token := made["certificateOwnershipToken"].(string)
	request := `{"certificateOwnershipToken":"` + token + `","parameters":{"SerialNumber":"7"}}`
	for range 2 {
		out := ask("$aws/provisioning-templates/fleet/provision/json", request, "/accepted")
		config, _ := out["deviceConfiguration"].(map[string]any)
		if out["thingName"] != "pump-7" || config["url"] != "https://north.example" || config["name"] != "p-7" {
			t.Errorf("%v", out)
		}
	}
	other := `{"certificateOwnershipToken":"` + token + `","parameters":{"SerialNumber":"8"}}`
	if out := ask("$aws/provisioning-templates/fleet/provision/json", other,
		"/rejected"); out["errorCode"] != "InvalidCertificateOwnershipToken" {
		t.Errorf("%v", out)
	}
	err := r.View(func(tx *registry.Tx) error {
		th, err := tx.Thing("pump-7")
		c, err2 := tx.Certificate(made["certificateId"].(string))
		if th.Attributes["site"] != "north" || c.Status != registry.Active ||
			len(tx.ThingCertificates("pump-7")) != 1 || len(tx.CertificatePolicies(c.ID)) != 1 {
			t.Errorf("%+v %+v", th, c)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Error(err)
	}
}

// The policy of a claim is for client ids of claims alone, also where a bridge of
// before has made it, but not where somebody has.
func TestClaimPolicies(t *testing.T) {
	s, r := newService(t, nil)
	claim, err := s.CreateClaim(t.Context(), "fleet")
	if err != nil {
		t.Fatal(err)
	}
	err = r.Update(func(tx *registry.Tx) error {
		return errors.Join(tx.CreatePolicy("tidemill-claim-old", s.claimPolicy("old", "client/*")),
			tx.CreatePolicy("tidemill-claim-own", s.claimPolicy("other", "client/*")),
			tx.CreatePolicy("tidemill-claim", s.claimPolicy("", "client/*")),
			tx.CreatePolicy("zz", s.claimPolicy("old", "client/*")),
			tx.AttachPolicy("tidemill-claim-old", claim.ID), tx.DetachPolicy("tidemill-claim-fleet", claim.ID))
	})
	if err != nil {
		t.Fatal(err)
	}
	may := func(clientID string) bool {
		t.Helper()
		id, err := r.Identity(claim.ID, clientID)
		if err != nil {
			t.Fatal(err)
		}
		return id.Evaluator(authz.Context{Account: "1", Region: "r"}).Allows(authz.Connect, clientID)
	}
	if !may("pump-1") {
		t.Fatal("the old policy does not allow what it did")
	}
	for range 2 {
		if err := s.TightenClaims(); err != nil {
			t.Fatal(err)
		}
	}
	if may("pump-1") || may("claim") || !may("claim-1") || !may("claim-") {
		t.Error("the old policy is not the new one")
	}
	err = r.View(func(tx *registry.Tx) error {
		for name, versions := range map[string]int{"tidemill-claim-fleet": 1, "tidemill-claim-old": 2,
			"tidemill-claim-own": 1, "tidemill-claim": 1, "zz": 1} {
			if p, err := tx.Policy(name); err != nil || len(p.Versions) != versions {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
		}
		doc, err := tx.PolicyDocument("tidemill-claim-fleet", 0)
		if !strings.Contains(string(doc), `:client/claim-*"`) || strings.Contains(string(doc), ":client/*") {
			t.Errorf("%s", doc)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// One claim that asks too often is refused for a while, and another is not.
func TestCreatesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newService(t, nil)
		refused := func(by string) bool {
			t.Helper()
			topic, answer := s.Handle(t.Context(), &Request{Topic: "$aws/certificates/create/json", Principal: by})
			if strings.HasSuffix(topic, "/accepted") {
				return false
			}
			if !strings.Contains(string(answer), `"errorCode":"TooManyRequests"`) {
				t.Fatalf("%s", answer)
			}
			return true
		}
		for i := range defaultCreateRate + 1 {
			if refused("one") {
				t.Fatalf("the %dth is refused", i)
			}
		}
		if !refused("one") || refused("two") {
			t.Error("not one claim alone is refused")
		}
		time.Sleep(time.Second)
		if refused("one") {
			t.Error("still refused a second later")
		}
	})
}
