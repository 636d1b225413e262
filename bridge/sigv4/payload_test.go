package sigv4

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// chunkedExample is the one of the S3 API reference, "Transferring payload in
// multiple chunks (chunked upload)": 66,560 bytes of 'a' in two chunks.
func chunkedExample() (r *http.Request, body string, v *Verifier) {
	body = "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" +
		strings.Repeat("a", 65536) +
		"\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" +
		strings.Repeat("a", 1024) +
		"\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
	r = httptest.NewRequest("PUT", "/examplebucket/chunkObject.txt", nil)
	r.Host, r.ContentLength = "s3.amazonaws.com", 66824
	for name, value := range map[string]string{
		"X-Amz-Date": "20130524T000000Z", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY",
		"X-Amz-Content-Sha256": chunksSigned, "X-Amz-Decoded-Content-Length": "66560",
		"Content-Encoding": "aws-chunked", "Content-Length": "66824",
		"Authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," +
			"SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;" +
			"x-amz-decoded-content-length;x-amz-storage-class," +
			"Signature=4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
	} {
		r.Header.Set(name, value)
	}
	v = &Verifier{Region: "elsewhere",
		Secret: func(string) (string, string, bool) { return "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", true },
		Now:    func() time.Time { return time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC) }}
	return r, body, v
}

