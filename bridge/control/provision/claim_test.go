package provision

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

const fleetTemplate = `{
"Parameters": {"SerialNumber": {"Type": "String"}, "Site": {"Type": "String", "Default": "north"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
"Mappings": {"Sites": {"north": {"url": "https://north.example"}}},
"Resources": {
  "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["-", ["pump", {"Ref": "SerialNumber"}]]}, "AttributePayload": {"site": {"Ref": "Site"}}},
            "OverrideSettings": {"AttributePayload": "MERGE"}},
  "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
  "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}}}
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
	r, err := registry.Open(filepath.Join(dir, "registry.db"))
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
	return New(Options{Registry: r, Issuer: p, Hooks: hooks, ARN: func(x string) string { return "arn:aws:iot:r:1:" + x }}), r
}

// A device asks for a certificate and to be provisioned, and asks again.
func TestClaim(t *testing.T) {
	s, r := newService(t, nil)
	ask := func(topic, payload, want string) (out map[string]any) {
		t.Helper()
		got, answer := s.Handle(t.Context(), &Request{Topic: topic, Payload: []byte(payload), ClientID: "c", Principal: "claim"})
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
	if out := ask("$aws/provisioning-templates/fleet/provision/json", other, "/rejected"); out["errorCode"] != "InvalidCertificateOwnershipToken" {
		t.Errorf("%v", out)
	}
	err := r.View(func(tx *registry.Tx) error {
		th, err := tx.Thing("pump-7")
		c, err2 := tx.Certificate(made["certificateId"].(string))
		if th.Attributes["site"] != "north" || c.Status != registry.Active || len(tx.ThingCertificates("pump-7")) != 1 || len(tx.CertificatePolicies(c.ID)) != 1 {
			t.Errorf("%+v %+v", th, c)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Error(err)
	}
}
