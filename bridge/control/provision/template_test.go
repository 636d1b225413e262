package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// withResource is a template with a certificate and one more resource.
func withResource(name, body string) string {
	return `{"Parameters":{"P":{"Type":"String"},"D":{"Type":"String","Default":"d"}},
"Mappings":{"M":{"k":{"x":"found","list":["a","b"]}}},
"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"}}},"` + name +
		`":` + body + `}}`
}

// deviceOf is a template whose device configuration has one value, v.
func deviceOf(v string) string {
	return strings.TrimSuffix(withResource("t", `{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"t"}}`), "}") +
		`,"DeviceConfiguration":{"v":` + v + `}}`
}

var certificate = map[string]string{certificateParameter + "Id": "abc"}

func TestFunctions(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`"text"`, `"text"`},
		{`7`, `7`},
		{`[1,{"Ref":"P"}]`, `[1,"p,q"]`},
		{`{"a":{"b":{"Ref":"D"}}}`, `{"a":{"b":"d"}}`},
		{`{"Ref":"P"}`, `"p,q"`},
		{`{"Ref":"AWS::IoT::Certificate::Id"}`, `"abc"`},
		{`{"Ref":"P","x":1}`, `{"Ref":"P","x":1}`}, // two members are no function
		{`{"Fn::Join":["-",["a",{"Ref":"D"},"c"]]}`, `"a-d-c"`},
		{`{"Fn::Join":["",[]]}`, `""`},
		{`{"Fn::Join":["+",{"Fn::Split":[",",{"Ref":"P"}]}]}`, `"p+q"`},
		{`{"Fn::Split":[",","a,,b"]}`, `["a","","b"]`},
		{`{"Fn::Select":[1,["a","b"]]}`, `"b"`},
		{`{"Fn::Select":["0",{"Fn::Split":[",",{"Ref":"P"}]}]}`, `"p"`},
		{`{"Fn::FindInMap":["M","k","x"]}`, `"found"`},
		{`{"Fn::Select":[1,{"Fn::FindInMap":["M","k","list"]}]}`, `"b"`},
		{`{"Fn::FindInMap":["M",{"Fn::Join":["",["k"]]},"x"]}`, `"found"`},
		{`{"Fn::Sub":"${P}/${!P}/$P/$"}`, `"p,q/${P}/$P/$"`},
		{`{"Fn::Sub":"${D}/${iot:ClientId}"}`, `"d/${iot:ClientId}"`},
		{`{"Fn::Sub":["${own}${own}${D}",{"own":{"Fn::Sub":"<${P}>"}}]}`, `"<p,q><p,q>d"`},
	} {
		tp, err := parseDeviceTemplate([]byte(deviceOf(c.in)))
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		p, err := tp.plan(certificate, map[string]string{"P": "p,q", "other": "x"})
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		got, err := json.Marshal(p.DeviceConfiguration["v"])
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(string(got))
		if text != c.want {
			t.Errorf("%s: %s, want %s", c.in, text, c.want)
		}
	}
}

// What is wrong whatever the parameters are is told when a template is made.
func TestParseErrors(t *testing.T) {
	const (
		thingA   = `{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a"}`
		policyOf = `{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":`
	)
	for in, want := range map[string]string{
		``:                                      "the document is empty",
		`[]`:                                    "it is a list, want an object",
		`{}`:                                    "no certificate",
		`{"Resource":{}}`:                       "Resource: unknown member",
		deviceOf(`1`) + `x`:                     "want one JSON value and no more",
		deviceOf(`{"Ref":"None"}`):              "there is no parameter None",
		deviceOf(`{"Ref":7}`):                   "there is no parameter 7",
		deviceOf(`{"Ref":"AWS::X"}`):            "there is no parameter AWS::X",
		deviceOf(`{"Fn::Nope":[]}`):             `no function "Fn::Nope"`,
		deviceOf(`{"Fn::Join":["-"]}`):          "a list of 2 arguments",
		deviceOf(`{"Fn::FindInMap":["M","k"]}`): "a list of 3 arguments",
		deviceOf(`{"Fn::Sub":"${None}"}`):       `there is no parameter "None"`,
		deviceOf(`{"Fn::Sub":"${P"}`):           "without }",
		deviceOf(`{"Fn::Sub":["${x}",7]}`):      "want an object",
		deviceOf(`{"a":[{"Fn::Sub":{"Ref":"P"}}]}`):                                               "a list of 2 arguments",
		withResource("x", `{"Type":"AWS::IoT::Role"}`):                                            `Resources.x: type "AWS::IoT::Role"`,
		withResource("x", `{"Type":"AWS::IoT::Thing","Properties":{}}`):                           "needs ThingName",
		withResource("x", `{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a","Name":"b"}}`): `no property "Name"`,
		withResource("x", thingA+`,"OverrideSettings":{"ThingTypeName":"MERGE"}}`):                `OverrideSettings.ThingTypeName: "MERGE"`,
		withResource("x", thingA+`,"Override":{}}`):                                               "Override: unknown member",
		withResource("x", `{"Type":"AWS::IoT::Policy","Properties":{}}`):                          "needs PolicyName or PolicyDocument",
		withResource("x", `{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"1"}}`):  "0 things and 2 certificates",
		`{"Parameters":{"P":{"Type":"Number"}}}`:                                                  `type "Number", want String`,
		withResource("x", policyOf+`{"Version":"2012-10-17","Statement":[{}]}}}`):                 "Resources.x: PolicyDocument",
		withResource("x", policyOf+`"{}"}}`):                                                      "Resources.x: PolicyDocument",
		strings.Repeat(" ", registry.MaxTemplateBody+1):                                           "at most 10240",
	} {
		_, err := parseDeviceTemplate([]byte(in))
		if !errors.Is(err, ErrTemplate) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200s: %v, want %s", in, err, want)
		}
	}
}

