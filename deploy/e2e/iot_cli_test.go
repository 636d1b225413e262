package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAWSCLIRegistry makes things, certificates, policies and groups with AWS's
// command line; a device then connects with what it has made, as far as the
// policies let it. With -v it prints the transcript.
func TestAWSCLIRegistry(t *testing.T) {
	need(t, "aws", "awscli")
	f := newBridge(t, "", nil)
	shell := &awsShell{f: f, service: "iot"}

	shell.says(`"thingArn":"arn:aws:iot:eu-local-1:000000000000:thing/press-1"`, "create-thing", "--thing-name",
		"press-1",
		"--attribute-payload", `{"attributes":{"hall":"3","line":"b"}}`)
	shell.fails("ResourceAlreadyExistsException", "create-thing", "--thing-name", "press-1")
	shell.says("", "update-thing", "--thing-name", "press-1", "--expected-version", "1",
		"--attribute-payload", `{"attributes":{"line":"c","hall":""},"merge":true}`)
	shell.fails("VersionConflictException", "update-thing", "--thing-name", "press-1", "--expected-version", "1",
		"--attribute-payload", `{"attributes":{}}`)
	shell.says(`"attributes":{"line":"c"}`, "describe-thing", "--thing-name", "press-1")
	shell.says("press-1", "list-things", "--attribute-name", "line", "--attribute-value", "c")
	shell.fails("ResourceNotFoundException", "describe-thing", "--thing-name", "press-9")

	var made struct {
		CertificateArn, CertificateId, CertificatePem string
		KeyPair                                       struct{ PublicKey, PrivateKey string }
	}
	f.must(json.Unmarshal([]byte(shell.says("certificateArn", "create-keys-and-certificate", "--set-as-active")),
		&made))
	if !strings.Contains(made.KeyPair.PublicKey, "BEGIN PUBLIC KEY") {
		t.Errorf("%+v", made)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"cert.pem": made.CertificatePem, "key.pem": made.KeyPair.PrivateKey} {
		f.must(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	f.must(copyFile(filepath.Join(f.bridge.Dir, "pki", "ca.pem"), filepath.Join(dir, "ca.pem")))
	device := identity{id: "press-1", dir: dir}

	const document = `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"iot:Connect","Resource":"arn:aws:iot:eu-local-1:000000000000:client/${iot:Connection.Thing.ThingName}"},
		{"Effect":"Allow","Action":["iot:Publish"],"Resource":"arn:aws:iot:eu-local-1:000000000000:topic/dt/${iot:Connection.Thing.ThingName}/*"}]}`
	shell.says(`"policyVersionId":"1"`, "create-policy", "--policy-name", "own", "--policy-document", document)
	shell.fails("MalformedPolicyException", "create-policy", "--policy-name", "bad", "--policy-document",
		`{"Statement":[{}]}`)
	shell.says("", "attach-policy", "--policy-name", "own", "--target", made.CertificateArn)
	shell.says("", "attach-thing-principal", "--thing-name", "press-1", "--principal", made.CertificateArn)
	shell.says(made.CertificateArn, "list-thing-principals", "--thing-name", "press-1")
	shell.says(`"policyName":"own"`, "list-attached-policies", "--target", made.CertificateArn)
	shell.says(made.CertificateArn, "list-targets-for-policy", "--policy-name", "own")
	shell.says(`"authDecision":"ALLOWED"`, "test-authorization", "--principal", made.CertificateArn, "--client-id",
		"press-1",
		"--auth-infos", `[{"actionType":"PUBLISH","resources":["arn:aws:iot:eu-local-1:000000000000:topic/dt/press-1/x"]}]`)
	f.publish(device, "dt/press-1/climate", `{"temp":1}`)
	f.refused(t, device, "dt/other/climate", `{"temp":1}`)

	// A group's policy takes something away.
	shell.says("thinggroup/plant", "create-thing-group", "--thing-group-name", "plant")
	shell.says(`"parentGroupName":"plant"`, "create-thing-group", "--thing-group-name", "hall", "--parent-group-name",
		"plant",
		"--query", "{parentGroupName: 'plant', arn: thingGroupArn}")
	shell.says("", "add-thing-to-thing-group", "--thing-name", "press-1", "--thing-group-name", "hall")
	shell.says(`"things":["press-1"]`, "list-things-in-thing-group", "--thing-group-name", "hall")
	shell.says("", "create-policy", "--policy-name", "quiet", "--policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:Publish","Resource":"*"}]}`)
	shell.says("", "attach-policy", "--policy-name", "quiet", "--target",
		"arn:aws:iot:eu-local-1:000000000000:thinggroup/plant")
	shell.says(`"policyName":"quiet"`, "get-effective-policies", "--principal", made.CertificateArn, "--thing-name",
		"press-1")
	f.refused(t, device, "dt/press-1/climate", `{"temp":2}`)
	shell.says("", "detach-policy", "--policy-name", "quiet", "--target",
		"arn:aws:iot:eu-local-1:000000000000:thinggroup/plant")
	f.publish(device, "dt/press-1/climate", `{"temp":3}`)

	shell.fails("DeleteConflictException", "delete-policy", "--policy-name", "own")
	shell.says(`"isDefaultVersion":true`, "create-policy-version", "--policy-name", "own", "--set-as-default",
		"--policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`)
	f.refused(t, device, "dt/press-1/climate", `{"temp":4}`)

	t.Log("# kill -9, and start again")
	f.bridge.Kill()
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	shell.says(`"status":"ACTIVE"`, "describe-certificate", "--certificate-id", made.CertificateId)
	shell.fails("CertificateStateException", "delete-certificate", "--certificate-id", made.CertificateId)
	shell.says("", "update-certificate", "--certificate-id", made.CertificateId, "--new-status", "INACTIVE")
	shell.fails("DeleteConflictException", "delete-certificate", "--certificate-id", made.CertificateId)
	shell.fails("InvalidRequestException", "delete-thing", "--thing-name", "press-1")
	shell.says("", "detach-thing-principal", "--thing-name", "press-1", "--principal", made.CertificateArn)
	shell.says("", "delete-certificate", "--certificate-id", made.CertificateId, "--force-delete")
	shell.says("", "delete-thing", "--thing-name", "press-1")
	shell.says("endpointAddress", "describe-endpoint", "--endpoint-type", "iot:Data-ATS")
}
