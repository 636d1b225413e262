package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/provision"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/deploy/rig"
)

// steps are where a device is killed, in order; those of rotation besides.
var (
	provisionSteps = []string{"key", "certificate answered", "certificate", "outcome answered", "outcome", "tried",
		"written", "taken up"}
	rotationSteps = append(append([]string{}, provisionSteps...), "retired")
)

const provisioningTemplate = `{
"Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
"Resources": {
  "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["", ["press-", {"Ref": "SerialNumber"}]]},
            "AttributePayload": {"serial": {"Ref": "SerialNumber"}}, "ThingTypeName": "press", "ThingGroups": ["hall"]}},
  "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
  "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "press"}}},
"DeviceConfiguration": {"site": "north"}}`

// A device that is to be provisioned, or was.
type provisioned struct {
	f      *fleet
	serial string
	dir    string // of its configuration; data is below
	config string
}

// newProvisioning makes with AWS's command line what a fleet needs that is
// provisioned by claim, and returns how to make a device of it.
func (f *fleet) newProvisioning(t *testing.T) func(serial string) *provisioned {
	shell := &awsShell{f: f, service: "iot"}
	const arn = "arn:aws:iot:eu-local-1:000000000000:"
	var claim struct {
		CertificateArn, CertificatePem string
		KeyPair                        struct{ PrivateKey string }
	}
	f.must(json.Unmarshal([]byte(shell.says("certificateArn", "create-keys-and-certificate", "--set-as-active")),
		&claim))
	topics := func(kind string) string {
		return `["` + arn + kind + `/$aws/certificates/create-from-csr/*","` + arn + kind +
			`/$aws/provisioning-templates/fleet/provision/*"`
	}
	shell.says("", "create-policy", "--policy-name", "claim", "--policy-document",
		`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"*"},
		{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":`+topics("topic")+`]},
		{"Effect":"Allow","Action":"iot:Subscribe","Resource":`+topics("topicfilter")+`]}]}`)
	shell.says("", "attach-policy", "--policy-name", "claim", "--target", claim.CertificateArn)
	const own = `${iot:Connection.Thing.ThingName}`
	shell.says("", "create-policy", "--policy-name", "press", "--policy-document",
		`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"`+arn+`client/`+own+`"},
		{"Effect":"Allow","Action":["iot:Publish","iot:Receive","iot:RetainPublish"],"Resource":`+topics("topic")+
			`,"`+arn+`topic/$tidemill/*","`+arn+`topic/dt/`+own+`/*","`+arn+`topic/presence/`+own+`","`+arn+`topic/$aws/things/`+own+`/*"]},
		{"Effect":"Allow","Action":"iot:Subscribe","Resource":`+topics("topicfilter")+
			`,"`+arn+`topicfilter/$tidemill/*","`+arn+`topicfilter/$aws/things/`+own+`/*"]}]}`)
	shell.says("", "create-thing-type", "--thing-type-name", "press")
	shell.says("", "create-thing-group", "--thing-group-name", "hall")
	shell.says(`"templateName":"fleet"`, "create-provisioning-template", "--template-name", "fleet", "--enabled",
		"--provisioning-role-arn", "arn:aws:iam::000000000000:role/provisioning", "--template-body",
		provisioningTemplate)
	shell.says(`"enabled":true`, "describe-provisioning-template", "--template-name", "fleet")
	return func(serial string) *provisioned {
		d := &provisioned{f: f, serial: serial, dir: filepath.Join(f.dir, "device-"+serial)}
		f.must(os.MkdirAll(d.dir, 0o700))
		d.config = filepath.Join(d.dir, "agent.toml")
		f.must(copyFile(filepath.Join(f.bridge.Dir, "pki", "ca.pem"), filepath.Join(d.dir, "ca.pem")))
		for name, text := range map[string]string{"claim.pem": claim.CertificatePem,
			"claim.key": claim.KeyPair.PrivateKey, "agent.toml": fmt.Sprintf(`
data_dir = "data"
log.format = "text"
[uplink]
endpoint = %q
ca = "ca.pem"
backoff_min = "50ms"
backoff_max = "500ms"
[provision]
template = "fleet"
claim_cert = "claim.pem"
claim_key = "claim.key"
[provision.parameters]
SerialNumber = %q
[board]
kind = "sim"
[spool]
flush_every = "200ms"
[[sensor]]
name = "climate"
driver = "bme280"
every = "200ms"
[sensor.options]
bus = "/dev/i2c-1"
address = 0x76
`, f.bridge.MQTT, serial)} {
			f.must(os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600))
		}
		return d
	}
}