// What depends on the parameters is told when they are given.
func TestPlanErrors(t *testing.T) {
	long := strings.Repeat("x", maxParameter+1)
	for _, c := range []struct {
		in, want string
		claimed  map[string]string
	}{
		{deviceOf(`1`), `parameter "P" is missing`, nil},
		{deviceOf(`1`), "4097 bytes", map[string]string{"P": long}},
		{deviceOf(`1`), "4097 bytes", map[string]string{"P": "", "unknown": long}},
		{deviceOf(`{"Fn::Select":[{"Ref":"P"},["a"]]}`), "index 1 of 1", map[string]string{"P": "1"}},
		{deviceOf(`{"Fn::Select":[{"Ref":"P"},["a"]]}`), "want a number", map[string]string{"P": "x"}},
		{deviceOf(`{"Fn::Split":[{"Ref":"P"},"a"]}`), "no delimiter", map[string]string{"P": ""}},
		{deviceOf(`{"Fn::FindInMap":["M",{"Ref":"P"},"x"]}`), "no Mappings.M.y.x", map[string]string{"P": "y"}},
		{deviceOf(`{"Fn::Join":[["a"],["b"]]}`), "want text", map[string]string{"P": ""}},
		{deviceOf(`{"Fn::Join":["",[1]]}`), "want text", map[string]string{"P": ""}},
		{deviceOf(`{"Ref":"AWS::IoT::Certificate::Country"}`), "there is no parameter", map[string]string{"P": ""}},
		{deviceOf(`{"Fn::Sub":["` + strings.Repeat("${P}", 20) + `",{}]}`), "more than 65536 bytes",
			map[string]string{"P": long[1:]}},
		{withResource("t", `{"Type":"AWS::IoT::Thing","Properties":{"ThingName":["a"]}}`),
			"ThingName: is a []interface", map[string]string{"P": ""}},
		{withResource("t", `{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a","AttributePayload":{"x":1}}}`),
			"AttributePayload.x", map[string]string{"P": ""}},
		{withResource("t", `{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a","ThingGroups":"g"}}`),
			"want an array", map[string]string{"P": ""}},
	} {
		tp, err := parseDeviceTemplate([]byte(c.in))
		if err != nil {
			t.Errorf("%.200s: %v", c.in, err)
			continue
		}
		if _, err := tp.plan(certificate, c.claimed); !errors.Is(err, ErrTemplate) ||
			!strings.Contains(err.Error(), c.want) {
			t.Errorf("%.200s: %v, want %s", c.in, err, c.want)
		}
	}
}

