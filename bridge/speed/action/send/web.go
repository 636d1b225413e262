package send

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
	"github.com/tidemill/tidemill/bridge/speed/sink/search"
)

// Bounds of one bulk request to a search.
const (
	searchDocuments = 500
	searchBytes     = 5 << 20
)

func addWeb(o *Options, add adding) {
	for _, kind := range []string{"elasticsearch", "openSearch"} {
		configs := newClients(o, kind, func(c aws.Config) aws.Config { return c })
		authorize := o.Search[kind]
		if authorize == nil {
			authorize = func(ctx context.Context, r *http.Request, body []byte) error {
				c, err := configs.in(ctx, "")
				if err != nil {
					return err
				}
				return awsapi.Sign(ctx, c, "es", r, body)
			}
		}
		add(kind, searchDocuments, searchBytes, func(ctx context.Context, ds deliveries) []error {
			return runs(ds, param("endpoint"), searchDocuments, searchBytes, func(run deliveries) []error {
				to := search.Options{URL: o.Places[kind].EndpointURL, HTTP: o.web(), Authorize: authorize}
				if to.URL == "" { // else it is the operator's
					to.URL, to.HTTP = run[0].Parameter("endpoint"), o.webOfRules()
				}
				return index(ctx, search.New(to), run)
			})
		})
	}
	add("salesforce", 16, 1<<20, inOrder(func(ctx context.Context, d *action.Delivery) error {
		to, err := placed(o.Places["salesforce"].EndpointURL, d.Parameter("url"))
		if err != nil {
			return action.Permanent(err)
		}
		r, err := post.Request(ctx, "POST", to, d.Data, map[string]string{
			"Content-Type": "application/json", "Authorization": "Bearer " + d.Parameter("token")})
		if err != nil {
			return action.Permanent(err)
		}
		return post.Do(o.webOfRules(), r) // the operator's place, too: path and token are the rule's
	}))
}

// placed is a rule's URL at the operator's endpoint: its path there. Without an
// endpoint it stays as it is.
func placed(endpoint, to string) (string, error) {
	if endpoint == "" {
		return to, nil
	}
	u, err := url.Parse(to)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(endpoint, "/") + u.EscapedPath(), nil
}

// index writes documents: one by a request of its own, several in bulk.
func index(ctx context.Context, c *search.Client, run deliveries) []error {
	docs := make([]*search.Document, len(run))
	for i, d := range run {
		if bytes.ContainsAny(d.Data, "\r\n") { // of a lone *: bulk has a document on each line
			var b bytes.Buffer
			if err := json.Compact(&b, d.Data); err != nil {
				return each(len(run), action.Permanent(err))
			}
			d.Data = b.Bytes()
		}
		docs[i] = &search.Document{Index: d.Parameter("index"), ID: d.Parameter("id"), Source: d.Data}
	}
	if len(docs) == 1 {
		return []error{c.Put(ctx, docs[0])}
	}
	errs, err := c.Bulk(ctx, docs)
	if err != nil && permanent(final(err)) { // it may be too large, as a whole or for one document
		return runs(run, func(*action.Delivery) string { return "" }, 1, 0,
			func(one deliveries) []error { return index(ctx, c, one) })
	}
	if err != nil {
		return each(len(run), err)
	}
	return errs
}
