package wire

import (
	"net/url"
	"strings"
	"testing"
)

// Who reads the audit log cannot send a presigned request again.
func TestAskedHasNoSignature(t *testing.T) {
	for _, query := range []string{
		"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2Fx&X-Amz-Signature=5ec7e7&x-amz-security-token=5ec7e7",
		"AWSAccessKeyId=AKIA&Signature=5ec7e7&Expires=1"} {
		for _, more := range []string{"", "&force=true"} {
			values, err := url.ParseQuery(query + more)
			if err != nil {
				t.Fatal(err)
			}
			x := &exchange{Request: Request{Query: values, Body: []byte(`{"a":1}`)},
				op: &operation{Operation: &Operation{}}}
			got := string(x.asked())
			if strings.Contains(got, "5ec7e7") || strings.Contains(got, "AKIA") || !strings.Contains(got, `"a":1`) ||
				strings.Contains(got, "force") != (more != "") {
				t.Errorf("%s: %s", query+more, got)
			}
		}
	}
}
