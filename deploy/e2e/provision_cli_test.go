package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

const pressTemplate = `{
"Parameters":{"SerialNumber":{"Type":"String"},"AWS::IoT::Certificate::Id":{"Type":"String"}},
"Resources":{
"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["",["press-",{"Ref":"SerialNumber"}]]},"AttributePayload":{"serial":{"Ref":"SerialNumber"}}}},
"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"Active"}},
"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"own"}}},
"DeviceConfiguration":{"hall":"3"}}`

const ownPolicy = `{"Version":"2012-10-17","Statement":[
{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:eu-local-1:000000000000:client/${iot:Connection.Thing.ThingName}"},
{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:eu-local-1:000000000000:topic/dt/${iot:Connection.Thing.ThingName}/*"}]}`

// identityOf writes what a device shows into a folder.
func (f *fleet) identityOf(id, cert, key string) identity {
	f.t.Helper()
	dir := f.t.TempDir()
	f.must(os.WriteFile(filepath.Join(dir, "cert.pem"), []byte(cert), 0o600))
	f.must(os.WriteFile(filepath.Join(dir, "key.pem"), []byte(key), 0o600))
	f.must(copyFile(filepath.Join(f.bridge.Dir, "pki", "ca.pem"), filepath.Join(dir, "ca.pem")))
	return identity{id, dir}
}

