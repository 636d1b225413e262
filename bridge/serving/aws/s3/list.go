package s3

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"net/url"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

// maxKeys is how many entries a page has at most (S3 API reference).
const maxKeys = 1000

// An entry is an object in a list.
type entry struct {
	Key               string
	LastModified      string
	ETag              string
	ChecksumAlgorithm string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
	Size              int64
	StorageClass      string
	Owner             *owner `xml:",omitempty"`
}

type commonPrefix struct{ Prefix string }

// A query is what the names in a list's query say.
type query struct {
	objects.Listing
	max    int
	encode func(string) string
	url    string // encoding-type, "" for none
}

func parseQuery(q url.Values, maxName string) (query, error) {
	l := query{max: maxKeys, encode: func(s string) string { return s }, url: q.Get("encoding-type")}
	l.Prefix, l.Delimiter = q.Get("prefix"), q.Get("delimiter")
	if text := q.Get(maxName); text != "" {
		n, err := strconv.ParseUint(text, 10, 31)
		if err != nil {
			return l, invalid("Provided %s not an integer or within integer range", maxName)
		}
		l.max = int(n)
	}
	l.Max = min(l.max, maxKeys)
	switch l.url {
	case "":
	case "url":
		l.encode = escape
	default:
		return l, invalid("Invalid Encoding Method specified in Request")
	}
	return l, nil
}

// escape is encoding-type=url.
func escape(text string) string {
	return strings.NewReplacer("+", "%20", "%2F", "/", "%2A", "*").Replace(url.QueryEscape(text))
}

// page lists the bucket of a request.
func (a *api) page(r *wire.Request, l query, withOwner bool) ([]entry, []commonPrefix, objects.Page, error) {
	p, err := a.store.List(r.Context(), r.Path("bucket"), l.Listing)
	entries, prefixes := []entry{}, []commonPrefix{}
	for _, o := range p.Objects {
		e := entry{Key: l.encode(o.Key), LastModified: stamp(o.Modified), ETag: quoted(o.ETag), Size: o.Size,
			StorageClass: "STANDARD"}
		if alg, sum := theSum(o.Sums); sum != "" {
			e.ChecksumAlgorithm, e.ChecksumType = string(alg), sumType(sum)
		}
		if withOwner {
			e.Owner = &a.owner
		}
		entries = append(entries, e)
	}
	for _, f := range p.Prefixes {
		prefixes = append(prefixes, commonPrefix{l.encode(f)})
	}
	return entries, prefixes, p, err
}

func (a *api) listObjectsV2(r *wire.Request) (*wire.Reply, error) {
	l, err := parseQuery(r.Query, "max-keys")
	if err != nil {
		return nil, err
	}
	l.After = r.Query.Get("start-after")
	token := r.Query.Get("continuation-token")
	if token != "" {
		if l.After, l.Folded, err = parseToken(token); err != nil {
			return nil, err
		}
	}
	entries, prefixes, p, err := a.page(r, l, r.Query.Get("fetch-owner") == "true")
	if err != nil {
		return nil, err
	}
	out := struct {
		XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
		Name, Prefix          string
		StartAfter            string `xml:",omitempty"`
		ContinuationToken     *string
		NextContinuationToken string `xml:",omitempty"`
		KeyCount, MaxKeys     int
		Delimiter             string `xml:",omitempty"`
		EncodingType          string `xml:",omitempty"`
		IsTruncated           bool
		Contents              []entry
		CommonPrefixes        []commonPrefix
	}{Name: r.Path("bucket"), Prefix: l.encode(l.Prefix), StartAfter: l.encode(r.Query.Get("start-after")),
		KeyCount: len(entries) + len(prefixes), MaxKeys: min(l.max, maxKeys),
		Delimiter: l.encode(l.Delimiter), EncodingType: l.url, IsTruncated: p.Truncated,
		Contents: entries, CommonPrefixes: prefixes}
	if _, said := r.Query["continuation-token"]; said { // it may be empty
		out.ContinuationToken = &token
	}
	if p.Truncated {
		out.NextContinuationToken = newToken(p.Next, p.NextFolded)
	}
	return &wire.Reply{XML: &out}, nil
}

