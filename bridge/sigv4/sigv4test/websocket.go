package sigv4test

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"
)

// A Form is how a family of AWS IoT device SDKs signs the request of a
// WebSocket, as captured of them.
type Form struct {
	Name    string
	Service string
	Expires string // X-Amz-Expires; "" for none
	Signed  string // SignedHeaders; Connection is "Upgrade"
	Port    bool   // Host has the port, if it is not 443
	Token   bool   // the session token is signed too
}

// The forms of the SDKs, and one of clients that sign all.
var (
	Python1     = Form{Name: "Python 1", Service: "iotdata", Expires: "86400", Signed: "host"}
	JavaScript1 = Form{Name: "JavaScript 1", Service: "iotdevicegateway", Signed: "host", Port: true}
	Version2    = Form{Name: "version 2", Service: "iotdevicegateway", Signed: "connection;host"}
	signsToken  = Form{Name: "signs the token", Service: "iotdevicegateway", Expires: "300", Signed: "host", Port: true,
		Token: true}
	Forms = []Form{Python1, JavaScript1, Version2, signsToken}
)

// Query returns the query of a request for /mqtt with this Host header.
func (f Form) Query(host string, k Key, region string, at time.Time) string {
	date, stamp := at.UTC().Format("20060102"), at.UTC().Format("20060102T150405Z")
	scope := date + "/" + region + "/" + f.Service + "/aws4_request"
	pairs := []string{
		"X-Amz-Algorithm=AWS4-HMAC-SHA256",
		"X-Amz-Credential=" + escape(k.ID+"/"+scope),
		"X-Amz-Date=" + stamp,
		"X-Amz-SignedHeaders=" + escape(f.Signed),
	}
	if f.Expires != "" {
		pairs = append(pairs, "X-Amz-Expires="+f.Expires)
	}
	token := "X-Amz-Security-Token=" + escape(k.Token)
	if f.Token && k.Token != "" {
		pairs = append(pairs, token)
	}
	sorted := append([]string(nil), pairs...)
	sort.Strings(sorted)
	headers := "host:" + host + "\n"
	if strings.HasPrefix(f.Signed, "connection;") {
		headers = "connection:Upgrade\n" + headers
	}
	canonical := fmt.Sprintf("GET\n/mqtt\n%s\n%s\n%s\n%x", strings.Join(sorted, "&"), headers, f.Signed,
		sha256.Sum256(nil))
	key := []byte("AWS4" + k.Secret)
	for _, s := range []string{date, region, f.Service, "aws4_request",
		fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x", stamp, scope, sha256.Sum256([]byte(canonical)))} {
		m := hmac.New(sha256.New, key)
		_, _ = io.WriteString(m, s)
		key = m.Sum(nil)
	}
	pairs = append(pairs, fmt.Sprintf("X-Amz-Signature=%x", key))
	if !f.Token && k.Token != "" {
		pairs = append(pairs, token)
	}
	return strings.Join(pairs, "&")
}
