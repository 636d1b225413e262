package s3

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

// getObject is HeadObject too.
func (a *api) getObject(r *wire.Request) (*wire.Reply, error) {
	o, err := a.open(r)
	if err != nil {
		return nil, err
	}
	reply, err := a.reply(r, o)
	if err != nil || reply.Data == nil {
		return reply, errors.Join(err, o.Close())
	}
	return reply, nil
}

// open opens the object of a request. Who may not list the bucket does not learn
// that there is none.
func (a *api) open(r *wire.Request) (*objects.Object, error) {
	bucket, key, err := a.at(r)
	if err != nil {
		return nil, err
	}
	o, err := a.store.Open(bucket, key)
	if errors.Is(err, sink.ErrNotFound) && !r.Public() {
		if denied := r.Authorize("s3:ListBucket", bucketARN(bucket)); denied != nil {
			return nil, denied
		}
	}
	return o, err
}

// body is the part of an object that is sent.
type body struct {
	io.Reader
	io.Closer
}

func (a *api) reply(r *wire.Request, o *objects.Object) (*wire.Reply, error) {
	h := describe(o.Info)
	switch unmodified(r.Header, "", o.Info) {
	case http.StatusPreconditionFailed:
		return nil, objects.ErrCondition
	case http.StatusNotModified:
		delete(h, "Content-Type")
		return &wire.Reply{Status: http.StatusNotModified, Header: h}, nil
	}
	for name, as := range overrides {
		if v := r.Query.Get(name); v != "" {
			h[as] = v
		}
	}
	status, from, n := http.StatusOK, int64(0), o.Size
	part, err := a.partOf(r, o.Info)
	if err != nil {
		return nil, err
	}
	if part == nil {
		part, err = rangeOf(r.Header.Get("Range"), o.Size)
	}
	switch {
	case err != nil:
		return nil, err
	case part != nil:
		status, from, n = http.StatusPartialContent, part.from, part.n
		h["Content-Range"] = fmt.Sprintf("bytes %d-%d/%d", from, from+n-1, o.Size)
		if r.Query.Has("partNumber") && o.Parts > 0 {
			h["x-amz-mp-parts-count"] = strconv.Itoa(o.Parts)
		}
	}
	if strings.EqualFold(r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") && n == o.Size {
		describeSum(h, o.Sums)
	}
	data, err := o.Range(from, n)
	return &wire.Reply{Status: status, Header: h, Size: n, Data: body{data, o}}, err
}

// overrides are names of the query that say what a header of the answer is.
var overrides = map[string]string{
	"response-cache-control":       "Cache-Control",
	"response-content-disposition": "Content-Disposition",
	"response-content-encoding":    "Content-Encoding",
	"response-content-language":    "Content-Language",
	"response-content-type":        "Content-Type",
	"response-expires":             "Expires",
}

// A span is some of an object's bytes.
type span struct{ from, n int64 }

// rangeOf is the span that a header Range means, nil for all: also of one that S3
// does not take, as several ranges.
func rangeOf(header string, size int64) (*span, error) {
	text, ok := strings.CutPrefix(header, "bytes=")
	first, last, ok2 := strings.Cut(text, "-")
	if !ok || !ok2 {
		return nil, nil
	}
	from, err := strconv.ParseUint(first, 10, 63)
	to := uint64(1)<<63 - 1
	if err2 := error(nil); last != "" {
		if to, err2 = strconv.ParseUint(last, 10, 63); err2 != nil {
			return nil, nil
		}
	}
	switch {
	case first == "" && last == "", first != "" && err != nil, first != "" && to < from:
		return nil, nil
	case first == "": // the last bytes
		n := min(int64(to), size)
		if n == 0 {
			return nil, errRange
		}
		return &span{size - n, n}, nil
	case int64(from) >= size:
		return nil, errRange
	}
	return &span{int64(from), min(int64(to), size-1) - int64(from) + 1}, nil
}

var errRange = wire.Errorf(http.StatusRequestedRangeNotSatisfiable, "InvalidRange",
	"The requested range is not satisfiable")

