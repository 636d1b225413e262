package e2e

import (
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestAWSCLIKinds makes thing types, billing groups, tags and groups with AWS's
// command line, and switches messages about them on.
func TestAWSCLIKinds(t *testing.T) {
	need(t, "aws", "awscli")
	f := sharedBridge(t, "")
	shell := &awsShell{f: f, service: "iot"}
	const arn = "arn:aws:iot:eu-local-1:000000000000:"

	shell.fails("ResourceNotFoundException", "create-thing", "--thing-name", "press-1", "--thing-type-name", "press")
	shell.says(`"thingTypeArn":"`+arn+`thingtype/press"`, "create-thing-type", "--thing-type-name", "press",
		"--thing-type-properties", "thingTypeDescription=presses,searchableAttributes=hall", "--tags",
		"Key=team,Value=metal")
	shell.says(`"billingGroupArn":"`+arn+`billinggroup/north"`, "create-billing-group", "--billing-group-name", "north")
	shell.says("press-1", "create-thing", "--thing-name", "press-1", "--thing-type-name", "press",
		"--billing-group-name", "north")
	shell.says(`"thingTypeName":"press"`, "describe-thing", "--thing-name", "press-1", "--query",
		"{thingTypeName:thingTypeName, b:billingGroupName}")
	shell.says(`"things":["press-1"]`, "list-things-in-billing-group", "--billing-group-name", "north")
	shell.fails("InvalidRequestException", "delete-billing-group", "--billing-group-name", "north")
	shell.says("", "remove-thing-from-billing-group", "--billing-group-name", "north", "--thing-name", "press-1")
	shell.says("", "delete-billing-group", "--billing-group-name", "north")

	shell.says("", "deprecate-thing-type", "--thing-type-name", "press")
	shell.says(`"deprecated":true`, "describe-thing-type", "--thing-type-name", "press")
	shell.fails("InvalidRequestException", "create-thing", "--thing-name", "press-2", "--thing-type-name", "press")
	shell.fails("InvalidRequestException", "delete-thing-type", "--thing-type-name", "press") // not for five minutes
	shell.says("", "deprecate-thing-type", "--thing-type-name", "press", "--undo-deprecate")
	shell.says(`"thingTypeName":"press"`, "list-thing-types")

	shell.says(`"Value":"metal"`, "list-tags-for-resource", "--resource-arn", arn+"thingtype/press")
	shell.says("", "tag-resource", "--resource-arn", arn+"thingtype/press", "--tags", "Key=cost,Value=7")
	shell.says("", "untag-resource", "--resource-arn", arn+"thingtype/press", "--tag-keys", "team")
	shell.says(`{"tags":[{"Key":"cost","Value":"7"}]}`, "list-tags-for-resource", "--resource-arn", arn+
		"thingtype/press")

	shell.says("", "update-event-configurations", "--event-configurations", `{"THING":{"Enabled":true}}`)
	shell.says(`"THING":{"Enabled":true}`, "describe-event-configurations")
	watcher := f.subscriber(f.newOperator(), "watcher", "$aws/events/thing/#")
	shell.says("press-3", "create-thing", "--thing-name", "press-3")
	watcher.next(f.ctx, "message about press-3", func(m mqtt.Message) bool {
		return m.Topic() == "$aws/events/thing/press-3/created" &&
			strings.Contains(string(m.Payload()), `"operation":"CREATED"`)
	})

	shell.says("thinggroup/plant", "create-thing-group", "--thing-group-name", "plant",
		"--thing-group-properties", `{"thingGroupDescription":"all","attributePayload":{"attributes":{"site":"x"}}}`)
	shell.says("thinggroup/hall", "create-thing-group", "--thing-group-name", "hall", "--parent-group-name", "plant")
	shell.says("", "update-thing-groups-for-thing", "--thing-name", "press-1", "--thing-groups-to-add", "hall")
	shell.says(`"things":["press-1"]`, "list-things-in-thing-group", "--thing-group-name", "plant", "--recursive")
	shell.says(`"version":2`, "update-thing-group", "--thing-group-name", "plant", "--thing-group-properties",
		"thingGroupDescription=both")
	shell.says(`"site":"x"`, "describe-thing-group", "--thing-group-name", "plant")
	shell.says(`"groupName":"hall"`, "list-thing-groups", "--parent-group", "plant")
}
