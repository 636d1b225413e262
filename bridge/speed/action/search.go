package action

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Limits of Elasticsearch and OpenSearch: an index's name, an id, and a request
// (http.max_content_length, 100 MB; AWS's smallest instances take 10 MiB).
const (
	maxIndex      = 255
	maxDocumentID = 512
	maxDocument   = 10 << 20
)

// toSearch is the action of that name: the document is indexed under an id. A type
// is read and has no effect, since searches have none any more.
func toSearch(name string) *sentKind {
	return &sentKind{
		name: name,
		members: []member{
			{name: "endpoint", required: true, pattern: regexp.MustCompile(`^https?://`)},
			{name: "index", required: true},
			{name: "type", required: true},
			{name: "id", required: true},
		},
		resource: "endpoint",
		judge: func(d *Delivery) error {
			return errors.Join(d.judge("endpoint", checkEndpoint), d.judge("index", checkIndex),
				d.between("id", 1, maxDocumentID))
		},
		stage: func(d *Delivery) error { return d.object(maxDocument) },
	}
}

func checkEndpoint(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" {
		return errors.New("want http or https, a host, and neither user nor query")
	}
	return nil
}

// checkIndex applies the rules of names (create index API).
func checkIndex(name string) error {
	if len(name) == 0 || len(name) > maxIndex || name == "." || name == ".." || strings.ToLower(name) != name ||
		strings.ContainsAny(name, "\\/*?\"<>| ,#:") || strings.ContainsAny(name[:1], "-_+") {
		return fmt.Errorf("%.260q, want lower case, 1 to 255 bytes, none of \\ / * ? \" < > | , # : and space, "+
			"and neither - _ nor + at first", name)
	}
	return nil
}
