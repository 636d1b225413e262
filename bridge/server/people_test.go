package server

import (
	"cmp"
	"crypto/tls"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/serving/aws/lambda"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

var update = flag.Bool("update", false, "write ROLES.md anew")

// user makes a user with a role, and a key.
func (b *bridge) user(name, role string) sigv4test.Key {
	b.t.Helper()
	b.must("POST", "/v1/users", `{"name":"`+name+`","roles":["`+role+`"]}`, nil)
	return b.userKey(name, "")
}

// userKey makes a key of a user, narrowed by a policy document if that is not "".
func (b *bridge) userKey(name, policy string) sigv4test.Key {
	b.t.Helper()
	in := `{"user":"` + name + `"`
	if policy != "" {
		in += `,"policies":{"p":` + policy + `}`
	}
	var k admin.CreatedKey
	b.must("POST", "/v1/access-keys", in+"}", &k)
	return sigv4test.Key{ID: k.ID, Secret: k.Secret}
}

// may says whether a request of a service was let in.
func (b *bridge) may(k sigv4test.Key, service, method, path, body string, headers ...string) bool {
	b.t.Helper()
	if service == "kinesis" {
		resp, text, err := b.askAs(k, speaking(true, false, false), "https", method, body)
		if err != nil {
			b.t.Fatal(err)
		}
		return resp.StatusCode == 200 || !strings.Contains(text, "AccessDenied") &&
			!strings.Contains(text, "UnrecognizedClient")
	}
	status, _, _ := b.requester(service, nil).as(k, method, path, body, headers...)
	return status != 403
}

// What each role may do, by requests to the services.
func TestRoles(t *testing.T) {
	b := start(t, configure(t))
	keys := map[string]sigv4test.Key{}
	for _, role := range people.Roles {
		keys[role] = b.user("a-"+role, role)
	}
	const target = `{"target":"arn:aws:iot:eu-local-1:000000000000:thinggroup/g"}`
	const every = "admin operator viewer device-data"
	for _, c := range []struct{ service, method, path, body, roles string }{
		{"iot", "POST", "/things/t", "", "admin operator"},
		{"iot", "GET", "/things/t", "", "admin operator viewer"},
		{"iot", "GET", "/things", "", "admin operator viewer"},
		{"iot", "GET", "/endpoint", "", "admin operator viewer"},
		{"iot", "POST", "/thing-groups/g", "", "admin operator"},
		{"iot", "PUT", "/thing-groups/addThingToThingGroup", `{"thingName":"t","thingGroupName":"g"}`, "admin operator"},
		{"iot", "POST", "/policies/p", `{"policyDocument":"{}"}`, "admin"},
		{"iot", "PUT", "/target-policies/p", target, "admin"},
		{"iot", "GET", "/policies", "", "admin operator viewer"},
		{"iot", "POST", "/keys-and-certificate", "", "admin operator"},
		{"iot", "POST", "/cacertificate", "{}", "admin"},
		{"iot", "POST", "/authorizer/a", "{}", "admin"},
		{"iot", "POST", "/role-aliases/r", "{}", "admin"},
		{"iot", "POST", "/provisioning-templates/t/provisioning-claim", "", "admin"},
		{"iot", "POST", "/things", `{"templateBody":"{}"}`, "admin"},
		{"iot", "POST", "/rules/r", `{"sql":"SELECT * FROM 'a'","actions":[]}`, "admin operator"},
		{"iotdata", "POST", "/topics/a", "x", "admin operator device-data"},
		{"iotdata", "POST", "/topics/a?retain=true", "x", "admin operator device-data"},
		{"iotdata", "POST", "/things/t/shadow", `{"state":{"desired":{"a":1}}}`, "admin operator device-data"},
		{"iotdata", "GET", "/things/t/shadow", "", every},
		{"iotdata", "GET", "/retainedMessage", "", every},
		{"kinesis", "CreateStream", "", `{"StreamName":"s","ShardCount":1}`, "admin operator"},
		{"kinesis", "ListStreams", "", "{}", every},
		{"kinesis", "PutRecord", "", `{"StreamName":"s","Data":"eA==","PartitionKey":"k"}`, "admin operator device-data"},
		{"kinesis", "GetShardIterator", "",
			`{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"LATEST"}`, every},
		{"kinesis", "DeleteStream", "", `{"StreamName":"none"}`, "admin operator"},
		{"kinesis", "PutResourcePolicy", "", `{"ResourceARN":"arn:aws:kinesis:eu-local-1:000000000000:stream/s",` +
			`"Policy":"{}"}`, "admin"},
	} {
		for _, role := range people.Roles {
			want := slices.Contains(strings.Fields(c.roles), role)
			if got := b.may(keys[role], c.service, c.method, c.path, c.body); got != want {
				t.Errorf("%s: %s %s %s: %v, want %v", role, c.service, c.method, c.path, got, want)
			}
		}
	}
	want(t, b, keys["admin"], "user a-admin")
}

// An action that does not exist is refused by every API that takes a policy, with the
// nearest name.
func TestPoliciesNameActions(t *testing.T) {
	b := start(t, configure(t))
	const doc = `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"iot:DeleteThng","Resource":"*"}}`
	in := strconv.Quote(doc)
	body := strconv.Quote(`{"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"x"}},` +
		`"p":{"Type":"AWS::IoT::Policy","Properties":{"PolicyDocument":` + in + `}}}}`)
	b.user("alice", people.Viewer)
	b.must("PUT", "/v1/policies/good", `{"Statement":{"Effect":"Allow","Action":"iot:Publish","Resource":"*"}}`, nil)
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/v1/policies/p", doc},
		{"PUT", "/v1/policies/good", doc},
		{"POST", "/v1/users", `{"name":"bob","policies":{"p":` + doc + `}}`},
		{"PUT", "/v1/users/alice", `{"policies":{"p":` + doc + `}}`},
		{"POST", "/v1/access-keys", `{"user":"alice","policies":{"p":` + doc + `}}`},
	} {
		if code, text := b.do(c.method, c.path, c.body); code != 400 || !strings.Contains(text, "iot:DeleteThing") {
			t.Errorf("%s %s: %d %s", c.method, c.path, code, text)
		}
	}
	for _, c := range []struct{ path, body string }{
		{"/policies/p", `{"policyDocument":` + in + `}`},
		{"/policies/good/version", `{"policyDocument":` + in + `}`},
		{"/provisioning-templates", `{"templateName":"t","provisioningRoleArn":"arn:aws:iam::000000000000:role/r",` +
			`"templateBody":` + body + `}`},
		{"/things", `{"templateBody":` + body + `}`},
	} {
		if code, _, text := b.requester("iot", nil).as(b.key(), "POST", c.path, c.body); code != 400 ||
			!strings.Contains(text, "iot:DeleteThing") {
			t.Errorf("%s: %d %s", c.path, code, text)
		}
	}
}