// partOf is the span of the part that ?partNumber names, nil for no such name.
func (a *api) partOf(r *wire.Request, o objects.Info) (*span, error) {
	text, ok := r.Query["partNumber"]
	if !ok {
		return nil, nil
	}
	n, err := strconv.Atoi(text[0])
	switch {
	case err != nil || n < 1 || r.Header.Get("Range") != "":
		return nil, invalid("partNumber is no number from 1 on, or there is a Range beside it")
	case n > max(o.Parts, 1):
		return nil, wire.Errorf(http.StatusRequestedRangeNotSatisfiable, "InvalidPartNumber",
			"The requested partnumber is not satisfiable")
	case o.Parts <= 1:
		return &span{0, o.Size}, nil
	case o.PartSize == 0:
		return nil, notImplemented("the parts of this object have several sizes, which are not kept")
	}
	from := int64(n-1) * o.PartSize
	return &span{from, min(o.PartSize, o.Size-from)}, nil
}

func (a *api) putObject(r *wire.Request) (*wire.Reply, error) {
	bucket, key, err := a.at(r)
	if err != nil {
		return nil, err
	}
	attributes, err := attributes(r.Header)
	if err != nil {
		return nil, err
	}
	cond, err := condition(r)
	if err != nil {
		return nil, err
	}
	w, claim, err := a.receive(r, bucket)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	info, err := w.Commit(key, attributes, cond)
	if err != nil {
		return nil, err
	}
	return &wire.Reply{Header: written(info, claim)}, nil
}

// written are the headers of the answer to a write.
func written(info objects.Info, c claim) map[string]string {
	h := map[string]string{"ETag": quoted(info.ETag)}
	describeSum(h, info.Sums)
	return h
}

// receive writes the content of a request beside the buckets, and compares it
// with what its header says.
func (a *api) receive(r *wire.Request, bucket string, more ...objects.Algorithm) (*objects.Writer, claim, error) {
	claim, err := claimed(r.Header)
	if err != nil {
		return nil, claim, err
	}
	size := r.Data.Length
	switch {
	case size < 0:
		return nil, claim, wire.Errorf(http.StatusLengthRequired, "MissingContentLength",
			"You must provide the Content-Length HTTP header.")
	case size > maxPut:
		return nil, claim, wire.Errorf(http.StatusBadRequest, "EntityTooLarge",
			"Your proposed upload exceeds the maximum allowed size: %d bytes, want at most %d", size, int64(maxPut))
	}
	w, err := a.store.Create(bucket, size, append(claim.asked, more...)...)
	if err != nil {
		return nil, claim, err
	}
	n, err := io.CopyBuffer(withoutReadFrom{w}, r.Data, make([]byte, 64<<10))
	if err == nil && n != size {
		err = wire.Errorf(http.StatusBadRequest, "IncompleteBody",
			"You did not provide the number of bytes specified by the Content-Length HTTP header")
	}
	if err == nil {
		err = claim.check(w, r.Data.Trailer)
	}
	if err != nil {
		w.Close()
		return nil, claim, err
	}
	return w, claim, nil
}

// withoutReadFrom has no ReadFrom, so that io.CopyBuffer uses its buffer.
type withoutReadFrom struct{ io.Writer }

func (a *api) deleteObject(r *wire.Request) (*wire.Reply, error) {
	bucket, key, err := a.at(r)
	if err != nil {
		return nil, err
	}
	return &wire.Reply{Status: http.StatusNoContent},
		a.store.Delete(bucket, key, objects.Condition{Match: r.Header.Get("If-Match")})
}