// TestAWSCLITemplates makes provisioning templates with AWS's command line, and
// things with them. With -v it prints the transcript.
func TestAWSCLITemplates(t *testing.T) {
	need(t, "aws", "awscli")
	var mu sync.Mutex
	var asked []string
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, string(text))
		fmt.Fprintf(w, `{"allowProvisioning":%v}`, !strings.Contains(string(text), "stolen"))
	}))
	defer hook.Close()
	const hookARN = "arn:aws:lambda:eu-local-1:000000000000:function:vet"
	f := newBridge(t, fmt.Sprintf("[[hooks]]\narn = %q\nurl = %q\n", hookARN, hook.URL), nil)
	shell := &awsShell{f: f, service: "iot"}
	const role = "arn:aws:iam::000000000000:role/provisioning"
	line := []string{"--template-name", "line"}
	with := func(args ...string) []string { return append(append([]string{args[0]}, line...), args[1:]...) }

	shell.fails("InvalidRequestException", with("create-provisioning-template", "--provisioning-role-arn", role,
		"--template-body", `{"Resources":{}}`)...)
	shell.fails("is no arn of [[hooks]]", with("create-provisioning-template", "--provisioning-role-arn", role,
		"--template-body", pressTemplate, "--pre-provisioning-hook", "targetArn=arn:aws:lambda:none")...)
	shell.says(`"templateArn":"arn:aws:iot:eu-local-1:000000000000:provisioningtemplate/line","templateName":"line","defaultVersionId":1`,
		with("create-provisioning-template", "--provisioning-role-arn", role, "--template-body", pressTemplate,
			"--description", "presses", "--tags", "Key=hall,Value=3")...)
	shell.fails("ResourceAlreadyExistsException",
		with("create-provisioning-template", "--provisioning-role-arn", role, "--template-body", pressTemplate)...)
	shell.says(`"enabled":false`, with("describe-provisioning-template")...)
	shell.says(`"Value":"3"`, "list-tags-for-resource", "--resource-arn",
		"arn:aws:iot:eu-local-1:000000000000:provisioningtemplate/line")
	shell.says("", with("update-provisioning-template", "--enabled", "--pre-provisioning-hook", "targetArn="+
		hookARN)...)
	shell.says(`"targetArn":"`+hookARN+`"`, with("describe-provisioning-template")...)
	shell.says(`"versionId":2,"isDefaultVersion":false`,
		with("create-provisioning-template-version", "--template-body", pressTemplate)...)
	shell.says(`"isDefaultVersion":true`, with("list-provisioning-template-versions")...)
	shell.says(`"versionId":2`, with("describe-provisioning-template-version", "--version-id", "2")...)
	shell.fails("DeleteConflictException", with("delete-provisioning-template-version", "--version-id", "1")...)
	shell.fails("DeleteConflictException", with("delete-provisioning-template")...)
	shell.says("", with("update-provisioning-template", "--default-version-id", "2")...)
	shell.says("", with("delete-provisioning-template-version", "--version-id", "1")...)
	shell.says(`"templateName":"line"`, "list-provisioning-templates")
	shell.fails("ResourceNotFoundException", "describe-provisioning-template", "--template-name", "none")

	// A claim for who installs a device: the hook has its say.
	shell.says("", "create-policy", "--policy-name", "own", "--policy-document", ownPolicy)
	var claim struct {
		CertificatePem string
		KeyPair        struct{ PrivateKey string }
	}
	f.must(json.Unmarshal([]byte(shell.says("expiration", with("create-provisioning-claim")...)), &claim))
	d := f.connect(f.identityOf("claim-installer", claim.CertificatePem, claim.KeyPair.PrivateKey))
	const create, register = "$aws/certificates/create/json", "$aws/provisioning-templates/line/provision/json"
	d.subscribe(create+"/+", register+"/+")
	var made struct{ CertificateOwnershipToken, CertificatePem, PrivateKey string }
	ask := func(topic, payload, want string) string {
		t.Helper()
		d.publish(topic, payload)
		answer := ""
		d.next(f.ctx, topic, func(m mqtt.Message) bool {
			answer = string(m.Payload())
			return strings.HasPrefix(m.Topic(), topic+"/")
		})
		if !strings.Contains(answer, want) {
			t.Fatalf("%s: %s, want %s", topic, answer, want)
		}
		return answer
	}
	f.must(json.Unmarshal([]byte(ask(create, "", "certificateOwnershipToken")), &made))
	ask(register, fmt.Sprintf(`{"certificateOwnershipToken":%q,"parameters":{"SerialNumber":"stolen"}}`,
		made.CertificateOwnershipToken), `"errorCode":"AccessDenied"`)
	press := fmt.Sprintf(`{"certificateOwnershipToken":%q,"parameters":{"SerialNumber":"7"}}`,
		made.CertificateOwnershipToken)
	ask(register, press, `"thingName":"press-7"`)
	d.Disconnect(50)
	f.connect(f.identityOf("press-7", made.CertificatePem, made.PrivateKey)).publish("dt/press-7/x", `{"n":1}`)
	mu.Lock()
	if len(asked) != 2 || !strings.Contains(asked[1], `"clientId":"claim-installer"`) {
		t.Errorf("the hook was asked %d times: %q", len(asked), asked)
	}
	mu.Unlock()

	// RegisterThing, by the operator.
	csr, key := counterpart.SigningRequest(t)
	bulk := `{"Parameters":{"ThingName":{"Type":"String"},"CSR":{"Type":"String"}},"Resources":{
"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"}}},
"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"}}},
"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"own"}}}}`
	parameters, err := json.Marshal(map[string]string{"ThingName": "press-8", "CSR": string(csr)})
	f.must(err)
	shell.fails("InvalidRequestException", "register-thing", "--template-body", bulk, "--parameters",
		"ThingName=press-8")
	shell.fails("ResourceRegistrationFailureException", "register-thing", "--template-body",
		strings.Replace(bulk, `"own"`, `"none"`, 1), "--parameters", string(parameters))
	shell.fails("ResourceNotFoundException", "describe-thing", "--thing-name", "press-8")
	var registered struct {
		CertificatePem string
		ResourceArns   map[string]string
	}
	f.must(json.Unmarshal([]byte(shell.says(`"thing":"arn:aws:iot:eu-local-1:000000000000:thing/press-8"`,
		"register-thing", "--template-body", bulk, "--parameters", string(parameters))), &registered))
	f.connect(f.identityOf("press-8", registered.CertificatePem, string(key))).publish("dt/press-8/x", `{"n":1}`)

	t.Log("# kill -9, and start again")
	f.bridge.Kill()
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	shell.says(`"defaultVersionId":2`, with("describe-provisioning-template")...)
	d = f.connect(f.identityOf("claim-installer", claim.CertificatePem, claim.KeyPair.PrivateKey))
	d.subscribe(create+"/+", register+"/+")
	ask(register, press, `"thingName":"press-7"`) // as before
	shell.says("", with("delete-provisioning-template")...)
	shell.fails("ResourceNotFoundException", with("create-provisioning-claim")...)
	ask(register, press, `"thingName":"press-7"`)
}

// fleetChecks are those of py/fleet_v2.py.
var fleetChecks = []string{"keys and certificate", "provisioned, and again", "refused", "connects as its thing",
	"certificate from a request"}

