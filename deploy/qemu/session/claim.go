package session

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/deploy/rig"
)

// Those of a bridge that is not told of others.
const account, region = "000000000000", "eu-local-1"

// Template is the name of the provisioning template; its parameter is SerialNumber.
const Template = "simulated"

// templateBody makes a thing of the serial number, with the policy that every device
// of a bridge has.
const templateBody = `{
"Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
"Resources": {
  "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}}},
  "certificate": {"Type": "AWS::IoT::Certificate",
    "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
  "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "tidemill-thing"}}}}`

// A Claim is a certificate that may ask to be provisioned, for five minutes, and its key.
type Claim struct{ Cert, Key string } // PEM

// NewClaim makes the template, if it is not there, and a claim for it, as AWS's
// own clients would.
func NewClaim(ctx context.Context, b *rig.Bridge) (c Claim, err error) {
	a, err := newAWS(ctx, b)
	if err != nil {
		return c, err
	}
	// A bridge makes the policy of devices with its first thing; this one has none yet.
	for path, made := range map[string]struct {
		by  string
		doc map[string]any
	}{
		"/policies/" + authz.ThingPolicyName: {"", map[string]any{
			"policyDocument": string(authz.ThingPolicy(account, region))}},
		"/provisioning-templates/" + Template: {"/provisioning-templates", map[string]any{"templateName": Template,
			"templateBody": templateBody, "enabled": true,
			"provisioningRoleArn": "arn:aws:iam::000000000000:role/any"}},
	} {
		err := a.call(ctx, "iot", http.MethodGet, path, nil, nil)
		if errors.Is(err, errNotFound) {
			err = a.call(ctx, "iot", http.MethodPost, cmp.Or(made.by, path), made.doc, nil)
		}
		if err != nil {
			return c, err
		}
	}
	var made struct {
		CertificatePem string
		KeyPair        struct{ PrivateKey string }
	}
	err = a.call(ctx, "iot", http.MethodPost, "/provisioning-templates/"+Template+"/provisioning-claim", nil, &made)
	return Claim{made.CertificatePem, made.KeyPair.PrivateKey}, err
}

// Desire changes the desired state of a thing's shadow, as an operator with AWS's clients does.
func (s *Session) Desire(ctx context.Context, thing string, desired any) error {
	a, err := newAWS(ctx, s.Bridge)
	if err != nil {
		return err
	}
	return a.call(ctx, "iotdata", http.MethodPost, "/things/"+url.PathEscape(thing)+"/shadow",
		map[string]any{"state": map[string]any{"desired": desired}}, nil)
}

var errNotFound = errors.New("there is no such thing")

// An aws calls a bridge's AWS IoT API.
type aws struct {
	url  string
	http *http.Client
	keys config.SharedConfig
}

func newAWS(ctx context.Context, b *rig.Bridge) (*aws, error) {
	pki := filepath.Join(b.Dir, "pki")
	pem, err := os.ReadFile(filepath.Join(pki, "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	keys, err := config.LoadSharedConfigProfile(ctx, "default", func(o *config.LoadSharedConfigOptions) {
		o.CredentialsFiles, o.ConfigFiles = []string{filepath.Join(pki, "access-keys")}, nil
	})
	return &aws{url: "https://localhost" + b.HTTPS[strings.LastIndexByte(b.HTTPS, ':'):], keys: keys,
		http: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}}, err
}

// call sends a request that is signed for a service and decodes the answer into out, if that is not nil.
func (a *aws) call(ctx context.Context, service, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(ctx, a.keys.Credentials, req, hex.EncodeToString(sum[:]), service, region,
		time.Now()); err != nil {
		return err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("%s %s: %w", method, path, errNotFound)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text)
	case out == nil:
		return nil
	}
	return json.Unmarshal(text, out)
}
