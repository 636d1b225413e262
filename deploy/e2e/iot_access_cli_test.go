package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestAWSCLIAccess makes authorizers and role aliases with AWS's command line;
// curl then gets a device's credentials, as in the developer guide, and the
// command line publishes with them.
func TestAWSCLIAccess(t *testing.T) {
	need(t, "aws", "awscli")
	need(t, "curl", "curl")
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, `{"isAuthenticated":true,"principalId":"guest","policyDocuments":[],`+
			`"disconnectAfterInSeconds":300,"refreshAfterInSeconds":300}`)
	}))
	defer hook.Close()
	const (
		function = "arn:aws:lambda:eu-local-1:000000000000:function:doors"
		role     = "arn:aws:iam::000000000000:role/upload"
		arn      = "arn:aws:iot:eu-local-1:000000000000:"
	)
	f := newBridge(t, "[[hooks]]\narn = \""+function+"\"\nurl = \""+hook.URL+"\"\n[[access]]\nrole = \""+role+
		"\"\npolicies = [\"uploads\"]\n", nil)
	shell := &awsShell{f: f, service: "iot"}

	shell.says(`"authorizerArn":"`+arn+`authorizer/doors"`, "create-authorizer", "--authorizer-name", "doors",
		"--authorizer-function-arn", function,
		"--token-key-name", "x-token", "--signing-disabled", "--status", "ACTIVE")
	shell.says(`"principalId":"guest"`, "test-invoke-authorizer", "--authorizer-name", "doors", "--token", "x")
	shell.says(`"authorizerName":"doors"`, "set-default-authorizer", "--authorizer-name", "doors")
	shell.fails("DeleteConflictException", "delete-authorizer", "--authorizer-name", "doors")
	shell.says(`"authorizerName":"doors"`, "list-authorizers")
	shell.says("", "clear-default-authorizer")
	shell.says("doors", "update-authorizer", "--authorizer-name", "doors", "--status", "INACTIVE")
	shell.says("", "delete-authorizer", "--authorizer-name", "doors")

	// RegisterThing makes what a template says, with a certificate of a request.
	shell.says("", "create-policy", "--policy-name", "assume", "--policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":"`+
			arn+`rolealias/upload"}]}`)
	shell.says("", "create-policy", "--policy-name", "uploads", "--policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"`+arn+
			`topic/up/${iot:Connection.Thing.ThingName}"}]}`)
	pump := f.thing("pump-1")
	body := `{"Parameters":{"Name":{"Type":"String"},"Id":{"Type":"String"}},"Resources":{
		"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"Name"},"AttributePayload":{"kind":"pump"}},"OverrideSettings":{"AttributePayload":"MERGE"}},
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"Id"}}},
		"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"assume"}}}}`
	shell.says(`"thing":"`+arn+`thing/pump-1"`, "register-thing", "--template-body", body, "--parameters",
		"Name=pump-1,Id="+f.certificate(pump))
	shell.fails("InvalidRequestException", "register-thing", "--template-body", body, "--parameters", "Name=pump-1")
	shell.says(`"kind":"pump"`, "describe-thing", "--thing-name", "pump-1")

	shell.says(`"roleAliasArn":"`+arn+`rolealias/upload"`, "create-role-alias", "--role-alias", "upload", "--role-arn",
		role, "--credential-duration-seconds", "3600")
	shell.says(`"credentialDurationSeconds":3600`, "describe-role-alias", "--role-alias", "upload")
	shell.says(`"upload"`, "list-role-aliases")
	at := func(name string) string { return filepath.Join(pump.dir, name) }
	out, err := exec.CommandContext(f.ctx, "curl", "-sS", "--fail-with-body", "--cacert", at("ca.pem"), "--cert",
		at("cert.pem"), "--key", at("key.pem"),
		"-H", "x-amzn-iot-thingname: pump-1", "https://"+strings.Replace(f.bridge.HTTPS, "127.0.0.1", "localhost", 1)+
			"/role-aliases/upload/credentials").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var got struct {
		Credentials struct {
			AccessKeyID, SecretAccessKey, SessionToken string
			Expiration                                 time.Time
		}
	}
	f.must(json.Unmarshal(out, &got))
	c := got.Credentials
	options := filepath.Join(f.dir, "aws-config")
	f.must(os.WriteFile(options, []byte("[default]\ncli_binary_format = raw-in-base64-out\n"), 0o600))
	data := &awsShell{f: f, service: "iot-data", env: []string{"AWS_CONFIG_FILE=" + options, "AWS_ACCESS_KEY_ID=" +
		c.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + c.SecretAccessKey, "AWS_SESSION_TOKEN=" + c.SessionToken}}
	listener := f.subscriber(f.newOperator(), "listener", "up/#")
	data.says("", "publish", "--topic", "up/pump-1", "--payload", "hello")
	listener.wants(f, "up/pump-1 hello")
	data.fails("ForbiddenException", "publish", "--topic", "up/pump-2", "--payload", "hello")
}