// TestPythonClaim provisions devices with AWS's SDK for Python, version 2.
func TestPythonClaim(t *testing.T) {
	need(t, "aws", "awscli")
	python := filepath.Join(counterpart.Python(t, pythonSDKs...), "python")
	f := sharedBridge(t, "")
	shell := &awsShell{f: f, service: "iot"}
	shell.says("", "create-policy", "--policy-name", "own", "--policy-document", ownPolicy)
	shell.says("", "create-provisioning-template", "--template-name", "fleet", "--enabled", "--provisioning-role-arn",
		"arn:aws:iam::000000000000:role/none", "--template-body", pressTemplate)
	var claim struct {
		CertificatePem string
		KeyPair        struct{ PrivateKey string }
	}
	f.must(json.Unmarshal([]byte(shell.says("expiration", "create-provisioning-claim", "--template-name", "fleet")),
		&claim))
	op := f.identityOf("claim", claim.CertificatePem, claim.KeyPair.PrivateKey)
	csr, key := counterpart.SigningRequest(t)
	f.must(os.WriteFile(filepath.Join(op.dir, "csr.pem"), csr, 0o600))
	f.must(os.WriteFile(filepath.Join(op.dir, "csr-key.pem"), key, 0o600))
	for _, v := range []string{"claim-v2-mqtt3", "claim-v2-mqtt5"} {
		f.sdk(t, op, v, python, "py/fleet_v2.py", fleetChecks)
	}
}

// TestAWSCLIFirstConnection registers a CA with a template by AWS's command line:
// what the CA has signed is provisioned as soon as it connects.
func TestAWSCLIFirstConnection(t *testing.T) {
	need(t, "aws", "awscli")
	f := sharedBridge(t, "")
	shell := &awsShell{f: f, service: "iot"}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.must(err)
	sign := func(c, parent *x509.Certificate) *x509.Certificate {
		t.Helper()
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour),
			time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, k.Public(), k)
		f.must(err)
		made, err := x509.ParseCertificate(der)
		f.must(err)
		return made
	}
	text := func(c *x509.Certificate) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: "Factory"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}
	ca := sign(tmpl, tmpl)
	register := func(config string) []string {
		return []string{"register-ca-certificate", "--ca-certificate", text(ca), "--certificate-mode", "SNI_ONLY",
			"--set-as-active", "--allow-auto-registration", "--registration-config", config}
	}
	body := strings.NewReplacer(`"SerialNumber":{`, `"AWS::IoT::Certificate::CommonName":{`, `"Ref":"SerialNumber"`,
		`"Ref":"AWS::IoT::Certificate::CommonName"`, `"own"`, `"first"`).Replace(pressTemplate)

	shell.fails("is no template of type JITP", register("templateName=first")...)
	shell.says("", "create-provisioning-template", "--template-name", "claims", "--provisioning-role-arn",
		"arn:aws:iam::000000000000:role/none", "--template-body", pressTemplate)
	shell.fails("is no template of type JITP", register("templateName=claims")...)
	shell.fails("registrationConfig.templateBody", register(`{"templateBody":"{}"}`)...)
	shell.says("", "create-provisioning-template", "--template-name", "first", "--type", "JITP", "--enabled",
		"--provisioning-role-arn", "arn:aws:iam::000000000000:role/none", "--template-body", body)
	shell.says("", "create-policy", "--policy-name", "first", "--policy-document", ownPolicy)
	var made struct{ CertificateId string }
	f.must(json.Unmarshal([]byte(shell.says("certificateId", register("templateName=first")...)), &made))

	private, err := x509.MarshalECPrivateKey(k)
	f.must(err)
	key := string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
	press := sign(&x509.Certificate{Subject: pkix.Name{CommonName: "7"}}, ca)
	f.connect(f.identityOf("press-7", text(press), key)).publish("dt/press-7/x", `{"n":1}`)
	shell.says(`"serial":"7"`, "describe-thing", "--thing-name", "press-7")
	shell.says(`"status":"ACTIVE"`, "list-certificates-by-ca", "--ca-certificate-id", made.CertificateId)

	own, err := json.Marshal(map[string]string{"templateBody": body})
	f.must(err)
	shell.says("", "update-ca-certificate", "--certificate-id", made.CertificateId, "--registration-config",
		string(own))
	press = sign(&x509.Certificate{Subject: pkix.Name{CommonName: "8"}}, ca)
	f.connect(f.identityOf("press-8", text(press), key)).publish("dt/press-8/x", `{"n":1}`)
	shell.says("", "update-ca-certificate", "--certificate-id", made.CertificateId, "--remove-auto-registration")
	if out := shell.says(`"autoRegistrationStatus":"DISABLE"`, "describe-ca-certificate", "--certificate-id",
		made.CertificateId); strings.Contains(out, "templateBody") {
		t.Errorf("the template is still there: %s", out)
	}
}