// want looks for the last record of a change by a key, and who it says made it.
func want(t *testing.T, b *bridge, k sigv4test.Key, who string) {
	t.Helper()
	if !b.may(k, "iot", "POST", "/things/audited", "") {
		t.Fatal("not let in")
	}
	for _, r := range b.audited(t) {
		if r.Action == "CreateThing" && strings.Contains(r.Target, "audited") {
			if !strings.Contains(r.Who, who) {
				t.Errorf("%q made it, want %q", r.Who, who)
			}
			return
		}
	}
	t.Error("no record")
}

// Policies of a user name resources of any service, conditions the address, and a
// key of the user may be narrower.
func TestPoliciesOfPeople(t *testing.T) {
	b := start(t, configure(t))
	const arn = "arn:aws:"
	b.must("POST", "/v1/users", `{"name":"alice","policies":{"p":{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["kinesis:*","iot:*"],"Resource":"*"},
		{"Effect":"Deny","Action":"kinesis:*","Resource":"`+arn+`kinesis:*:*:stream/secret"},
		{"Effect":"Deny","Action":"iot:*","Resource":["`+arn+`iot:*:*:thing/secret","`+arn+`iot:*:*:thinggroup/vault"]},
		{"Effect":"Deny","Action":"iot:DeleteThing","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}}
		]}}}`, nil)
	alice := b.userKey("alice", "")
	narrow := b.userKey("alice", `{"Statement":{"Effect":"Allow","Action":"kinesis:PutRecord","Resource":"`+arn+
		`kinesis:*:*:stream/open"}}`)
	put := func(stream string) string { return `{"StreamName":"` + stream + `","Data":"eA==","PartitionKey":"k"}` }
	for _, c := range []struct {
		key                         sigv4test.Key
		service, method, path, body string
		want                        bool
	}{
		{alice, "kinesis", "PutRecord", "", put("open"), true},
		{alice, "kinesis", "PutRecord", "", put("secret"), false},
		{alice, "iot", "POST", "/things/open", "", true},
		{alice, "iot", "POST", "/things/secret", "", false},
		{alice, "iot", "PUT", "/thing-groups/addThingToThingGroup", `{"thingName":"open","thingGroupName":"g"}`, true},
		{alice, "iot", "PUT", "/thing-groups/addThingToThingGroup", `{"thingName":"secret","thingGroupName":"g"}`,
			false},
		{alice, "iot", "PUT", "/thing-groups/addThingToThingGroup", `{"THINGNAME":"open","thinggroupname":"vault"}`,
			false},
		{alice, "iot", "PUT", "/target-policies/p", `{"target":"` + arn + `iot:eu-local-1:000000000000:thinggroup/vault"}`,
			false},
		{alice, "iot", "DELETE", "/things/open", "", false},
		{alice, "iotdata", "GET", "/things/secret/shadow", "", false},
		{narrow, "kinesis", "PutRecord", "", put("open"), true},
		{narrow, "kinesis", "PutRecord", "", put("other"), false},
		{narrow, "kinesis", "ListStreams", "", "{}", false},
		{narrow, "iot", "GET", "/things", "", false},
	} {
		if got := b.may(c.key, c.service, c.method, c.path, c.body); got != c.want {
			t.Errorf("%s %s %s %s: %v", c.service, c.method, c.path, c.body, got)
		}
	}
	if code, _, text := b.requester("iot", nil).as(alice, "POST", "/things/secret", ""); code != 403 ||
		!strings.Contains(text, "User: alice is not authorized to perform: iot:CreateThing on resource: "+arn+
			"iot:eu-local-1:000000000000:thing/secret") {
		t.Error(code, text)
	}
	b.noSecrets(t, alice.Secret, narrow.Secret)
}