func TestPlan(t *testing.T) {
	tp, err := parseDeviceTemplate([]byte(`{"Parameters":{"S":{"Type":"String"},"Status":{"Type":"String","Default":"Active"}},"Resources":{
"cert":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":{"Ref":"Status"}},
"OverrideSettings":{"Status":"REPLACE"}},
"device":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Sub":"press-${S}"},"ThingTypeName":"press",
 "AttributePayload":{"serial":{"Ref":"S"}},"ThingGroups":["a",{"Ref":"S"}],"BillingGroup":"b"},
 "OverrideSettings":{"ThingGroups":"MERGE"}},
"named":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"own"}},
"inline":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":{"Version":"2012-10-17","Statement":[
 {"Effect":"Allow","Action":"iot:Publish","Resource":{"Fn::Sub":"arn:aws:iot:r:1:topic/dt/${S}/*"}}]}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	p, err := tp.plan(certificate, map[string]string{"S": "7"})
	if err != nil {
		t.Fatal(err)
	}
	want := &Plan{
		Thing: &ThingPlan{resource: "device", Name: "press-7", Type: "press",
			Attributes: map[string]string{"serial": "7"}, Groups: []string{"a", "7"}, BillingGroup: "b",
			Override: map[string]Override{"ThingGroups": Merge}},
		Certificate: CertificatePlan{resource: "cert", ID: "abc", Status: registry.Active, Override: Replace},
		Policies: []PolicyPlan{
			{resource: "inline", Document: `{"Statement":[{"Action":"iot:Publish","Effect":"Allow",` +
				`"Resource":"arn:aws:iot:r:1:topic/dt/7/*"}],"Version":"2012-10-17"}`},
			{resource: "named", Name: "own"},
		},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}

	// A device cannot widen its policy; who is trusted can.
	for _, s := range []string{"*", "a?", "+", "#", "${iot:ClientId}", `"`, `\`, "\n", "\xff"} {
		if _, err := tp.plan(certificate, map[string]string{"S": s}); err == nil ||
			!strings.Contains(err.Error(), "does not go into a policy") {
			t.Errorf("%q: %v", s, err)
		}
		own := maps.Clone(certificate)
		own["S"] = s
		if _, err := tp.plan(own, map[string]string{"S": "7"}); err != nil {
			t.Errorf("%q of the operator: %v", s, err)
		}
	}
	if _, err := tp.plan(certificate, map[string]string{"S": "7", "Status": "REVOKED"}); err == nil {
		t.Error("a device may be REVOKED by its template")
	}
}

// Templates cannot make the bridge work for long: what is used often is computed
// once.
func TestSubstitutionIsBounded(t *testing.T) {
	v := `"x"`
	for i := range 100 {
		v = fmt.Sprintf(`{"Fn::Sub":["${a%d}${a%d}",{"a%d":%s}]}`, i, i, i, v)
	}
	tp, err := parseDeviceTemplate([]byte(deviceOf(strings.Replace(v, `"x"`, `""`, 1))))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := tp.plan(certificate, map[string]string{"P": ""}); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

// Whatever Parse takes can be planned or says why not; what a device says never
// becomes a wildcard of a policy, nor does it come out longer than it may.
func FuzzTemplate(f *testing.F) {
	f.Add([]byte(fleetTemplate), "7")
	f.Add([]byte(deviceOf(`{"Fn::Sub":["${own}",{"own":{"Fn::Select":["0",{"Fn::Split":[",",{"Ref":"P"}]}]}}]}`)),
		"a,b")
	f.Add([]byte(withResource(
		"p", `{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":{"Fn::Join":["",["{",{"Ref":"P"},"}"]]}}}`)),
		"x")
	f.Fuzz(func(t *testing.T, body []byte, said string) {
		tp, err := parseDeviceTemplate(body)
		if err != nil {
			if !errors.Is(err, ErrTemplate) {
				t.Fatalf("%v", err)
			}
			return
		}
		const mark = "MARK"
		claimed := map[string]string{}
		for name := range tp.parameters {
			claimed[name] = mark + said
		}
		p, err := tp.plan(certificate, claimed)
		if err != nil {
			if !errors.Is(err, ErrTemplate) {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, x := range p.Policies {
			if !strings.Contains(string(body), mark) && strings.Contains(x.Document, mark) && !plain(said) {
				t.Fatalf("%q is in %q", said, x.Document)
			}
		}
		if p.Thing == nil && len(p.Policies) == 0 && p.Certificate == (CertificatePlan{}) {
			t.Fatal("nothing is made")
		}
		if _, err := json.Marshal(p.DeviceConfiguration); err != nil {
			t.Fatal(err)
		}
	})
}

// Requests in both formats are read or refused, and the answer is one that can
// be read.
func FuzzHandle(f *testing.F) {
	f.Add("$aws/provisioning-templates/fleet/provision/json",
		[]byte(`{"certificateOwnershipToken":"x","parameters":{"a":"b"}}`))
	f.Add("$aws/provisioning-templates/fleet/provision/cbor", []byte("\xa1\x78\x19certificateOwnershipToken\x61x"))
	f.Add("$aws/certificates/create-from-csr/cbor", []byte("\xa1\x78\x19certificateSigningRequest\x61x"))
	for _, name := range []string{"$tidemill/certificates/aa/retire/json",
		"$aws/provisioning-templates//provision/json", "$aws/provisioning-templates/a/b/provision/json",
		"$tidemill/certificates/a/retire/cbor", "$tidemill/certificates//retire/json", "$aws/certificates/create",
		"$aws/certificates/create/json/accepted",
		"$aws/certificates/create/xml", "a", "", "$tidemill/batch", "/json",
		"$aws/provisioning-templates/provision/json", "$tidemill/certificates/retire/json",
		"$aws/provisioning-templates/a/retire/json", "$tidemill/certificates/a/provision/json"} {
		f.Add(name, []byte(``))
	}
	s, _ := newService(f, nil)
	f.Fuzz(func(t *testing.T, name string, payload []byte) {
		c, ok := parseTopic(name)
		r, _ := topic.Lookup(name)
		if ok != (r.Private && r.Takes != 0 && r.Service == topic.Provisioning) {
			t.Fatalf("%s: %v, and in the table %+v", name, ok, r)
		}
		if !ok || c.kind == "create" {
			return
		}
		for _, answer := range []string{"/accepted", "/rejected"} {
			if r, _ := topic.Lookup(name + answer); !r.Private || r.Takes != 0 {
				t.Fatalf("%s%s: %+v", name, answer, r)
			}
		}
		to, answer := s.Handle(t.Context(), &Request{Topic: name, Payload: payload, Principal: "claim"})
		var out refusal
		if to != name+"/rejected" || decode(c.format, answer, &out) != nil || out.Status < 400 || out.Code == "" ||
			out.Message == "" || out.Status == 500 {
			t.Fatalf("%s %q: %s %q", name, payload, to, answer)
		}
	})
}