func newToken(after, folded string) string {
	b, _ := json.Marshal(map[string][]byte{"a": []byte(after), "f": []byte(folded)}) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseToken(token string) (after, folded string, err error) {
	b, err := base64.RawURLEncoding.DecodeString(token)
	var p map[string][]byte
	if err != nil || json.Unmarshal(b, &p) != nil || len(p) != 2 || len(p["a"]) == 0 {
		return "", "", invalid("The continuation token provided is incorrect")
	}
	return string(p["a"]), string(p["f"]), nil
}

func (a *api) listObjects(r *wire.Request) (*wire.Reply, error) {
	l, err := parseQuery(r.Query, "max-keys")
	if err != nil {
		return nil, err
	}
	marker := r.Query.Get("marker")
	l.After, l.Folded = marker, folded(marker, l)
	entries, prefixes, p, err := a.page(r, l, true)
	if err != nil {
		return nil, err
	}
	out := struct {
		XMLName              xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
		Name, Prefix, Marker string
		NextMarker           string `xml:",omitempty"`
		MaxKeys              int
		Delimiter            string `xml:",omitempty"`
		EncodingType         string `xml:",omitempty"`
		IsTruncated          bool
		Contents             []entry
		CommonPrefixes       []commonPrefix
	}{Name: r.Path("bucket"), Prefix: l.encode(l.Prefix), Marker: l.encode(marker), MaxKeys: min(l.max, maxKeys),
		Delimiter: l.encode(l.Delimiter), EncodingType: l.url, IsTruncated: p.Truncated,
		Contents: entries, CommonPrefixes: prefixes}
	if p.Truncated && l.Delimiter != "" {
		out.NextMarker = l.encode(p.Next)
	}
	return &wire.Reply{XML: &out}, nil
}

// folded is marker if it is a prefix that a page before told keys by.
func folded(marker string, l query) string {
	rest, ok := strings.CutPrefix(marker, l.Prefix)
	if l.Delimiter == "" || !ok || strings.Index(rest, l.Delimiter) != len(rest)-len(l.Delimiter) {
		return ""
	}
	return marker
}

// listObjectVersions lists objects as their only versions.
func (a *api) listObjectVersions(r *wire.Request) (*wire.Reply, error) {
	l, err := parseQuery(r.Query, "max-keys")
	if err != nil {
		return nil, err
	}
	marker := r.Query.Get("key-marker")
	l.After, l.Folded = marker, folded(marker, l)
	entries, prefixes, p, err := a.page(r, l, true)
	if err != nil {
		return nil, err
	}
	type version struct {
		entry
		VersionId string
		IsLatest  bool
	}
	out := struct {
		XMLName                 xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListVersionsResult"`
		Name, Prefix, KeyMarker string
		NextKeyMarker           string `xml:",omitempty"`
		NextVersionIdMarker     string `xml:",omitempty"`
		MaxKeys                 int
		Delimiter               string `xml:",omitempty"`
		EncodingType            string `xml:",omitempty"`
		IsTruncated             bool
		Versions                []version `xml:"Version"`
		CommonPrefixes          []commonPrefix
	}{Name: r.Path("bucket"), Prefix: l.encode(l.Prefix), KeyMarker: l.encode(marker), MaxKeys: min(l.max, maxKeys),
		Delimiter: l.encode(l.Delimiter), EncodingType: l.url, IsTruncated: p.Truncated, CommonPrefixes: prefixes}
	for _, e := range entries {
		out.Versions = append(out.Versions, version{e, "null", true})
	}
	if p.Truncated {
		out.NextKeyMarker, out.NextVersionIdMarker = l.encode(p.Next), "null"
	}
	return &wire.Reply{XML: &out}, nil
}
