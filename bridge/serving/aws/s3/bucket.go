package s3

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// namespace is of all answers (S3 API reference).
const namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// maxXML is what a body of XML may have: 10,000 parts of 300 bytes, or 1,000 keys
// of 1,024 bytes that are escaped.
const maxXML = 4 << 20

// maxBuckets is how many one answer of ListBuckets has (S3 API reference).
const maxBuckets = 10_000

type owner struct {
	ID          string
	DisplayName string
}

func (a *api) listBuckets(r *wire.Request) (*wire.Reply, error) {
	buckets, err := a.store.Buckets()
	if err != nil {
		return nil, err
	}
	most, after := maxBuckets, ""
	if text := r.Query.Get("max-buckets"); text != "" {
		if most, err = strconv.Atoi(text); err != nil || most < 1 || most > maxBuckets {
			return nil, invalid("max-buckets: want 1 to %d", maxBuckets)
		}
	}
	if token := r.Query.Get("continuation-token"); token != "" {
		if after, _, err = parseToken(token); err != nil {
			return nil, err
		}
	}
	type bucket struct{ Name, CreationDate, BucketRegion string }
	out := struct {
		XMLName           xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner             owner
		Buckets           []bucket `xml:"Buckets>Bucket"`
		ContinuationToken string   `xml:",omitempty"`
		Prefix            string   `xml:",omitempty"`
	}{Owner: a.owner, Buckets: []bucket{}, Prefix: r.Query.Get("prefix")}
	for _, b := range buckets {
		if b.Name <= after || !strings.HasPrefix(b.Name, out.Prefix) {
			continue
		}
		if len(out.Buckets) == most {
			out.ContinuationToken = newToken(out.Buckets[most-1].Name, "")
			break
		}
		out.Buckets = append(out.Buckets, bucket{b.Name, stamp(b.Made), a.region})
	}
	return &wire.Reply{XML: &out}, nil
}

func (a *api) createBucket(r *wire.Request) (*wire.Reply, error) {
	name := r.Path("bucket")
	if err := sink.CheckBucket(name); err != nil {
		return nil, wire.Errorf(http.StatusBadRequest, "InvalidBucketName", "%v", err)
	}
	if err := checkWishes(r.Header); err != nil {
		return nil, err
	}
	// A place is accepted whatever it is: there is one.
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	var in struct {
		XMLName xml.Name `xml:"CreateBucketConfiguration"`
	}
	if len(body) > 0 && xml.Unmarshal(body, &in) != nil {
		return nil, errMalformedXML
	}
	if err := a.store.CreateBucket(name); err != nil {
		return nil, err
	}
	return &wire.Reply{Header: map[string]string{"Location": "/" + name}}, nil
}

// readBody reads a body of XML and compares it with the checksums of its header.
func readBody(r *wire.Request) ([]byte, error) {
	claim, err := claimed(r.Header)
	if err != nil {
		return nil, err
	}
	body, err := r.ReadAll(maxXML)
	if err != nil {
		return nil, err
	}
	trailer := func(string) string { return "" }
	if r.Data != nil {
		trailer = r.Data.Trailer
	}
	return body, claim.checkBytes(body, trailer)
}

// putACL takes the one ACL that there is, the owner's, and refuses others, as S3 does
// for a bucket whose owner owns all (user guide, "Disabled ACLs").
func (a *api) putACL(r *wire.Request) (*wire.Reply, error) {
	bucket, key, err := a.at(r)
	if err == nil && key != "" {
		_, err = a.store.Stat(bucket, key)
	}
	if err == nil && r.Header.Get("X-Amz-Acl") == "" { // grants
		err = errACL
	}
	if err == nil {
		err = checkWishes(r.Header)
	}
	return &wire.Reply{}, err
}

func (a *api) headBucket(r *wire.Request) (*wire.Reply, error) {
	if _, err := a.store.Bucket(r.Path("bucket")); err != nil {
		return nil, err
	}
	return &wire.Reply{Header: map[string]string{"x-amz-bucket-region": a.region}}, nil
}

func (a *api) deleteBucket(r *wire.Request) (*wire.Reply, error) {
	return &wire.Reply{Status: http.StatusNoContent}, a.store.DeleteBucket(r.Path("bucket"))
}

func (a *api) getBucketLocation(r *wire.Request) (*wire.Reply, error) {
	if _, err := a.store.Bucket(r.Path("bucket")); err != nil {
		return nil, err
	}
	return &wire.Reply{XML: &struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		Region  string   `xml:",chardata"`
	}{Region: a.region}}, nil
}