func (a *api) deleteObjects(r *wire.Request) (*wire.Reply, error) {
	bucket, _, err := a.at(r)
	if err != nil {
		return nil, err
	}
	text, err := readBody(r)
	if err != nil {
		return nil, err
	}
	in, err := parseDelete(text)
	if err != nil {
		return nil, err
	}
	type deleted struct{ Key string }
	type failure struct{ Key, Code, Message string }
	out := struct {
		XMLName xml.Name  `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
		Deleted []deleted `xml:"Deleted"`
		Errors  []failure `xml:"Error"`
	}{}
	failed := make([]error, len(in.Objects))
	several(len(in.Objects), func(i int) {
		o := in.Objects[i]
		if failed[i] = r.Authorize("s3:DeleteObject", objectARN(bucket, o.Key)); failed[i] == nil {
			failed[i] = a.store.Delete(bucket, o.Key, objects.Condition{Match: o.ETag})
		}
	})
	for i, o := range in.Objects {
		if err := failed[i]; err != nil {
			e := r.ErrorOf(err)
			out.Errors = append(out.Errors, failure{o.Key, e.Code, e.Message})
		} else if !in.Quiet {
			out.Deleted = append(out.Deleted, deleted{o.Key})
		}
	}
	return &wire.Reply{XML: &out}, nil
}

// several calls f for 0 to n-1, eight at a time, so that they share syncs.
func several(n int, f func(i int)) {
	var running sync.WaitGroup
	next := make(chan int)
	for range min(n, 8) {
		running.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	running.Wait()
}

// deletion is the body of DeleteObjects.
type deletion struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Objects []struct {
		Key  string
		ETag string
	} `xml:"Object"`
}

// maxDelete is how many keys DeleteObjects takes (S3 API reference).
const maxDelete = 1000

func parseDelete(text []byte) (in deletion, err error) {
	if xml.Unmarshal(text, &in) != nil || len(in.Objects) == 0 || len(in.Objects) > maxDelete {
		return in, errMalformedXML
	}
	return in, nil
}

func (a *api) getObjectAttributes(r *wire.Request) (*wire.Reply, error) {
	o, err := a.open(r)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	out := struct {
		XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ GetObjectAttributesResponse"`
		ETag         string   `xml:",omitempty"`
		Checksum     *sumsXML `xml:",omitempty"`
		ObjectParts  *int     `xml:"ObjectParts>PartsCount,omitempty"`
		StorageClass string   `xml:",omitempty"`
		ObjectSize   *int64   `xml:",omitempty"`
	}{}
	for name := range strings.SplitSeq(strings.Join(r.Header["X-Amz-Object-Attributes"], ","), ",") {
		switch strings.TrimSpace(name) {
		case "ETag":
			out.ETag = o.ETag
		case "Checksum":
			if _, sum := theSum(o.Sums); sum != "" {
				out.Checksum = oneSum(o.Sums)
			}
		case "ObjectParts":
			if o.Parts > 0 {
				out.ObjectParts = &o.Parts
			}
		case "StorageClass":
			out.StorageClass = "STANDARD"
		case "ObjectSize":
			out.ObjectSize = &o.Size
		default:
			return nil, invalid("Invalid attribute name specified.")
		}
	}
	return &wire.Reply{XML: &out, Header: map[string]string{
		"Last-Modified": o.Modified.UTC().Format(http.TimeFormat)}}, nil
}

// sumsXML are checksums as answers and requests write them.
type sumsXML struct {
	ChecksumCRC32     string `xml:",omitempty"`
	ChecksumCRC32C    string `xml:",omitempty"`
	ChecksumCRC64NVME string `xml:",omitempty"`
	ChecksumSHA1      string `xml:",omitempty"`
	ChecksumSHA256    string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
}

func (x *sumsXML) at(a objects.Algorithm) *string {
	return map[objects.Algorithm]*string{
		objects.CRC32: &x.ChecksumCRC32, objects.CRC32C: &x.ChecksumCRC32C, objects.CRC64NVME: &x.ChecksumCRC64NVME,
		objects.SHA1: &x.ChecksumSHA1, objects.SHA256: &x.ChecksumSHA256,
	}[a]
}

func oneSum(sums map[objects.Algorithm]string) *sumsXML {
	x := &sumsXML{}
	if a, sum := theSum(sums); sum != "" {
		*x.at(a), x.ChecksumType = sum, sumType(sum)
	}
	return x
}

// all are those that are said.
func (x *sumsXML) all() map[objects.Algorithm]string {
	sums := map[objects.Algorithm]string{}
	for _, a := range objects.Algorithms {
		if s := *x.at(a); s != "" {
			sums[a] = s
		}
	}
	return sums
}
