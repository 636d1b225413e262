package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// until runs a command again and again until it prints want: the fleet index
// follows what it indexes within milliseconds, and a command line takes longer.
func (s *awsShell) until(want string, args ...string) string {
	s.f.t.Helper()
	ctx, cancel := context.WithTimeout(s.f.ctx, patience)
	defer cancel()
	for {
		out, err := s.run(args...)
		if err == nil && strings.Contains(out, want) {
			return out
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			s.f.t.Fatalf("aws %s %s: %v, want %q in %s", s.service, args[0], err, want, out)
		}
	}
}

// TestAWSCLISearch has AWS's command line find things by what the registry,
// shadows and connections say of them, and makes groups of what it finds. With
// -v it prints the transcript.
func TestAWSCLISearch(t *testing.T) {
	need(t, "aws", "awscli")
	f := newBridge(t, "", nil)
	shell := &awsShell{f: f, service: "iot"}
	options := filepath.Join(f.dir, "aws-config") // as in TestAWSCLIData
	f.must(os.WriteFile(options, []byte("[default]\ncli_binary_format = raw-in-base64-out\n"), 0o600))
	data := &awsShell{f: f, service: "iot-data", env: []string{"AWS_CONFIG_FILE=" + options}}
	shadow := func(thing, doc string, more ...string) {
		t.Helper()
		data.says("", append(append([]string{"update-thing-shadow", "--thing-name", thing, "--payload", doc}, more...),
			filepath.Join(f.dir, "shadow"))...)
	}
	search := func(query, want string) {
		t.Helper()
		shell.until(want, "search-index", "--query-string", query, "--query", "things[].thingName")
	}

	// Off at first, as at AWS.
	shell.says(`"thingIndexingMode":"OFF"`, "get-indexing-configuration")
	shell.fails("ResourceNotFoundException", "search-index", "--query-string", "*")
	shell.fails("InvalidRequestException", "create-dynamic-thing-group", "--thing-group-name", "hot", "--query-string",
		"shadow.reported.temp>60")
	shell.fails("InvalidRequestException", "update-indexing-configuration", "--thing-indexing-configuration",
		"thingIndexingMode=OFF,thingConnectivityIndexingMode=STATUS")

	shell.says("", "create-thing-type", "--thing-type-name", "press")
	shell.says("", "create-thing", "--thing-name", "press-1", "--thing-type-name", "press", "--attribute-payload",
		`{"attributes":{"hall":"3","fw":"1.10"}}`)
	shell.says("", "create-thing", "--thing-name", "press-2", "--thing-type-name", "press", "--attribute-payload",
		`{"attributes":{"hall":"4","fw":"1.9"}}`)
	shadow("press-1", `{"state":{"reported":{"temp":61,"place":"North Hall","tags":["a","b"]},"desired":{"temp":50}}}`)
	shadow("press-2", `{"state":{"reported":{"temp":20}}}`)
	shadow("press-2", `{"state":{"reported":{"version":"2.1"}}}`, "--shadow-name", "app")

	shell.says("", "update-indexing-configuration", "--thing-indexing-configuration",
		"thingIndexingMode=REGISTRY_AND_SHADOW,thingConnectivityIndexingMode=STATUS,namedShadowIndexingMode=ON,"+
			"filter={namedShadowNames=[app]},"+
			"customFields=[{name=attributes.fw,type=String},{name=shadow.reported.temp,type=Number}]",
		"--thing-group-indexing-configuration", "thingGroupIndexingMode=ON")
	shell.says(`"name":"shadow.hasDelta"`, "get-indexing-configuration")
	shell.until(`{"indexName":"AWS_Things","indexStatus":"ACTIVE","schema":"MULTI_INDEXING_MODE"}`, "describe-index",
		"--index-name", "AWS_Things")
	shell.says(`["AWS_ThingGroups","AWS_Things"]`, "list-indices", "--query", "indexNames")
	shell.fails("ResourceNotFoundException", "describe-index", "--index-name", "Others")

	search("*", `["press-1","press-2"]`)
	search("thingTypeName:press AND attributes.hall:[4 TO 5]", `["press-2"]`)
	search("attributes.fw:1.1*", `["press-1"]`)
	search("shadow.reported.temp>60 shadow.hasDelta:true", `["press-1"]`)
	search(`shadow.reported.place:"north hall" AND shadow.reported.tags:b`, `["press-1"]`)
	search("shadow.name.app.reported.version:2.1", `["press-2"]`)
	search("NOT attributes.hall:3", `["press-2"]`)
	search("connectivity.connected:true", `[]`)
	shell.fails("InvalidQueryException", "search-index", "--query-string", "thingName:(press-1")
	shell.fails("InvalidRequestException", "search-index", "--query-string", "*", "--query-version", "2011-01-01")
	full := shell.says(`"thingGroupNames":null`, "search-index", "--query-string", "thingName:press-1", "--query",
		"things[0].{thingGroupNames:thingGroupNames,type:thingTypeName,attributes:attributes,shadow:shadow,connectivity:connectivity}")
	for _, want := range []string{`"type":"press"`, `"hall":"3"`, `\"hasDelta\":true`,
		`"connectivity":{"connected":false}`} {
		if !strings.Contains(full, want) {
			t.Errorf("no %s in %s", want, full)
		}
	}
	var page struct{ NextToken string }
	f.must(json.Unmarshal([]byte(shell.says(`"thingName":"press-1"`, "search-index", "--query-string", "*",
		"--max-results", "1")), &page))
	shell.says(`{"n":["press-2"],"t":null}`, "search-index", "--query-string", "*", "--max-results", "1",
		"--next-token", page.NextToken,
		"--query", "{n:things[].thingName, t:nextToken}")

	shell.says(`"average":40.5`, "get-statistics", "--query-string", "*", "--aggregation-field", "shadow.reported.temp")
	shell.says(`{"statistics":{"count":2}}`, "get-statistics", "--query-string", "*", "--aggregation-field",
		"attributes.fw")
	shell.says(`{"cardinality":1}`, "get-cardinality", "--query-string", "*", "--aggregation-field",
		"registry.thingTypeName")
	shell.says(`{"percent":50.0,"value":40.5}`, "get-percentiles", "--query-string", "*", "--aggregation-field",
		"shadow.reported.temp", "--percents", "50")
	shell.fails("InvalidAggregationException", "get-percentiles", "--query-string", "*", "--aggregation-field",
		"attributes.fw")
	shell.says(`{"totalCount":2,"buckets":[{"keyValue":"1.10","count":1},{"keyValue":"1.9","count":1}]}`,
		"get-buckets-aggregation", "--query-string", "*",
		"--aggregation-field", "attributes.fw", "--buckets-aggregation-type", "termsAggregation={maxBuckets=5}")

	// Standing queries.
	op := f.newOperator()
	shell.says("", "update-event-configurations", "--event-configurations",
		`{"THING_GROUP_MEMBERSHIP":{"Enabled":true}}`)
	watcher := f.subscriber(op, "watcher", "$aws/events/thingGroupMembership/#")
	membership := func(topic string) {
		t.Helper()
		watcher.next(f.ctx, topic, func(m mqtt.Message) bool {
			return m.Topic() == "$aws/events/thingGroupMembership/"+topic
		})
	}
	shell.says(`"queryString":"shadow.reported.temp>60"`, "create-dynamic-thing-group", "--thing-group-name", "hot",
		"--query-string", "shadow.reported.temp>60", "--thing-group-properties", "thingGroupDescription=cool them")
	membership("thingGroup/hot/thing/press-1/added")
	shell.until(`"status":"ACTIVE"`, "describe-thing-group", "--thing-group-name", "hot")
	shell.says(`{"things":["press-1"]}`, "list-things-in-thing-group", "--thing-group-name", "hot")
	shell.says(`"groupName":"hot"`, "list-thing-groups-for-thing", "--thing-name", "press-1")
	shadow("press-2", `{"state":{"reported":{"temp":75}}}`)
	membership("thingGroup/hot/thing/press-2/added")
	shell.says(`{"things":["press-1","press-2"]}`, "list-things-in-thing-group", "--thing-group-name", "hot")
	shell.says(`"version":2`, "update-dynamic-thing-group", "--thing-group-name", "hot", "--expected-version", "1",
		"--query-string", "shadow.reported.temp>70", "--thing-group-properties", "thingGroupDescription=cool them now")
	membership("thingGroup/hot/thing/press-1/removed")
	shell.fails("VersionConflictException", "update-dynamic-thing-group", "--thing-group-name", "hot",
		"--expected-version", "1", "--thing-group-properties", "{}")
	shell.fails("InvalidQueryException", "update-dynamic-thing-group", "--thing-group-name", "hot", "--query-string",
		"a:[1", "--thing-group-properties", "{}")
	shell.fails("InvalidRequestException", "add-thing-to-thing-group", "--thing-group-name", "hot", "--thing-name",
		"press-1")
	shell.fails("InvalidRequestException", "update-indexing-configuration", "--thing-indexing-configuration",
		"thingIndexingMode=OFF")
	shell.until(`"thingGroupName":"hot"`, "search-index", "--index-name", "AWS_ThingGroups", "--query-string",
		"description:cool")

	// Devices come and go.
	device := op
	device.id = "press-2"
	c := f.connect(device)
	search("connectivity.connected:true shadow.reported.temp>70", `["press-2"]`)
	shell.says(`"connected":true`, "get-thing-connectivity-data", "--thing-name", "press-2")
	c.Disconnect(1000) // ms for its DISCONNECT to be sent
	search("connectivity.disconnectReason:CLIENT_INITIATED_DISCONNECT", `["press-2"]`)

	t.Log("# kill -9, and start again")
	f.bridge.Kill()
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	search("shadow.reported.temp>70", `["press-2"]`)
	shell.until(`{"things":["press-2"]}`, "list-things-in-thing-group", "--thing-group-name", "hot")

	shell.says("", "delete-thing", "--thing-name", "press-2")
	search("*", `["operator","press-1"]`)
	shell.says("", "delete-dynamic-thing-group", "--thing-group-name", "hot")
	shell.says("", "update-indexing-configuration", "--thing-indexing-configuration", "thingIndexingMode=OFF")
	shell.says(`["AWS_ThingGroups"]`, "list-indices", "--query", "indexNames")
}
