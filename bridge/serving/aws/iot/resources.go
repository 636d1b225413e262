package iot

import (
	"cmp"
	"encoding/json"
	"strings"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// kinds are those of resources in ARNs, by the names of what paths take.
var kinds = map[string]string{
	"authorizerName":   "authorizer",
	"billingGroupName": "billinggroup",
	"caCertificateId":  "cacert",
	"certificateId":    "cert",
	"indexName":        "index",
	"policyName":       "policy",
	"roleAlias":        "rolealias",
	"ruleName":         "rule",
	"templateName":     "provisioningtemplate",
	"thingGroupName":   "thinggroup",
	"thingName":        "thing",
	"thingTypeName":    "thingtype",
}

// elsewhere are operations that are about something else than their path names:
// who gets the policy or loses it (service authorization reference, AWS IoT).
var elsewhere = map[string]bool{
	"AttachPolicy": true, "DetachPolicy": true, "AttachPrincipalPolicy": true, "DetachPrincipalPolicy": true,
}

// A body has the members of all bodies that name what a request is about. It is
// read as the operations read theirs, member by member, so that both find the same.
type body struct {
	Thing      string   `json:"thingName"`
	ThingARN   string   `json:"thingArn"`
	Group      string   `json:"thingGroupName"`
	GroupARN   string   `json:"thingGroupArn"`
	Add        []string `json:"thingGroupsToAdd"`
	Remove     []string `json:"thingGroupsToRemove"`
	Billing    string   `json:"billingGroupName"`
	BillingARN string   `json:"billingGroupArn"`
	Template   string   `json:"templateName"`
	Authorizer string   `json:"authorizerName"`
	Tagged     string   `json:"resourceArn"`
	Principal  string   `json:"principal"`
	Target     string   `json:"target"`
	Index      string   `json:"indexName"`
}

// A name is what a request is about: a name or an ARN, "" for none, and the kinds
// that it may be of.
type name struct {
	text  string
	kinds []string
}

func named(kind, text string) name { return name{text, []string{kind}} }

// What has a name and an ARN is found by the name, or else the ARN: see eitherName.
func (b *body) thing() name   { return named("thing", cmp.Or(b.Thing, b.ThingARN)) }
func (b *body) group() name   { return named("thinggroup", cmp.Or(b.Group, b.GroupARN)) }
func (b *body) billing() name { return named("billinggroup", cmp.Or(b.Billing, b.BillingARN)) }

func thingAndGroup(b *body, _ *wire.Request) []name   { return []name{b.thing(), b.group()} }
func thingAndBilling(b *body, _ *wire.Request) []name { return []name{b.thing(), b.billing()} }

func thingAndGroups(b *body, _ *wire.Request) []name {
	all := []name{b.thing()}
	for _, list := range [][]string{b.Add, b.Remove} {
		for _, g := range list {
			all = append(all, named("thinggroup", g))
		}
	}
	return all
}

func policyTarget(b *body, _ *wire.Request) []name {
	return []name{{b.Target, []string{"cert", "thinggroup"}}}
}

func taggedBody(b *body, _ *wire.Request) []name { return []name{{b.Tagged, taggedKinds}} }

func taggedQuery(_ *body, r *wire.Request) []name {
	return []name{{r.Query.Get("resourceArn"), taggedKinds}}
}

func principalOf(header string) func(*body, *wire.Request) []name {
	return func(_ *body, r *wire.Request) []name { return []name{named("cert", r.Header.Get(header))} }
}

func principalInBody(b *body, r *wire.Request) []name {
	return []name{named("cert", b.Principal), named("thing", r.Query.Get("thingName"))}
}

func authorizerInBody(b *body, _ *wire.Request) []name {
	return []name{named("authorizer", b.Authorizer)}
}

func billingInBody(b *body, _ *wire.Request) []name { return []name{b.billing()} }

func templateInBody(b *body, _ *wire.Request) []name {
	return []name{named("provisioningtemplate", b.Template)}
}

func targetInPath(_ *body, r *wire.Request) []name {
	return policyTarget(&body{Target: r.Path("target")}, r)
}

func fleetIndex(b *body, _ *wire.Request) []name {
	return []name{named("index", cmp.Or(b.Index, index.Things))}
}

// beside names what operations are about that their paths do not name, or not all
// of it.
var beside = map[string]func(*body, *wire.Request) []name{
	"AddThingToBillingGroup":      thingAndBilling,
	"AddThingToThingGroup":        thingAndGroup,
	"AttachPolicy":                policyTarget,
	"AttachPrincipalPolicy":       principalOf("x-amzn-iot-principal"),
	"AttachThingPrincipal":        principalOf("x-amzn-principal"),
	"CreateProvisioningTemplate":  templateInBody,
	"CreateThing":                 billingInBody,
	"DetachPolicy":                policyTarget,
	"DetachPrincipalPolicy":       principalOf("x-amzn-iot-principal"),
	"DetachThingPrincipal":        principalOf("x-amzn-principal"),
	"GetBucketsAggregation":       fleetIndex,
	"GetCardinality":              fleetIndex,
	"GetEffectivePolicies":        principalInBody,
	"GetPercentiles":              fleetIndex,
	"GetStatistics":               fleetIndex,
	"ListAttachedPolicies":        targetInPath,
	"ListPrincipalThings":         principalOf("x-amzn-principal"),
	"ListTagsForResource":         taggedQuery,
	"RemoveThingFromBillingGroup": thingAndBilling,
	"RemoveThingFromThingGroup":   thingAndGroup,
	"SearchIndex":                 fleetIndex,
	"SetDefaultAuthorizer":        authorizerInBody,
	"TagResource":                 taggedBody,
	"TestAuthorization":           principalInBody,
	"UntagResource":               taggedBody,
	"UpdateThingGroupsForThing":   thingAndGroups,
}

// resources finds the ARNs of what a row's requests are about: the first that the
// path names, and what stands elsewhere; "*" if there is none. What is no name of
// such a resource is left out: the operation refuses it.
func resources(account string, row operation) func(*wire.Request) []string {
	inPath, kind := "", ""
	for segment := range strings.SplitSeq(row.path, "/") {
		name, free := strings.CutPrefix(segment, ":")
		if k := kinds[name]; free && k != "" && kind == "" && !elsewhere[row.name] {
			inPath, kind = name, k
		}
	}
	more := beside[row.name]
	return func(r *wire.Request) (all []string) {
		if kind != "" {
			all = append(all, arnOf(r, account, kind, r.Path(inPath)))
		}
		if more != nil {
			var b body
			_ = json.Unmarshal(r.Body, &b) // what it has all the same; the operation reads it again
			for _, n := range more(&b, r) {
				if n.text == "" {
					continue
				}
				if kind, name, err := nameOf(n.text, n.kinds...); err == nil {
					all = append(all, arnOf(r, account, kind, name))
				}
			}
		}
		if len(all) == 0 {
			return []string{"*"}
		}
		return all
	}
}

func arnOf(r *wire.Request, account, kind, name string) string {
	return arn.IoT(r.Region, account, kind+"/"+name)
}
