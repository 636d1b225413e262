package emit

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"net/url"
	"os"
	"strconv"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/search"
)

// A searchEmitter indexes items under ids that name their records, so that a
// retry overwrites.
type searchEmitter struct {
	open
	client *search.Client
	index  name
	bytes  int
}

// maxBulk bounds MaxBytes.
const maxBulk = 100 << 20

func newSearch(p *parse) connector.Emitter {
	var doc struct {
		URL       string
		Index     string
		Operation string
		MaxBytes  int
		Gzip      bool
		Username  string
		Password  secret
		APIKey    secret
		SigV4     *struct{ Service, Region string }
		CAFile    string
	}
	p.into(&doc)
	p.want("URL", doc.URL, plainURL)
	p.want("Index", doc.Index, func(s string) error {
		if len(s) > 255 {
			return errors.New("more than 255 bytes")
		}
		return nil
	})
	if doc.Operation != "" && doc.Operation != "index" && doc.Operation != "create" {
		p.bad("Operation: %q, want index or create", doc.Operation)
	}
	if doc.MaxBytes < 0 || doc.MaxBytes > maxBulk {
		p.bad("MaxBytes: %d, want at most %d, or 0 for the default", doc.MaxBytes, maxBulk)
	}
	e := &searchEmitter{index: p.name("Index", doc.Index), bytes: doc.MaxBytes}
	if e.bytes == 0 {
		e.bytes = search.StandardBulk
	}
	o := search.Options{URL: doc.URL, Create: doc.Operation == "create", Gzip: doc.Gzip, HTTP: p.env.HTTP}
	ways := 0
	if doc.Username != "" || doc.Password.given() {
		ways++
		password := p.secret("Password", doc.Password)
		if doc.Username == "" || !doc.Password.given() {
			p.bad("Username and Password go together")
		}
		o.Authorize = search.Basic(doc.Username, password)
	}
	if doc.APIKey.given() {
		ways++
		o.Authorize = search.APIKey(p.secret("APIKey", doc.APIKey))
	}
	if s := doc.SigV4; s != nil {
		ways++
		if s.Service == "" {
			s.Service = "es"
		} else if s.Service != "es" && s.Service != "aoss" {
			p.bad("SigV4.Service: %q, want es or aoss", s.Service)
		}
		o.Authorize = search.Signed(p.aws(awsapi.Place{Region: s.Region}), s.Service)
	}
	if ways > 1 {
		p.bad("Username, APIKey and SigV4, want at most one of them")
	}
	if doc.CAFile != "" {
		o.HTTP = p.trusting(doc.CAFile)
		p.env.HTTP = o.HTTP
	}
	e.client = search.New(o)
	return e
}

// plainURL wants http or https and no password.
func plainURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("want http://HOST or https://HOST") // what it is may hold a password
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return errors.New("want no name, password, query or fragment in it")
	}
	return nil
}

// trusting is the client that trusts the authorities of a file, and no others.
func (p *parse) trusting(file string) *http.Client {
	pem, err := os.ReadFile(file)
	pool := x509.NewCertPool()
	if err != nil {
		p.bad("CAFile: %w", err)
	} else if !pool.AppendCertsFromPEM(pem) {
		p.bad("CAFile: %s holds no certificate", file)
	}
	t := newHTTP()
	t.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: pool}
	return t
}

// Emit implements connector.Emitter.
func (e *searchEmitter) Emit(ctx context.Context, b *connector.Batch) ([]connector.Failure, error) {
	var failed []connector.Failure
	docs := make([]*search.Document, len(b.Items))
	for i := range b.Items {
		it := &b.Items[i]
		line, err := search.Line(it.Data)
		if err != nil {
			failed = append(failed, connector.Failure{Index: i, Err: err, Permanent: true})
			continue
		}
		docs[i] = &search.Document{Index: e.index.at(b, it.Time), ID: id(b, it), Source: line}
	}
	more, err := e.client.Write(ctx, docs, e.bytes)
	if err != nil {
		return nil, err
	}
	return append(failed, more...), nil
}

// id names a record: STREAM:SHARD:SEQUENCE, and .SUB of one within a container.
func id(b *connector.Batch, it *connector.Item) string {
	s := streamName(b.Stream) + ":" + b.Shard + ":" + it.Sequence
	if it.Sub > 0 {
		s += "." + strconv.Itoa(it.Sub)
	}
	return s
}
