package s3

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

const (
	// maxPut is what one PutObject, UploadPart or copy may have, and maxUser its
	// x-amz-meta-*, names and values (S3 user guide, "Uploading objects" and
	// "Working with object metadata").
	maxPut  = 5 << 30
	maxUser = 2 << 10

	metaPrefix = "X-Amz-Meta-"
)

// storedHeaders are those that an object's GET answers with again.
var storedHeaders = []string{"Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language",
	"Expires"}

// unserved are headers whose wish cannot be done, so that it is refused.
var unserved = []string{"X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Customer-Algorithm",
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id",
	"X-Amz-Tagging", "X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Legal-Hold", "X-Amz-Object-Lock-Retain-Until-Date",
	"X-Amz-Website-Redirect-Location", "X-Amz-Write-Offset-Bytes", "X-Amz-Bucket-Object-Lock-Enabled"}

// checkWishes refuses what cannot be done.
func checkWishes(h http.Header) error {
	for _, name := range unserved {
		if v := h.Get(name); v != "" && v != "false" {
			return notImplemented("the header %s is not served here", strings.ToLower(name))
		}
	}
	for name := range h {
		if strings.HasPrefix(name, "X-Amz-Grant-") {
			return errACL
		}
	}
	switch h.Get("X-Amz-Acl") {
	case "", "private", "bucket-owner-full-control", "bucket-owner-read":
	default:
		return errACL
	}
	if class := h.Get("X-Amz-Storage-Class"); class != "" && class != "STANDARD" {
		return wire.Errorf(http.StatusBadRequest, "InvalidStorageClass", "there is the storage class STANDARD alone")
	}
	return nil
}

var errACL = wire.Errorf(http.StatusBadRequest, "AccessControlListNotSupported",
	"The bucket does not allow ACLs: who may do what is in policies, and objects.public names buckets for everybody")

// attributes are what a request says of an object beside its content.
func attributes(h http.Header) (objects.Attributes, error) {
	a := objects.Attributes{Headers: map[string]string{}, User: map[string]string{}}
	if err := checkWishes(h); err != nil {
		return a, err
	}
	for _, name := range storedHeaders {
		value := h.Get(name)
		if name == "Content-Encoding" {
			value = withoutChunked(value)
		}
		if value != "" {
			a.Headers[name] = value
		}
	}
	size := 0
	for name, values := range h {
		if name, ok := strings.CutPrefix(name, metaPrefix); ok {
			value := strings.Join(values, ",")
			if !utf8.ValidString(value) {
				return a, invalid("%s%s is no UTF-8", metaPrefix, name)
			}
			a.User[strings.ToLower(name)] = value
			size += len(name) + len(value)
		}
	}
	if size > maxUser {
		return a, fmt.Errorf("%w: x-amz-meta-* have %d bytes, want at most %d", objects.ErrAttributes, size, maxUser)
	}
	return a, nil
}

// withoutChunked is a Content-Encoding without aws-chunked, which is of the
// request's body and not of the object.
func withoutChunked(value string) string {
	var left []string
	for one := range strings.SplitSeq(value, ",") {
		if one = strings.TrimSpace(one); one != "" && one != "aws-chunked" {
			left = append(left, one)
		}
	}
	return strings.Join(left, ", ")
}

// describe are the headers of an object.
func describe(o objects.Info) map[string]string {
	h := map[string]string{
		"ETag":          quoted(o.ETag),
		"Last-Modified": o.Modified.UTC().Format(http.TimeFormat),
		"Accept-Ranges": "bytes",
		"Content-Type":  "binary/octet-stream", // S3's default
	}
	maps.Copy(h, o.Headers)
	for name, value := range o.User {
		h["x-amz-meta-"+name] = value
	}
	return h
}

func quoted(etag string) string { return `"` + etag + `"` }

// theSum is the one checksum that an object is told to have: what was asked for
// when it was put, else the one that all have.
func theSum(sums map[objects.Algorithm]string) (objects.Algorithm, string) {
	for _, a := range objects.Algorithms {
		if sums[a] != "" && a != objects.CRC64NVME {
			return a, sums[a]
		}
	}
	return objects.CRC64NVME, sums[objects.CRC64NVME]
}

func sumHeader(a objects.Algorithm) string { return "x-amz-checksum-" + strings.ToLower(string(a)) }

func sumType(sum string) string {
	if objects.Composite(sum) {
		return "COMPOSITE"
	}
	return "FULL_OBJECT"
}

// describeSum adds the checksum to headers.
func describeSum(h map[string]string, sums map[objects.Algorithm]string) {
	if a, sum := theSum(sums); sum != "" {
		h[sumHeader(a)], h["x-amz-checksum-type"] = sum, sumType(sum)
	}
}

