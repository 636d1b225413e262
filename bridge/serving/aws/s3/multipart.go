package s3

import (
	"encoding/xml"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

// maxPart is the highest number of a part (S3 user guide, "Amazon S3 multipart
// upload limits").
const maxPart = 10_000

// upload is the open one that a request names.
func (a *api) upload(r *wire.Request) (bucket string, u objects.Upload, err error) {
	bucket, key, err := a.at(r)
	if err == nil {
		u, err = a.store.Upload(bucket, key, r.Query.Get("uploadId"))
	}
	return bucket, u, err
}

func (a *api) createUpload(r *wire.Request) (*wire.Reply, error) {
	bucket, key, err := a.at(r)
	if err != nil {
		return nil, err
	}
	u := objects.Upload{Key: key, Owner: r.Caller.Principal()}
	if u.Attributes, err = attributes(r.Header); err != nil {
		return nil, err
	}
	if u.Algorithm, u.Composite, err = wantedSum(r.Header); err != nil {
		return nil, err
	}
	if u, err = a.store.Begin(bucket, u); err != nil {
		return nil, err
	}
	h := map[string]string{}
	if u.Algorithm != "" {
		h["x-amz-checksum-algorithm"], h["x-amz-checksum-type"] = string(u.Algorithm), "FULL_OBJECT"
		if u.Composite {
			h["x-amz-checksum-type"] = "COMPOSITE"
		}
	}
	return &wire.Reply{Header: h, XML: &struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
		Bucket   string
		Key      string
		UploadID string `xml:"UploadId"`
	}{Bucket: bucket, Key: key, UploadID: u.ID}}, nil
}

// wantedSum is the checksum that the object of an upload is to have, and whether
// it is one of the parts' checksums.
func wantedSum(h http.Header) (a objects.Algorithm, composite bool, err error) {
	a = objects.Algorithm(strings.ToUpper(h.Get("X-Amz-Checksum-Algorithm")))
	kind := strings.ToUpper(h.Get("X-Amz-Checksum-Type"))
	switch {
	case a == "" && kind == "":
		return "", false, nil
	case a == "" || a.New() == nil:
		return "", false, invalidRequest("Checksum algorithm provided is unsupported.")
	case kind == "":
		return a, a != objects.CRC64NVME, nil
	case kind == "FULL_OBJECT" && a.Whole():
		return a, false, nil
	case kind == "COMPOSITE" && a != objects.CRC64NVME:
		return a, true, nil
	}
	return "", false, invalidRequest("The %.20s checksum type cannot be used with the %s checksum algorithm.", kind, a)
}

func partNumber(r *wire.Request) (int, error) {
	n, err := strconv.Atoi(r.Query.Get("partNumber"))
	if err != nil || n < 1 || n > maxPart {
		return 0, invalid("Part number must be an integer between 1 and 10000, inclusive")
	}
	return n, nil
}

func (a *api) uploadPart(r *wire.Request) (*wire.Reply, error) {
	n, err := partNumber(r)
	if err != nil {
		return nil, err
	}
	bucket, u, err := a.upload(r)
	if err != nil {
		return nil, err
	}
	if err := checkWishes(r.Header); err != nil {
		return nil, err
	}
	w, _, err := a.receive(r, bucket, u.Algorithm)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	info, err := w.CommitPart(u, n)
	if err != nil {
		return nil, err
	}
	h := map[string]string{"ETag": quoted(info.ETag)}
	if alg, sum := theSum(info.Sums); sum != "" {
		h[sumHeader(alg)] = sum
	}
	return &wire.Reply{Header: h}, nil
}