// command runs `tidemill-agent ARGS` to its end.
func (d *provisioned) command(ctx context.Context, args ...string) (string, error) {
	d.f.t.Helper()
	bin, err := buildOnce()
	d.f.must(err)
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, bin.Agent, append(args, "-config", d.config)...).CombinedOutput()
	return string(out), err
}

// killedAt does what the command does until the step is done, and there ends
// with kill -9.
func (d *provisioned) killedAt(what, step string) {
	d.f.t.Helper()
	ctx, cancel := context.WithTimeout(d.f.ctx, 3*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestProvisionChild$")
	cmd.Env = append(os.Environ(), "TIDEMILL_CHILD="+what, "TIDEMILL_STEP="+step, "TIDEMILL_DIR="+d.dir,
		"TIDEMILL_SERIAL="+d.serial, "TIDEMILL_AT="+d.f.bridge.MQTT)
	out, err := cmd.CombinedOutput()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() ||
		status.Signal() != syscall.SIGKILL {
		d.f.t.Fatalf("%s of %s was not killed at %q: %v\n%s", what, d.serial, step, err, out)
	}
}

// TestProvisionChild is the process that killedAt kills.
func TestProvisionChild(t *testing.T) {
	what := os.Getenv("TIDEMILL_CHILD")
	if what == "" {
		t.Skip("is run by the tests of provisioning")
	}
	dir, stop := os.Getenv("TIDEMILL_DIR"), os.Getenv("TIDEMILL_STEP")
	o := provision.Options{
		Dir: filepath.Join(dir, "data"), Endpoint: os.Getenv("TIDEMILL_AT"), ClientID: "claim-" +
			os.Getenv("TIDEMILL_SERIAL"), Template: "fleet", Retire: true,
		Parameters: map[string]string{"SerialNumber": os.Getenv("TIDEMILL_SERIAL")},
		Claim: func() (tls.Certificate, error) {
			return tls.LoadX509KeyPair(filepath.Join(dir, "claim.pem"), filepath.Join(dir, "claim.key"))
		},
		Roots: func() (*x509.CertPool, error) {
			text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(text)
			return pool, err
		},
		Step: func(name string) {
			if name == stop {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		},
	}
	var err error
	if what == "provision" {
		_, _, err = provision.Provision(t.Context(), o)
	} else {
		_, _, err = provision.Rotate(t.Context(), o, 0)
	}
	t.Fatal("not killed:", err)
}

// active returns the one certificate of the device's thing that is active, and
// fails if there is none or more than one.
func (d *provisioned) active() string {
	d.f.t.Helper()
	var certs []admin.CertificateInfo
	d.f.must(d.f.bridge.Get(d.f.ctx, "/v1/certificates", url.Values{"thing": {"press-" + d.serial}}, &certs))
	var ids []string
	for _, c := range certs {
		if c.Status == "ACTIVE" {
			ids = append(ids, c.ID)
		}
	}
	if len(ids) != 1 {
		d.f.t.Fatalf("press-%s has the active certificates %v of %d", d.serial, ids, len(certs))
	}
	return ids[0]
}

// A device that is killed at any step of provisioning, and of a rotation, ends
// provisioned once: one thing, one active certificate, and that is the one it
// has. With -v it prints the counts.
func TestProvision(t *testing.T) {
	need(t, "aws", "awscli")
	f := newBridge(t, "", map[string]string{
		"streams/out.json": `{"StreamName": "out"}`,
		"rules/out.json": `{"sql": "SELECT topic(2) AS thing FROM 'dt/#'", "awsIotSqlVersion": "2016-03-23", ` +
			`"actions": [{"kinesis": {"streamName": "out", "partitionKey": "x"}}]}`,
	})
	newDevice := f.newProvisioning(t)
	kills := 0
	done := func(d *provisioned, what, want string) {
		t.Helper()
		if out, err := d.command(f.ctx, what, "-once"); err != nil || !strings.Contains(out, want) {
			t.Fatalf("%s of %s: %v, want %q in %s", what, d.serial, err, want, out)
		}
		id, err := provision.Current(filepath.Join(d.dir, "data"))
		f.must(err)
		if got := d.active(); id.Thing != "press-"+d.serial || id.Certificate != got ||
			string(compactJSON(t, id.Configuration)) != `{"site":"north"}` || len(id.Retire) > 0 {
			t.Errorf("%s has %+v, and the bridge %s", d.serial, id, got)
		}
		for _, left := range []string{"provisioning", "rotation"} {
			if _, err := os.Stat(filepath.Join(d.dir, "data", left)); err == nil {
				t.Errorf("%s: %s is left after %s", d.serial, left, what)
			}
		}
	}
	for i, step := range provisionSteps {
		d := newDevice(fmt.Sprint("a", i))
		d.killedAt("provision", step)
		kills++
		done(d, "provision", "press-"+d.serial)
		done(d, "provision", "was provisioned before")
	}
	d := newDevice("b")
	for _, step := range provisionSteps { // the same device, at each in turn
		d.killedAt("provision", step)
		kills++
	}
	done(d, "provision", "press-b")
	for _, step := range rotationSteps {
		before := d.active()
		d.killedAt("rotate", step)
		kills++
		// A rotation that was begun is ended, though the certificate is young; one
		// that was taken up is not begun again, but retires the old certificate.
		age, want := "1h", "is provisioned"
		switch step {
		case "key", "certificate answered":
			age = "0s"
		case "taken up", "retired":
			want = "keeps its certificate"
		}
		if out, err := d.command(f.ctx, "rotate", "-once", "-older-than", age); err != nil ||
			!strings.Contains(out, want) {
			t.Fatalf("rotate after %q: %v, want %q in %s", step, err, want, out)
		}
		if d.active() == before {
			t.Errorf("the certificate is the old one after a rotation killed at %q", step)
		}
		done(d, "provision", "was provisioned before")
	}

	// A token that has expired, though the bridge had provisioned by it: the
	// device asks for another certificate, and has the first retired.
	late := newDevice("late")
	late.killedAt("provision", "outcome answered")
	kills++
	first := late.active()
	pending := filepath.Join(late.dir, "data", "provisioning", "certificate.json")
	text, err := os.ReadFile(pending)
	f.must(err)
	var p map[string]any
	f.must(json.Unmarshal(text, &p))
	p["certificateOwnershipToken"] = "none"
	text, err = json.Marshal(p)
	f.must(err)
	f.must(os.WriteFile(pending, text, 0o600))
	done(late, "provision", "press-late")
	if late.active() == first {
		t.Error("the certificate of the first try is in use")
	}

	// The program itself, killed at any time; and the bridge too.
	rounds := 6
	for i := range rounds {
		d := newDevice(fmt.Sprint("c", i))
		kills += d.killed(t, i%2 == 1)
		done(d, "provision", "press-"+d.serial)
	}

	// A running agent goes over to a new certificate.
	bin, err := buildOnce()
	f.must(err)
	run := &rig.Process{Path: bin.Agent, Args: []string{"run", "-config", d.config},
		LogFile: filepath.Join(f.dir, "press-b.log")}
	f.must(run.Start())
	t.Cleanup(run.Kill)
	sent := func() int { return f.records("out")[`{"thing":"press-b"}`] }
	more := func(what string) {
		n := sent()
		f.must(rig.Until(f.ctx, what, func() (bool, error) { return sent() > n+3, nil }))
	}
	more("readings of a device that was provisioned")
	before := d.active()
	done(d, "rotate", "is provisioned")
	if d.active() == before {
		t.Error("the certificate is the old one")
	}
	more("readings after the rotation")
	f.must(run.Stop(patience))

	var things struct{ Things []struct{ ThingName string } }
	f.must(json.Unmarshal([]byte((&awsShell{f: f, service: "iot"}).says("press", "list-things", "--thing-type-name",
		"press")), &things))
	if want := len(provisionSteps) + 2 + rounds; len(things.Things) != want {
		t.Errorf("%d things, want %d", len(things.Things), want)
	}
	t.Logf("%d devices, %d kills -9: each is one thing with one active certificate", len(things.Things), kills)
}

// killed runs the program until it has provisioned the device, and kills it
// again and again; the bridge too, if both is set.
func (d *provisioned) killed(t *testing.T, both bool) (kills int) {
	t.Helper()
	bin, err := buildOnce()
	d.f.must(err)
	limit := 10 * time.Millisecond
	for {
		p := &rig.Process{Path: bin.Agent, Args: []string{"provision", "-config", d.config},
			LogFile: filepath.Join(d.f.dir, "provision-"+d.serial+".log")}
		d.f.must(p.Start())
		time.Sleep(rand.N(limit)) // when it is killed does not matter
		if ended, err := p.Exited(); ended {
			d.f.must(err)
			t.Logf("%s was killed %d times", d.serial, kills)
			return kills
		}
		p.Kill()
		kills++
		limit += limit / 8
		if both && kills%3 == 1 {
			d.f.bridge.Kill()
			kills++
			d.f.must(d.f.bridge.Start())
			d.f.must(d.f.bridge.Ready(d.f.ctx))
		}
	}
}

func compactJSON(t *testing.T, doc json.RawMessage) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