// A claim is what a request says of its content's checksums.
type claim struct {
	md5     string // hexadecimal; "": nothing
	asked   []objects.Algorithm
	sums    map[objects.Algorithm]string // in headers
	trailer objects.Algorithm            // that the sum of which comes behind the content; "": none
}

// claimed reads the checksums that a request's header has.
func claimed(h http.Header) (c claim, err error) {
	c.sums = map[objects.Algorithm]string{}
	if md5, ok := h["Content-Md5"]; ok {
		b, err := base64.StdEncoding.DecodeString(md5[0])
		if err != nil || len(b) != 16 {
			return c, wire.Errorf(http.StatusBadRequest, "InvalidDigest", "The Content-MD5 you specified is not valid.")
		}
		c.md5 = hex.EncodeToString(b)
	}
	for _, a := range objects.Algorithms {
		if sum := h.Get(sumHeader(a)); sum != "" {
			if !a.CheckSum(sum) {
				return c, invalidRequest("Value for %s header is invalid.", sumHeader(a))
			}
			c.sums[a], c.asked = sum, append(c.asked, a)
		}
		if strings.EqualFold(strings.TrimSpace(h.Get("X-Amz-Trailer")), sumHeader(a)) {
			c.trailer, c.asked = a, append(c.asked, a)
		}
	}
	if t := h.Get("X-Amz-Trailer"); t != "" && c.trailer == "" {
		return c, invalidRequest("The value specified in the x-amz-trailer header is not supported")
	}
	for _, name := range []string{"X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Checksum-Algorithm"} {
		if a := objects.Algorithm(strings.ToUpper(h.Get(name))); a != "" {
			if a.New() == nil {
				return c, invalidRequest("Checksum algorithm provided is unsupported.")
			}
			if !slices.Contains(c.asked, a) {
				c.asked = append(c.asked, a)
			}
		}
	}
	if len(c.sums) > 1 {
		return c, invalidRequest("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
	}
	return c, nil
}

// check compares what was written with the claim. trailer is what came behind it.
func (c claim) check(w *objects.Writer, trailer func(name string) string) error {
	if c.md5 != "" && c.md5 != w.MD5() {
		return errMD5
	}
	return c.compare(w.Sums(), trailer)
}

// checkBytes is check for a body that is held.
func (c claim) checkBytes(b []byte, trailer func(name string) string) error {
	if sum := md5.Sum(b); c.md5 != "" && c.md5 != hex.EncodeToString(sum[:]) {
		return errMD5
	}
	have := map[objects.Algorithm]string{}
	for _, a := range c.asked {
		h := a.New()
		h.Write(b)
		have[a] = base64.StdEncoding.EncodeToString(h.Sum(nil))
	}
	return c.compare(have, trailer)
}

var errMD5 = wire.Errorf(http.StatusBadRequest, "BadDigest",
	"The Content-MD5 you specified did not match what we received.")

// compare compares checksums with those that were claimed.
func (c claim) compare(have map[objects.Algorithm]string, trailer func(name string) string) error {
	if c.trailer != "" {
		sum := trailer(sumHeader(c.trailer))
		if sum == "" {
			return invalidRequest("the trailer %s is missing", sumHeader(c.trailer))
		}
		c.sums[c.trailer] = sum
	}
	for a, sum := range c.sums {
		if have[a] != sum {
			return fmt.Errorf("%w: %s is %s, not %s", objects.ErrChecksum, a, have[a], sum)
		}
	}
	return nil
}

// unmodified says what the four conditions on a time and an ETag say, by the names
// of their headers: 0 to go on, else the status to answer with (RFC 9110, 13.2.2).
func unmodified(h http.Header, prefix string, o objects.Info) int {
	match, noneMatch := h.Get(prefix+"If-Match"), h.Get(prefix+"If-None-Match")
	modified := o.Modified.Truncate(time.Second)
	switch since, ok := httpTime(h.Get(prefix + "If-Unmodified-Since")); {
	case match != "" && !objects.Matches(match, o.ETag), match == "" && ok && modified.After(since):
		return http.StatusPreconditionFailed
	}
	switch since, ok := httpTime(h.Get(prefix + "If-Modified-Since")); {
	case noneMatch != "" && objects.Matches(noneMatch, o.ETag), noneMatch == "" && ok && !modified.After(since):
		return http.StatusNotModified
	}
	return 0
}

func httpTime(text string) (time.Time, bool) {
	for _, format := range []string{http.TimeFormat, time.RFC850, time.ANSIC, time.RFC3339} {
		if t, err := time.Parse(format, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// condition is that of a write.
func condition(r *wire.Request) (objects.Condition, error) {
	none := r.Header.Get("If-None-Match")
	if none != "" && none != "*" {
		return objects.Condition{}, notImplemented("If-None-Match of a write takes * alone")
	}
	return objects.Condition{Absent: none == "*", Match: r.Header.Get("If-Match"), Still: r.StillMay}, nil
}

// stamp is a time as XML has it.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