// What a revoked, narrowed or rotated key was let into ends with that: the next
// request, on a connection that was kept too, and MQTT over WebSocket.
func TestKeysOfPeopleEnd(t *testing.T) {
	b := start(t, configure(t))
	for _, c := range []struct {
		name string
		end  func(user, key string)
	}{
		{"the key is revoked", func(_, key string) { b.must("DELETE", "/v1/access-keys/"+key, "", nil) }},
		{"the key is inactive", func(_, key string) {
			b.must("POST", "/v1/access-keys/"+key, `{"status":"INACTIVE"}`, nil)
		}},
		{"the user is revoked", func(user, _ string) { b.must("DELETE", "/v1/users/"+user, "", nil) }},
		{"the role is taken away", func(user, _ string) { b.must("PUT", "/v1/users/"+user, `{"roles":[]}`, nil) }},
		{"the key is rotated", func(_, key string) {
			b.must("POST", "/v1/access-keys/"+key+"/rotate", `{"after_ns":0}`, nil)
		}},
		{"the key ends in a second", func(_, key string) {
			b.must("POST", "/v1/access-keys/"+key+"/rotate", `{"after_ns":1000000000}`, nil)
			b.eventually("its time is over", func() bool { return b.people.Key(key) == nil })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			user := strings.ReplaceAll(c.name, " ", "-")
			k := b.user(user, people.Admin)
			kept := b.requester("iot", nil) // one connection, over HTTP/2
			ask := func() int { code, _, _ := kept.as(k, "GET", "/things", ""); return code }
			url, h := b.signedAs(k, sigv4test.Python1, time.Now())
			d := b.over(url, h, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}, user)
			d.ok(d.Connect())
			if got := ask(); got != 200 {
				t.Fatal(got)
			}
			c.end(user, k.ID)
			if got := ask(); got != 403 {
				t.Errorf("the next request: %d", got)
			}
			d.ends()
			url, h = b.signedAs(k, sigv4test.Python1, time.Now())
			d = b.over(url, h, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}, user)
			if d.wait(d.Connect()) == nil {
				t.Error("connected again")
			}
		})
	}
}

