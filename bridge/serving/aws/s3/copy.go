package s3

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

// source opens what X-Amz-Copy-Source names, if the caller may read it and its
// conditions hold.
func (a *api) source(r *wire.Request) (*objects.Object, string, error) {
	text, version, versioned := strings.Cut(r.Header.Get("X-Amz-Copy-Source"), "?versionId=")
	name, err := url.PathUnescape(text)
	bucket, key, ok := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if err != nil || !ok || key == "" {
		return nil, "", invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	}
	if versioned && version != "null" {
		return nil, "", wire.Errorf(http.StatusNotFound, "NoSuchVersion", "there are no versions here")
	}
	if err := r.Authorize("s3:GetObject", objectARN(bucket, key)); err != nil {
		return nil, "", err
	}
	if _, err := a.store.Bucket(bucket); err != nil {
		return nil, "", err
	}
	o, err := a.store.Open(bucket, key)
	if err != nil {
		return nil, "", err
	}
	if unmodified(r.Header, "X-Amz-Copy-Source-", o.Info) != 0 {
		o.Close()
		return nil, "", objects.ErrCondition
	}
	return o, bucket + "/" + key, nil
}

func (a *api) copyObject(r *wire.Request) (*wire.Reply, error) {
	bucket, key, err := a.at(r)
	if err != nil {
		return nil, err
	}
	cond, err := condition(r)
	if err != nil {
		return nil, err
	}
	o, from, err := a.source(r)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	replace := strings.EqualFold(r.Header.Get("X-Amz-Metadata-Directive"), "REPLACE")
	if from == bucket+"/"+key && !replace {
		return nil, invalidRequest("This copy request is illegal because it is trying to copy an object to itself " +
			"without changing the object's metadata, storage class, website redirect location or encryption " +
			"attributes.")
	}
	given, err := attributes(r.Header)
	if err != nil {
		return nil, err
	}
	if !replace {
		given = o.Attributes
	}
	claim, err := claimed(r.Header)
	if err != nil {
		return nil, err
	}
	if alg, sum := theSum(o.Sums); len(claim.asked) == 0 && sum != "" {
		claim.asked = append(claim.asked, alg)
	}
	info, err := a.copied(r, bucket, o, o.Size, claim.asked,
		func(w *objects.Writer) (objects.Info, error) { return w.Commit(key, given, cond) })
	if err != nil {
		return nil, err
	}
	return &wire.Reply{XML: &struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CopyObjectResult"`
		copyResult
	}{copyResult: resultOf(info)}}, nil
}

type copyResult struct {
	ETag         string
	LastModified string
	sumsXML
}

func resultOf(info objects.Info) copyResult {
	return copyResult{quoted(info.ETag), stamp(info.Modified), *oneSum(info.Sums)}
}

// copied writes size bytes of from beside the buckets, and commit makes them what
// they are for.
func (a *api) copied(r *wire.Request, bucket string, from io.Reader, size int64, asked []objects.Algorithm,
	commit func(*objects.Writer) (objects.Info, error)) (info objects.Info, err error) {
	if size > maxPut {
		return info, invalidRequest("The specified copy source is larger than the maximum allowable size for a copy "+
			"source: %d", int64(maxPut))
	}
	err = r.Slowly(func() error {
		w, err := a.store.Create(bucket, size, asked...)
		if err != nil {
			return err
		}
		defer w.Close()
		if _, err := io.CopyBuffer(withoutReadFrom{w}, from, make([]byte, 64<<10)); err != nil {
			return err
		}
		info, err = commit(w)
		return err
	})
	return info, err
}