func (a *api) uploadPartCopy(r *wire.Request) (*wire.Reply, error) {
	n, err := partNumber(r)
	if err != nil {
		return nil, err
	}
	bucket, u, err := a.upload(r)
	if err != nil {
		return nil, err
	}
	o, _, err := a.source(r)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	part := &span{0, o.Size}
	if text := r.Header.Get("X-Amz-Copy-Source-Range"); text != "" {
		if part, err = rangeOf(text, o.Size); err != nil {
			return nil, err
		}
		if _, last, _ := strings.Cut(text, "-"); part == nil || strconv.FormatInt(part.from+part.n-1, 10) != last {
			return nil, invalid("The x-amz-copy-source-range value must be of the form bytes=first-last where "+
				"first and "+
				"last are the zero-based offsets of the first and last bytes to copy, of %d", o.Size)
		}
	}
	data, err := o.Range(part.from, part.n)
	if err != nil {
		return nil, err
	}
	info, err := a.copied(r, bucket, data, part.n, []objects.Algorithm{u.Algorithm},
		func(w *objects.Writer) (objects.Info, error) { return w.CommitPart(u, n) })
	if err != nil {
		return nil, err
	}
	return &wire.Reply{XML: &struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyPartResult"`
		copyResult
	}{copyResult: resultOf(info)}}, nil
}

// completion is the body of CompleteMultipartUpload.
type completion struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Parts   []struct {
		PartNumber int
		ETag       string
		sumsXML
	} `xml:"Part"`
}

func parseCompletion(text []byte) ([]objects.Part, error) {
	var in completion
	if xml.Unmarshal(text, &in) != nil || len(in.Parts) == 0 || len(in.Parts) > maxPart {
		return nil, errMalformedXML
	}
	parts := make([]objects.Part, len(in.Parts))
	for i, p := range in.Parts {
		parts[i] = objects.Part{Number: p.PartNumber, ETag: p.ETag, Sums: p.all()}
	}
	return parts, nil
}

func (a *api) completeUpload(r *wire.Request) (*wire.Reply, error) {
	bucket, key, err := a.at(r)
	if err != nil {
		return nil, err
	}
	id := r.Query.Get("uploadId")
	u, err := a.store.Upload(bucket, key, id)
	if errors.Is(err, objects.ErrNoUpload) {
		if info, ok := a.store.Completed(bucket, key, id); ok { // the answer was lost
			return completed(r, info), nil
		}
	}
	if err != nil {
		return nil, err
	}
	cond, err := condition(r)
	if err != nil {
		return nil, err
	}
	text, err := r.ReadAll(maxXML)
	if err != nil {
		return nil, err
	}
	parts, err := parseCompletion(text)
	if err != nil {
		return nil, err
	}
	want := map[objects.Algorithm]string{}
	for _, alg := range objects.Algorithms {
		if sum := r.Header.Get(sumHeader(alg)); sum != "" {
			want[alg] = sum
		}
	}
	var info objects.Info
	err = r.Slowly(func() (err error) {
		info, err = a.store.Complete(r.Context(), bucket, u, parts, want, cond)
		return err
	})
	if err != nil {
		return nil, err
	}
	return completed(r, info), nil
}

func completed(r *wire.Request, info objects.Info) *wire.Reply {
	return &wire.Reply{XML: &struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Location string
		Bucket   string
		Key      string
		ETag     string
		sumsXML
	}{Location: "/" + r.Path("bucket") + "/" + r.Path("key"), Bucket: r.Path("bucket"), Key: r.Path("key"),
		ETag: quoted(info.ETag), sumsXML: *oneSum(info.Sums)}}
}

func (a *api) abortUpload(r *wire.Request) (*wire.Reply, error) {
	bucket, u, err := a.upload(r)
	if err != nil {
		return nil, err
	}
	return &wire.Reply{Status: http.StatusNoContent}, a.store.Abort(bucket, u)
}

