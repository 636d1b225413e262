package s3

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

// FuzzRange: whatever a Range says, the span is within the object and not empty.
func FuzzRange(f *testing.F) {
	for _, text := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=9223372036854775807-", "bytes=-0", "bytes=1-0"} {
		f.Add(text, int64(10))
	}
	f.Fuzz(func(t *testing.T, text string, size int64) {
		if size < 0 {
			return
		}
		s, err := rangeOf(text, size)
		if err != nil || s == nil {
			return
		}
		if s.from < 0 || s.n <= 0 || s.from+s.n > size {
			t.Fatalf("%q of %d: %+v", text, size, s)
		}
	})
}

// FuzzList: whatever a list's query says, it is refused or bounded, and a token
// leads back to where it came from.
func FuzzList(f *testing.F) {
	f.Add("prefix=a&delimiter=/&max-keys=7&encoding-type=url", "key", "folded/")
	f.Add("max-keys=-1", "", "")
	f.Fuzz(func(t *testing.T, text, after, folded string) {
		q, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		if l, err := parseQuery(q, "max-keys"); err == nil && (l.Max < 0 || l.Max > maxKeys) {
			t.Fatalf("%q: %+v", text, l)
		}
		if back, err := url.PathUnescape(escape(after)); err != nil || back != after {
			t.Fatalf("%q comes back as %q, %v", after, back, err)
		}
		a, fo, err := parseToken(newToken(after, folded))
		if after != "" && (err != nil || a != after || fo != folded) {
			t.Fatalf("%q %q come back as %q %q, %v", after, folded, a, fo, err)
		}
		_, _, _ = parseToken(text)
		_, _, _ = parseToken(base64.RawURLEncoding.EncodeToString([]byte(text)))
	})
}

// FuzzXML: whatever a body is, no more comes of it than may.
func FuzzXML(f *testing.F) {
	f.Add([]byte(`<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object></Delete>`))
	f.Add([]byte(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>`))
	f.Add([]byte(`<!DOCTYPE d [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>`))
	f.Add([]byte(strings.Repeat("<a>", 1000)))
	f.Fuzz(func(t *testing.T, text []byte) {
		if in, err := parseDelete(text); err == nil && (len(in.Objects) == 0 || len(in.Objects) > maxDelete) {
			t.Fatalf("%q: %+v", text, in)
		}
		if parts, err := parseCompletion(text); err == nil && (len(parts) == 0 || len(parts) > maxPart) {
			t.Fatalf("%q: %+v", text, parts)
		}
	})
}

// FuzzHeaders: attributes that are taken are bounded, and checksums are such.
func FuzzHeaders(f *testing.F) {
	f.Add("X-Amz-Meta-A", "b", "Content-Encoding", "aws-chunked, gzip")
	f.Add("Content-Md5", "1B2M2Y8AsgTpgAmY7PhCfg==", "X-Amz-Checksum-Crc32", "AAAAAA==")
	f.Fuzz(func(t *testing.T, name, value, name2, value2 string) {
		h := map[string][]string{name: {value}, name2: {value2}}
		if a, err := attributes(h); err == nil {
			size := 0
			for k, v := range a.User {
				size += len(k) + len(v)
			}
			if size > 2*maxUser || strings.Contains(a.Headers["Content-Encoding"], "aws-chunked,") {
				t.Fatalf("%q: %+v", h, a)
			}
		}
		if c, err := claimed(h); err == nil {
			for alg, sum := range c.sums {
				if !alg.CheckSum(sum) {
					t.Fatalf("%q: %+v", h, c)
				}
			}
		}
		_ = unmodified(h, "", objects.Info{ETag: value})
	})
}
