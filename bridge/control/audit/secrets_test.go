package audit

import (
	"encoding/json"
	"strings"
	"testing"
)

// Secrets are taken out wherever they are, and nothing else is changed.
func TestWithoutSecrets(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"a":1.50,"b":"x"}`, `{"a":1.50,"b":"x"}`},
		{`{"password":"x","n":12345678901234567890}`, `{"n":12345678901234567890,"password":"(not kept)"}`},
		{`[{"Authorization":"Bearer x"}]`, `[{"Authorization":"(not kept)"}]`},
		{`{"headers":[{"key":"X-Api-Key","value":"x"},{"key":"Accept","value":"y"}]}`,
			`{"headers":[{"key":"X-Api-Key","value":"(not kept)"},{"key":"Accept","value":"y"}]}`},
		{`{"url":"https://me:pw@example.com/x"}`, `{"url":"https://me@example.com/x"}`},
		{`{"url":"https://me@example.com/x"}`, `{"url":"https://me@example.com/x"}`},
		{`{"body":"{\"sasl.password\":\"x\"}"}`, `{"body":"{\"sasl.password\":\"(not kept)\"}"}`},
		{`{"CommonAttributes":[{"AttributeName":"a","AttributeValue":"x"}]}`,
			`{"CommonAttributes":[{"AttributeName":"a","AttributeValue":"(not kept)"}]}`},
		{`"-----BEGIN EC PRIVATE KEY-----\nx"`, `"(not kept)"`},
		{`{"tokenKeyName":"t","tokenSigningPublicKeys":{"a":"b"}}`, `{"tokenKeyName":"t","tokenSigningPublicKeys":{"a":"b"}}`},
		{`{"certificateOwnershipToken":"x"}`, `{"certificateOwnershipToken":"(not kept)"}`},
		{`{"secretAccessKey":null}`, `{"secretAccessKey":null}`},
		{`{"CopyOptions":"JSON 'auto' CREDENTIALS 'aws_access_key_id=a;aws_secret_access_key=b'"}`,
			`{"CopyOptions":"(not kept)"}`},
		{`{"CopyOptions":"JSON 'auto' GZIP"}`, `{"CopyOptions":"JSON 'auto' GZIP"}`},
		{`{"credentialDurationSeconds":900}`, `{"credentialDurationSeconds":900}`},
	} {
		if got := string(withoutSecrets(json.RawMessage(c.in))); got != c.want {
			t.Errorf("%s: %s, want %s", c.in, got, c.want)
		}
	}
}

// Whatever is recorded is JSON, is the same when its secrets are taken out again, and
// has no private key.
func FuzzWithoutSecrets(f *testing.F) {
	f.Add(`{"password":"x","a":[{"name":"token","value":"y"},"{\"secret\":1}"]}`)
	f.Add(`{"u":"a://b:c@d"}`)
	f.Add(`"-----BEGIN PRIVATE KEY-----"`)
	f.Fuzz(func(t *testing.T, doc string) {
		if !json.Valid([]byte(doc)) {
			return
		}
		once := withoutSecrets(json.RawMessage(doc))
		if !json.Valid(once) {
			t.Fatalf("%s: %s", doc, once)
		}
		if twice := withoutSecrets(once); string(twice) != string(once) {
			t.Fatalf("%s: %s, then %s", doc, once, twice)
		}
		var v any
		if err := json.Unmarshal(once, &v); err != nil {
			t.Fatal(err)
		}
		if text, _ := v.(string); strings.Contains(text, "PRIVATE KEY-----") {
			t.Fatal(text)
		}
	})
}

// Who may see an action but not change it is shown no header, password, key or path of
// a URL, and all else.
func TestHidden(t *testing.T) {
	const doc = `{"http":{"url":"https://h:1/5ecret?a=5ecret","headers":[{"key":"X-Own","value":"5ecret"}]},` +
		`"kafka":{"topic":"shown","clientProperties":{"sasl.plain.password":"5ecret","sasl.plain.username":"shown"},` +
		`"headers":[{"key":"a","value":"5ecret"}]},"splunk":{"token":"5ecret","AccessKey":"5ecret","AccessKeyId":"shown"},` +
		`"parameters":[{"name":"header X-Own","value":"5ecret"},{"name":"topic","value":"shown"}],` +
		`"RequestConfiguration":{"CommonAttributes":[{"AttributeName":"a","AttributeValue":"5ecret"}]}}`
	got := string(Hidden(json.RawMessage(doc)))
	if strings.Contains(got, "5ecret") || strings.Count(got, "shown") != strings.Count(doc, "shown") ||
		!strings.Contains(got, `"https://h:1/(hidden)"`) {
		t.Error(got)
	}
	for _, doc := range []string{
		`{"http":{"url":"HTTPS://h/p?k=5ecret"}}`, `{"http":{"url":" hTTps://h/5ecret"}}`,
		`{"EndpointConfiguration":{"Url":"HTTPS://h/x?tok=5ecret"}}`, `{"HECEndpoint":"Http://h/5ecret"}`,
		`{"CopyOptions":"CREDENTIALS 'aws_secret_access_key=5ecret'"}`, `{"CopyOptions":"master_symmetric_key '5ecret'"}`,
		`{"headers":{"userProperties":[{"key":"k","value":"5ecret"}],"correlationData":"5ecret"}}`,
		`[{"name":"userProperties.k","value":"5ecret"},{"name":"correlationData","value":"5ecret"}]`,
	} {
		if got := string(Hidden(json.RawMessage(doc))); strings.Contains(got, "5ecret") {
			t.Error(got)
		}
	}
	for _, doc := range []string{`{"url":"HTTPS://H"}`, `{"headers":{"contentType":"a/b"}}`} {
		if got := string(Hidden(json.RawMessage(doc))); got != doc {
			t.Error(got)
		}
	}
	if got := string(Hidden(json.RawMessage(`{`))); got != "null" {
		t.Error(got)
	}
}