func (a *api) listParts(r *wire.Request) (*wire.Reply, error) {
	bucket, u, err := a.upload(r)
	if err != nil {
		return nil, err
	}
	q, err := parseQuery(r.Query, "max-parts")
	if err != nil {
		return nil, err
	}
	after := 0
	if text := r.Query.Get("part-number-marker"); text != "" {
		if after, err = strconv.Atoi(text); err != nil || after < 0 {
			return nil, invalid("part-number-marker is no number")
		}
	}
	parts, more, err := a.store.Parts(bucket, u, after, q.Max)
	if err != nil {
		return nil, err
	}
	type part struct {
		PartNumber   int
		LastModified string
		ETag         string
		Size         int64
		sumsXML
	}
	out := struct {
		XMLName              xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
		Bucket               string
		Key                  string
		UploadID             string `xml:"UploadId"`
		PartNumberMarker     int
		NextPartNumberMarker int
		MaxParts             int
		IsTruncated          bool
		Parts                []part `xml:"Part"`
		Initiator            owner
		Owner                owner
		StorageClass         string
		ChecksumAlgorithm    string `xml:",omitempty"`
		ChecksumType         string `xml:",omitempty"`
	}{Bucket: bucket, Key: q.encode(u.Key), UploadID: u.ID, PartNumberMarker: after, NextPartNumberMarker: after,
		MaxParts: q.max, IsTruncated: more, Initiator: owner{u.Owner, u.Owner}, Owner: a.owner, StorageClass: "STANDARD"}
	if out.ChecksumAlgorithm = string(u.Algorithm); u.Algorithm != "" {
		out.ChecksumType = "FULL_OBJECT"
		if u.Composite {
			out.ChecksumType = "COMPOSITE"
		}
	}
	for _, p := range parts {
		x := part{p.Number, stamp(p.Info.Modified), quoted(p.ETag), p.Info.Size, *oneSum(p.Sums)}
		x.ChecksumType = ""
		out.Parts, out.NextPartNumberMarker = append(out.Parts, x), p.Number
	}
	return &wire.Reply{XML: &out}, nil
}

type uploadList struct {
	XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
	Bucket             string
	KeyMarker          string
	UploadIDMarker     string `xml:"UploadIdMarker"`
	NextKeyMarker      string `xml:",omitempty"`
	NextUploadIDMarker string `xml:"NextUploadIdMarker,omitempty"`
	Prefix             string
	Delimiter          string `xml:",omitempty"`
	EncodingType       string `xml:",omitempty"`
	MaxUploads         int
	IsTruncated        bool
	Uploads            []listedUpload `xml:"Upload"`
	CommonPrefixes     []commonPrefix `xml:"CommonPrefixes"`
}

type listedUpload struct {
	Key          string
	UploadID     string `xml:"UploadId"`
	Initiator    owner
	Owner        owner
	StorageClass string
	Initiated    string
}

func (a *api) listUploads(r *wire.Request) (*wire.Reply, error) {
	q, err := parseQuery(r.Query, "max-uploads")
	if err != nil {
		return nil, err
	}
	all, err := a.store.Uploads(r.Context(), r.Path("bucket"), q.Prefix)
	if err != nil {
		return nil, err
	}
	key, id := r.Query.Get("key-marker"), r.Query.Get("upload-id-marker")
	out := uploadList{Bucket: r.Path("bucket"), KeyMarker: q.encode(key), UploadIDMarker: id,
		Prefix: q.encode(q.Prefix), Delimiter: q.encode(q.Delimiter), EncodingType: q.url, MaxUploads: q.max}
	last := ""
	for i, u := range all {
		of := u.Key
		if at := strings.Index(u.Key[len(q.Prefix):], q.Delimiter); q.Delimiter != "" && at >= 0 {
			of = u.Key[:len(q.Prefix)+at+len(q.Delimiter)]
		}
		switch {
		case of < key || of == key && (id == "" || of != u.Key), of != u.Key && of == last:
			continue
		case of == key: // behind the upload that the marker names
			if behind(all[:i], key, id) {
				break
			}
			continue
		}
		if len(out.Uploads)+len(out.CommonPrefixes) == q.Max {
			out.IsTruncated = true
			break
		}
		if last = of; of != u.Key {
			out.CommonPrefixes = append(out.CommonPrefixes, commonPrefix{q.encode(of)})
			out.NextKeyMarker, out.NextUploadIDMarker = q.encode(of), ""
			continue
		}
		out.Uploads = append(out.Uploads, listedUpload{q.encode(u.Key), u.ID, owner{u.Owner, u.Owner}, a.owner, "STANDARD",
			stamp(u.Made)})
		out.NextKeyMarker, out.NextUploadIDMarker = q.encode(u.Key), u.ID
	}
	if !out.IsTruncated {
		out.NextKeyMarker, out.NextUploadIDMarker = "", ""
	}
	return &wire.Reply{XML: &out}, nil
}

// behind says whether one of the uploads before is the one that a marker names.
func behind(before []objects.Upload, key, id string) bool {
	for _, u := range before {
		if u.Key == key && u.ID == id {
			return true
		}
	}
	return false
}
