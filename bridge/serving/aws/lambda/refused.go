package lambda

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// absent are operations that are not served, which guides and tools call: each is refused by its name,
// with what to do instead.
func absent() []wire.Operation {
	const (
		sources = "/2015-03-31/event-source-mappings"
		layers  = "/2018-10-31/layers"
		tags    = "/2017-03-31/tags/:arn"
		url     = "/2021-10-31/functions/:name/url"

		source = "a rule's action or a delivery stream's processor calls the function instead"
		layer  = "put a layer's files into the package"
		tag    = "tags are given to CreateFunction alone"
		public = "clients call Invoke"
	)
	var ops []wire.Operation
	for _, row := range []struct{ name, method, path, instead string }{
		{"CreateEventSourceMapping", "POST", sources, source},
		{"CreateEventSourceMapping", "POST", sources + "/", source},
		{"ListEventSourceMappings", "GET", sources, source},
		{"ListEventSourceMappings", "GET", sources + "/", source},
		{"PublishLayerVersion", "POST", layers + "/:layer/versions", layer},
		{"ListLayers", "GET", layers, layer},
		{"TagResource", "POST", tags, tag},
		{"ListTags", "GET", tags, tag},
		{"UntagResource", "DELETE", tags, tag},
		{"CreateFunctionUrlConfig", "POST", url, public},
		{"GetFunctionUrlConfig", "GET", url, public},
	} {
		ops = append(ops, wire.Operation{Name: row.name, Method: row.method, Path: row.path, Absent: row.instead})
	}
	return ops
}

// A refusal is a member of CreateFunction and UpdateFunctionConfiguration that asks for
// what the bridge does not do. It is refused rather than ignored: a function that runs
// without what it was given is a surprise that comes later.
type refusal struct {
	member string
	// harmless are the values, in compact JSON, that ask for nothing: AWS's defaults, which tools
	// send, and how what there was is taken away.
	harmless []string
	instead  string // what to do
}

// refusals are all of them (Lambda API reference, CreateFunction).
var refusals = []refusal{
	{"Layers", []string{`[]`}, "layers are not served here: put their files into the package"},
	{"VpcConfig", []string{`{}`, `{"SubnetIds":[],"SecurityGroupIds":[]}`, `{"SecurityGroupIds":[],"SubnetIds":[]}`,
		`{"SubnetIds":[]}`},
		"there is no VPC here: what a function reaches is what lambda.network and egress.allow of the " +
			"configuration say"},
	{"FileSystemConfigs", []string{`[]`}, "file systems are not served here: bring the files in the package, " +
		"or read them as objects"},
	{"ImageConfig", []string{`{}`}, "container images are not served here: send a zip"},
	{"DeadLetterConfig", []string{`{}`, `{"TargetArn":""}`}, "dead letter queues of functions are not served here: " +
		"name the queue as the OnFailure destination (put-function-event-invoke-config)"},
	{"TracingConfig", []string{`{}`, `{"Mode":"PassThrough"}`}, "calls are not traced here: leave it out, " +
		"or say PassThrough"},
	{"EphemeralStorage", []string{`{"Size":512}`}, "/tmp has no size of its own here, it counts as the function's " +
		"memory: leave it out, or raise MemorySize"},
	{"SnapStart", []string{`{}`, `{"ApplyOn":"None"}`}, "processes are not started from snapshots here: leave it out"},
	{"LoggingConfig", []string{`{}`, `{"LogFormat":"Text"}`}, "logs are text, one for each function, and kept here: " +
		"leave it out"},
	{"KMSKeyArn", []string{`""`}, "there are no customer managed keys here: leave it out; files of functions " +
		"can be read by the bridge's user alone"},
	{"CodeSigningConfigArn", []string{`""`}, "signatures of packages are not checked here: leave it out"},
	{"CapacityProviderConfig", nil, "capacity providers are not served here: leave it out"},
	{"DurableConfig", nil, "durable executions are not served here: leave it out"},
	{"TenancyConfig", nil, "tenants are not kept apart here: make a function for each"},
}

// refused returns what is wrong with the first member of a request's body that is
// refused. The body is JSON: decode has read it.
func refused(body []byte) error {
	var in map[string]json.RawMessage
	if len(body) == 0 || json.Unmarshal(body, &in) != nil {
		return nil
	}
	for _, r := range refusals {
		value, ok := in[r.member]
		if !ok {
			continue
		}
		var text bytes.Buffer
		if err := json.Compact(&text, value); err != nil {
			return err
		}
		if s := text.String(); s != "null" && !slices.Contains(r.harmless, s) {
			return invalid("%s: %s", r.member, r.instead)
		}
	}
	return nil
}
