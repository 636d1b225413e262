package authz

import (
	"strings"

	"github.com/tidemill/tidemill/bridge/arn"
)

// ThingPolicyName is the name under which the policy of ThingPolicy is usually
// stored: one policy serves every thing, since it goes by variables.
const ThingPolicyName = "tidemill-thing"

// thingPolicy uses wildcards in the middle of shadow topics so that classic
// and named shadows take one line each. Publishing stops at get, update and
// delete: a device cannot play the service to itself by writing .../accepted.
const thingPolicy = `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "Connect",
      "Effect": "Allow",
      "Action": "iot:Connect",
      "Resource": "@client/$T",
      "Condition": {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}
    },
    {
      "Sid": "Publish",
      "Effect": "Allow",
      "Action": ["iot:Publish", "iot:RetainPublish"],
      "Resource": [
        "@topic/$tidemill/batch",
        "@topic/dt/$T/*",
        "@topic/presence/$T",
        "@topic/presence/$T/*"
      ]
    },
    {
      "Sid": "Shadow",
      "Effect": "Allow",
      "Action": "iot:Publish",
      "Resource": [
        "@topic/$aws/things/$T/shadow/*get",
        "@topic/$aws/things/$T/shadow/*update",
        "@topic/$aws/things/$T/shadow/*delete"
      ]
    },
    {
      "Sid": "Subscribe",
      "Effect": "Allow",
      "Action": "iot:Subscribe",
      "Resource": [
        "@topicfilter/$aws/things/$T/shadow/*",
        "@topicfilter/cmd/$T/*"
      ]
    },
    {
      "Sid": "Receive",
      "Effect": "Allow",
      "Action": "iot:Receive",
      "Resource": [
        "@topic/$aws/things/$T/shadow/*",
        "@topic/cmd/$T/*"
      ]
    }
  ]
}
`

// ThingPolicy returns the policy document of a thing that runs the agent: it
// connects under its own name and only with a certificate attached to the
// thing, publishes its batches, readings (dt/{thing}/...), presence and shadow
// requests, and hears its own shadow and commands (cmd/{thing}/...). The
// document is the same for every thing of an account and region.
func ThingPolicy(account, region string) []byte {
	return []byte(strings.NewReplacer(
		"@", arn.IoT(region, account, ""),
		"$T", "${iot:Connection.Thing.ThingName}",
	).Replace(thingPolicy))
}