func payloadOf(t *testing.T, v *Verifier, r *http.Request, body string) ([]byte, *Payload, error) {
	t.Helper()
	sig, id, err := v.Begin(r)
	if err != nil || id.Service != "s3" {
		return nil, nil, errors.Join(err, fmt.Errorf("%+v", id))
	}
	p, err := sig.Payload(strings.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	got, err := io.ReadAll(p)
	return got, p, err
}

func TestChunkedExample(t *testing.T) {
	r, body, v := chunkedExample()
	got, p, err := payloadOf(t, v, r, body)
	if err != nil || len(got) != 66560 || strings.Trim(string(got), "a") != "" || p.Length != 66560 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"another byte":      {strings.Replace(body, "aa", "ab", 1), ErrMismatch},
		"in the last chunk": {strings.Replace(body, "a\r\n0", "b\r\n0", 1), ErrMismatch},
		"without the end":   {body[:strings.LastIndex(body, "0;chunk")], ErrBody},
		"end of another":    {strings.Replace(body, "b6c6", "b6c7", 1), ErrMismatch},
		"more behind":       {body + "x", ErrBody},
		"no signature":      {strings.Replace(body, ";chunk-signature=ad80", ";signature=ad80", 1), ErrMismatch},
		"too long":          {"10001" + body[5:], ErrBody},
		"no size":           {"x" + body, ErrBody},
		"trailer":           {strings.TrimSuffix(body, "\r\n") + "a:b\r\n\r\n", ErrBody},
	} {
		if _, _, err := payloadOf(t, v, r, c.body); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	r.Header.Set("X-Amz-Decoded-Content-Length", "66559")
	if _, _, err := payloadOf(t, v, r, body); !errors.Is(err, ErrMismatch) { // it is signed
		t.Errorf("another length: %v", err)
	}
}

// A trailer that is signed has to be what was signed.
func TestSignedTrailer(t *testing.T) {
	s := &chunkSigner{key: []byte("key"), time: "t", scope: "s", last: "seed"}
	sign := func(kind, what string) string {
		s.last = hex.EncodeToString(mac(s.key, kind+"\n"+s.time+"\n"+s.scope+"\n"+s.last+"\n"+what))
		return s.last
	}
	sum := func(text string) string { b := sha256.Sum256([]byte(text)); return hex.EncodeToString(b[:]) }
	one := sign("AWS4-HMAC-SHA256-PAYLOAD", sum("")+"\n"+sum("hello"))
	end := sign("AWS4-HMAC-SHA256-PAYLOAD", sum("")+"\n"+sum(""))
	last := sign("AWS4-HMAC-SHA256-TRAILER", sum("x-amz-checksum-crc32:NhCmhg==\n"))
	body := "5;chunk-signature=" + one + "\r\nhello\r\n0;chunk-signature=" + end +
		"\r\nx-amz-checksum-crc32:NhCmhg==\r\nx-amz-trailer-signature:" + last + "\r\n\r\n"
	read := func(body string) (string, *chunkReader, error) {
		c := newChunkReader(strings.NewReader(body), 5)
		c.signer = &chunkSigner{key: s.key, time: "t", scope: "s", last: "seed"}
		c.skipSignatures, c.trailers = true, true
		b, err := io.ReadAll(c)
		return string(b), c, err
	}
	if got, c, err := read(body); got != "hello" || err != nil || c.trailer["x-amz-checksum-crc32"] != "NhCmhg==" {
		t.Errorf("%q, %v, %v", got, err, c.trailer)
	}
	for _, other := range []string{strings.Replace(body, "NhCm", "NhCn", 1),
		strings.Replace(body, "x-amz-trailer-signature:"+last+"\r\n", "", 1)} {
		if _, _, err := read(other); !errors.Is(err, ErrMismatch) {
			t.Errorf("%q: %v", other, err)
		}
	}
}

// FuzzChunks: whatever comes, no more is read than was said, and what is taken
// is what its chunks hold.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n"), 5)
	f.Add([]byte("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), 5)
	f.Add([]byte("0\r\n"), 0)
	f.Fuzz(func(t *testing.T, body []byte, length int) {
		c := newChunkReader(bytes.NewReader(body), int64(length))
		c.trailers = true
		got, err := io.ReadAll(c)
		if len(got) > max(length, 0) || len(got) > len(body) {
			t.Fatalf("%d bytes of %d", len(got), length)
		}
		if err != nil {
			return
		}
		if len(got) != length {
			t.Fatalf("%d bytes, want %d", len(got), length)
		}
		// It is the same in one chunk.
		var one bytes.Buffer
		if length > 0 {
			fmt.Fprintf(&one, "%x\r\n%s\r\n", length, got)
		}
		one.WriteString("0\r\n\r\n")
		again, err := io.ReadAll(newChunkReader(&one, int64(length)))
		if err != nil || !bytes.Equal(again, got) {
			t.Fatalf("%q, %v, want %q", again, err, got)
		}
	})
}

// signV2 makes a URL as botocore 1.44's HmacV1QueryAuth does.
func signV2(method, path string, expires time.Time, signed string, header http.Header, secret string) string {
	at := fmt.Sprint(expires.Unix())
	resource := path
	if signed != "" {
		resource += "?" + signed
	}
	text := method + "\n" + header.Get("Content-Md5") + "\n" + header.Get("Content-Type") + "\n" + at + "\n" + resource
	h := hmac.New(sha1.New, []byte(secret))
	h.Write([]byte(text))
	q := url.Values{"AWSAccessKeyId": {testKey}, "Expires": {at},
		"Signature": {base64.StdEncoding.EncodeToString(h.Sum(nil))}}
	if signed != "" {
		return path + "?" + signed + "&" + q.Encode()
	}
	return path + "?" + q.Encode()
}

func TestVersion2(t *testing.T) {
	now := time.Now()
	soon := now.Add(time.Hour)
	for name, c := range map[string]struct {
		target string
		header http.Header
		want   error
	}{
		"right":       {signV2("GET", "/b/a%20b", soon, "", nil, testSecret), nil, nil},
		"subresource": {signV2("GET", "/b/k", soon, "uploadId=x", nil, testSecret), nil, nil},
		"another key": {strings.Replace(signV2("GET", "/b/k", soon, "", nil, testSecret), "/k", "/l", 1), nil,
			ErrMismatch},
		"another secret": {signV2("GET", "/b/k", soon, "", nil, "x"), nil, ErrMismatch},
		"another method": {signV2("PUT", "/b/k", soon, "", nil, testSecret), nil, ErrMismatch},
		"more":           {signV2("GET", "/b/k", soon, "", nil, testSecret) + "&acl", nil, ErrMismatch},
		"expired":        {signV2("GET", "/b/k", now.Add(-time.Second), "", nil, testSecret), nil, ErrExpired},
		"too long":       {signV2("GET", "/b/k", now.Add(8*24*time.Hour), "", nil, testSecret), nil, ErrIncomplete},
		"twice":          {signV2("GET", "/b/k", soon, "", nil, testSecret) + "&Expires=1", nil, ErrIncomplete},
		"no signature":   {"/b/k?AWSAccessKeyId=" + testKey + "&Expires=1", nil, ErrIncomplete},
		"unknown":        {"/b/k?AWSAccessKeyId=x&Signature=x&Expires=" + fmt.Sprint(soon.Unix()), nil, ErrUnknownKey},
		"both": {signV2("GET", "/b/k", soon, "", nil, testSecret),
			http.Header{"Authorization": {"AWS4-HMAC-SHA256 x"}}, ErrBoth},
		"header": {signV2("GET", "/b/k", soon, "", nil, testSecret), http.Header{"X-Amz-Acl": {"x"}}, ErrMismatch},
	} {
		r := httptest.NewRequest("GET", c.target, nil)
		if c.header != nil {
			r.Header = c.header
		}
		_, _, err := payloadOf(t, testVerifier(), r, "")
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if sig, _, err := testVerifier().Begin(r); err == nil && sig.Check(nil) == nil {
			t.Errorf("%s: taken for another service", name)
		}
	}
}