// Who may publish is not one who may make devices: what a role may not do by the API
// it may not ask for by MQTT.
func TestRolesProvision(t *testing.T) {
	b := start(t, configure(t))
	certificates := func() int {
		var all []struct{}
		b.must("GET", "/v1/certificates", "", &all)
		return len(all)
	}
	for role, makes := range map[string]int{people.DeviceData: 0, people.Admin: 1} {
		url, h := b.signedAs(b.user("u-"+role, role), sigv4test.Python1, time.Now())
		d := b.over(url, h, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}, "c-"+role)
		d.ok(d.Connect())
		before := certificates()
		tok := d.Publish("$aws/certificates/create/json", 1, false, "{}")
		if makes == 0 {
			d.ends()
		} else {
			d.ok(tok)
			b.eventually("the certificate", func() bool { return certificates() == before+1 })
		}
		if got := certificates() - before; got != makes {
			t.Errorf("%s made %d certificates", role, got)
		}
	}
}

// TestRolesPage keeps ROLES.md what the roles' policies say of the actions of all
// APIs; -update writes it anew.
func TestRolesPage(t *testing.T) {
	cfg := configure(t)
	cfg.Lambda.Enabled = true // its operations are there then
	b := idle(t, cfg)
	known := map[string]bool{authz.Connect: true, authz.Subscribe: true, authz.Receive: true, authz.RetainPublish: true}
	for _, a := range b.Server.aws.Actions() {
		known[a] = true
	}
	for _, op := range lambda.Service(lambda.Options{}).Operations { // switched off here
		known["lambda:"+cmp.Or(op.Action, op.Name)] = true
	}
	for _, a := range admin.Actions() {
		known[a] = true
	}
	var page strings.Builder
	page.WriteString("# What roles may do\n\nMade from the tables of operations and the policies in `roles/`: " +
		"`go test ./bridge/server -run TestRolesPage -update`.\nThe role `admin` may do all. Actions of `tidemill:` are " +
		"those of the admin socket.\n\n| action | operator | viewer | device-data |\n|---|---|---|---|\n")
	for _, a := range slices.Sorted(maps.Keys(known)) {
		fmt.Fprintf(&page, "| `%s` |", a)
		for _, role := range people.Roles {
			r, err := people.RightsOf([]string{role})
			if err != nil {
				t.Fatal(err)
			}
			some, all := r.Scope(a, authz.Context{})
			if some != all || role == people.Admin && !all {
				t.Errorf("%s: %s: %v %v", role, a, some, all)
			}
			if role != people.Admin {
				page.WriteString(map[bool]string{true: " yes |", false: " |"}[all])
			}
		}
		page.WriteString("\n")
	}
	const file = "../control/people/ROLES.md"
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != page.String() {
		t.Errorf("%s is not what the roles say (%v): go test ./bridge/server -run TestRolesPage -update", file, err)
	}
	keepActions(t, known)
	// No role names an action that there is not: a slip of the pen would be a hole.
	for _, role := range people.Roles {
		doc, err := people.RolePolicy(role)
		if err == nil {
			_, err = authz.ParseNew(doc)
		}
		if err != nil {
			t.Errorf("role %s: %v", role, err)
		}
	}
}

// keepActions looks that authz's list of actions has all that are known, and of
// tidemill: no others; -update writes it anew.
func keepActions(t *testing.T, known map[string]bool) {
	t.Helper()
	const file, unlisted = "../control/authz/actions.txt", "tidemill:Unlisted"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := maps.Clone(known)
	want[unlisted] = true // of commands that no role lists
	for _, a := range strings.Fields(string(text)) {
		if !strings.HasPrefix(a, "tidemill:") {
			want[a] = true
		}
	}
	all := strings.Join(slices.Sorted(maps.Keys(want)), "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(all), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if all != string(text) {
		t.Errorf("%s lacks an action, or has one that is gone: "+
			"go test ./bridge/server -run TestRolesPage -update", file)
	}
}
