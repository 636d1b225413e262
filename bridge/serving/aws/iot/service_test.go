package iot

import (
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
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
		"GetPolicyVersion": "policy/v", "AttachPolicy": "*", "DetachPrincipalPolicy": "*", "ListAttachedPolicies": "*",
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
