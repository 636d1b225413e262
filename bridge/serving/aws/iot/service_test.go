package iot

import (
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// denying remembers what it was asked last, and refuses it.
type denying struct{ last wire.Question }

func (d *denying) Admit(wire.Question) (bool, error) { return false, nil }

func (d *denying) Authorize(q wire.Question) error {
	d.last = q
	return wire.ErrDenied
}

// Policies are asked about the resource that a request names, and no operation
// runs that they don't allow.
func TestResources(t *testing.T) {
	p := newDesk(t)
	d := &denying{}
	o := wiretest.Options(p.service)
	o.Authorizer = d
	h := wire.New(o)
	want := map[string]string{
		"CreateTopicRule": "rule/v", "ListTopicRules": "*", "DescribeThing": "thing/v",
		"ListThingGroupsForThing": "thing/v",
		"AttachThingPrincipal":    "thing/v", "AddThingToThingGroup": "*", "DescribeThingGroup": "thinggroup/v",
		"GetPolicyVersion": "policy/v", "AttachPolicy": "*", "DetachPrincipalPolicy": "*", "ListAttachedPolicies": "cert/v",
		"UpdateCertificate": "cert/v", "DeleteCACertificate": "cacert/v", "ListCertificatesByCA": "cacert/v",
		"DescribeThingType": "thingtype/v", "DeleteBillingGroup": "billinggroup/v",
		"TestInvokeAuthorizer": "authorizer/v",
		"DescribeRoleAlias":    "rolealias/v", "DescribeProvisioningTemplateVersion": "provisioningtemplate/v",
		"DescribeEndpoint": "*",
	}
	seen := map[string]bool{}
	for _, op := range p.service.Operations {
		path := ""
		for segment := range strings.SplitSeq(op.Path[1:], "/") {
			if strings.HasPrefix(segment, ":") {
				segment = "v"
			}
			path += "/" + segment
		}
		d.last = wire.Question{}
		if got := wiretest.Ask(h, "iot", op.Method, path, ""); got.Status != 403 ||
			got.Code != "AccessDeniedException" {
			t.Errorf("%s: %d %s %s", op.Name, got.Status, got.Code, got.Body)
		}
		if d.last.Action != "iot:"+op.Name || d.last.Resource == "" {
			t.Errorf("%s: asked for %+v", op.Name, d.last)
		}
		if w := want[op.Name]; w != "" {
			seen[op.Name] = true
			if w != "*" {
				w = "arn:aws:iot:" + wiretest.Region + ":000000000000:" + w
			}
			if d.last.Resource != w {
				t.Errorf("%s: %s, want %s", op.Name, d.last.Resource, w)
			}
		}
	}
	if len(seen) != len(want) {
		t.Errorf("there are %v of %v", seen, want)
	}
}

// counting refuses one question after some that it allows.
type counting struct {
	allow int
	asked []string
}

func (c *counting) Admit(wire.Question) (bool, error) { return false, nil }

func (c *counting) Authorize(q wire.Question) error {
	c.asked = append(c.asked, q.Resource)
	if len(c.asked) > c.allow {
		return wire.ErrDenied
	}
	return nil
}

// A request is about all that it names, wherever that stands, however it is spelled.
func TestResourcesBesideThePath(t *testing.T) {
	const here = "arn:aws:iot:" + wiretest.Region + ":000000000000:"
	const elsewhere = "arn:aws:iot:other:111111111111:" // of which the name counts
	p := newDesk(t)
	for _, c := range []struct {
		name, method, path, body string
		header, value            string
		want                     []string
	}{
		{"AddThingToThingGroup", "PUT", "/thing-groups/addThingToThingGroup",
			`{"thingName":"t","thingGroupArn":"` + elsewhere + `thinggroup/g"}`, "", "",
			[]string{"thing/t", "thinggroup/g"}},
		{"by other spellings", "PUT", "/thing-groups/addThingToThingGroup",
			`{"ThingName":"x","thingname":"t","thingGroupName":"g","thingGroupArn":"h","target":5}`, "", "",
			[]string{"thing/t", "thinggroup/g"}},
		{"RemoveThingFromThingGroup", "PUT", "/thing-groups/removeThingFromThingGroup", `{"thingName":"t"}`, "", "",
			[]string{"thing/t"}},
		{"nothing", "PUT", "/thing-groups/removeThingFromThingGroup", `{}`, "", "", []string{"*"}},
		{"no JSON", "PUT", "/thing-groups/removeThingFromThingGroup", `{"thingName":"t"`, "", "", []string{"*"}},
		{"UpdateThingGroupsForThing", "PUT", "/thing-groups/updateThingGroupsForThing",
			`{"thingName":"t","thingGroupsToAdd":["a","b"],"thingGroupsToRemove":["c"]}`, "", "",
			[]string{"thing/t", "thinggroup/a", "thinggroup/b", "thinggroup/c"}},
		{"AddThingToBillingGroup", "PUT", "/billing-groups/addThingToBillingGroup",
			`{"thingArn":"` + here + `thing/t","billingGroupName":"b"}`, "", "", []string{"thing/t", "billinggroup/b"}},
		{"CreateThing", "POST", "/things/t", `{"billingGroupName":"b"}`, "", "", []string{"thing/t", "billinggroup/b"}},
		{"CreateThing without a group", "POST", "/things/t", "", "", "", []string{"thing/t"}},
		{"AttachThingPrincipal", "PUT", "/things/t/principals", "", "x-amzn-principal", here + "cert/c",
			[]string{"thing/t", "cert/c"}},
		{"AttachPolicy", "PUT", "/target-policies/p", `{"target":"` + here + `thinggroup/g"}`, "", "",
			[]string{"thinggroup/g"}},
		{"DetachPrincipalPolicy", "DELETE", "/principal-policies/p", "", "x-amzn-iot-principal", here + "cert/c",
			[]string{"cert/c"}},
		{"GetEffectivePolicies", "POST", "/effective-policies?thingName=t", `{"principal":"` + here + `cert/c"}`, "", "",
			[]string{"cert/c", "thing/t"}},
		{"TagResource", "POST", "/tags", `{"resourceArn":"` + here + `policy/p"}`, "", "", []string{"policy/p"}},
		{"TagResource of a thing, which has none", "POST", "/tags", `{"resourceArn":"` + here + `thing/t"}`, "", "",
			[]string{"*"}},
		{"ListTagsForResource", "GET", "/tags?resourceArn=arn%3Aaws%3Aiot%3Ar%3A0%3Arule%2Fr", "", "", "",
			[]string{"rule/r"}},
		{"CreateProvisioningTemplate", "POST", "/provisioning-templates", `{"templateName":"n"}`, "", "",
			[]string{"provisioningtemplate/n"}},
		{"SetDefaultAuthorizer", "POST", "/default-authorizer", `{"authorizerName":"a"}`, "", "",
			[]string{"authorizer/a"}},
	} {
		for n := range c.want {
			o, asked := wiretest.Options(p.service), &counting{allow: n}
			o.Authorizer = asked
			r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			if c.header != "" {
				r.Header.Set(c.header, c.value)
			}
			sigv4test.Sign(r, []byte(c.body), wiretest.Key, wiretest.Region, "iot", time.Now())
			got := wiretest.Do(wire.New(o), r)
			if got.Status != 403 || len(asked.asked) != n+1 {
				t.Errorf("%s: %d, asked for %q", c.name, got.Status, asked.asked)
				break
			}
			want := c.want[n]
			if want != "*" {
				want = here + want
			}
			if asked.asked[n] != want {
				t.Errorf("%s: asked for %q, want %s", c.name, asked.asked, want)
			}
		}
	}
	indexes := map[string]string{`{"indexName":"AWS_ThingGroups"}`: "AWS_ThingGroups", `{}`: "AWS_Things"}
	for body, want := range indexes {
		of := resources("0", operation{name: "SearchIndex", path: "/indices/search"})
		if got := of(&wire.Request{Region: "r", Body: []byte(body)}); got[0] != "arn:aws:iot:r:0:index/"+want {
			t.Errorf("%s: %q", body, got)
		}
	}
	all := (&controlPlane{index: &index.Index{}}).operations()
	for op := range beside {
		if !slices.ContainsFunc(all, func(o operation) bool { return o.name == op }) {
			t.Errorf("there is no operation %s", op)
		}
	}
}
