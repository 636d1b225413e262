package firehose

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/strictjson"
)

// A Kind is what a delivery stream delivers to.
type Kind string

// The kinds, named as the members of CreateDeliveryStream before
// DestinationConfiguration.
const (
	ExtendedS3    Kind = "ExtendedS3"
	PlainS3       Kind = "S3"
	ToRedshift    Kind = "Redshift"
	Elasticsearch Kind = "Elasticsearch"
	OpenSearch    Kind = "Amazonopensearchservice"
	ToEndpoint    Kind = "HttpEndpoint"
	ToSplunk      Kind = "Splunk"
)

// A Config is what a delivery stream does, checked and ready to run.
type Config struct {
	Name    string
	Version int // counts configurations, from 1; a part of object names
	Source  Source
	Kind    Kind

	Buffer               // when a delivery is due; of S3 and Redshift: an object
	Retry  time.Duration // how long a delivery is tried; of S3: retryS3

	// Objects is where the objects of an S3 destination go, and those that
	// Redshift is loaded from. Of the other destinations it is where the records
	// go that were not taken, with BackupAll those too that were.
	Objects      Objects
	BackupAll    bool
	SourceBackup *Objects // of S3 and Redshift: the records as they came; nil: no copies

	Processing   Processing
	Partitioning *Partitioning // nil: off
	Conversion   *Conversion   // nil: off

	// One of these is set where Kind says so.
	Redshift *Redshift
	Search   *Search // Elasticsearch and OpenSearch
	Endpoint *Endpoint
	Splunk   *Splunk

	// Document is the request that it was read from, passwords and all.
	Document Secret

	// Kept are the members that have no effect here, as they were given, such
	// as CloudWatchLoggingOptions. No secret is among them.
	Kept map[string]json.RawMessage
}

// retryS3 is how long an object is tried before it is put aside (Firehose
// developer guide, "Data delivery failure handling": 24 hours for Amazon S3).
const retryS3 = 24 * time.Hour

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)

// Parse reads a CreateDeliveryStream request in AWS's JSON form, what
// DescribeDeliveryStream answers, or a resource of a CloudFormation template. It reports
// all errors at once, each by its member. A Prefix with expressions needs no
// ErrorOutputPrefix here, since files that were declared for earlier versions have none.
func Parse(doc []byte) (*Config, error) { return parse(doc, false) }

// ParseRequest is Parse for a request of the API: all that AWS refuses is.
func ParseRequest(doc []byte) (*Config, error) { return parse(doc, true) }

func parse(doc []byte, api bool) (*Config, error) {
	if !api {
		properties, err := strictjson.Resource(doc, "AWS::KinesisFirehose::DeliveryStream")
		if err != nil {
			return nil, fmt.Errorf("delivery stream: %w", err)
		}
		doc = properties
	}
	var q request
	errs := strictjson.All(doc, &q)
	if d := q.DeliveryStreamDescription; d != nil {
		made, err := d.exported()
		switch {
		case api:
			errs = append(errs, errors.New("DeliveryStreamDescription: unknown member"))
		case err != nil:
			errs = append(errs, err)
		default:
			q, doc = request{}, made
			errs = append(errs, strictjson.All(doc, &q)...)
		}
	}
	r := reader{c: &Config{Name: q.DeliveryStreamName, Version: 1, Document: NewSecret(string(doc))}, api: api}
	if json.Valid(doc) && q.DeliveryStreamDescription == nil {
		r.request(&q)
		r.errs = append(r.errs, served(r.c)...)
	}
	if errs = append(errs, besides(r.errs, errs)...); len(errs) > 0 {
		return nil, fmt.Errorf("delivery stream %.100q: %w", r.c.Name, errors.Join(errs...))
	}
	return r.c, nil
}

// besides are the errors of values without those that come of a member that could not be
// read, which is told already.
func besides(values, unread []error) (left []error) {
	var paths []string
	for _, err := range unread {
		if path, why, ok := strings.Cut(err.Error(), ": "); ok && why != "unknown member" {
			paths = append(paths, path)
		}
	}
	for _, err := range values {
		member, _, _ := strings.Cut(err.Error(), ": ")
		if !slices.ContainsFunc(paths, func(path string) bool { return concerns(member, path) }) {
			left = append(left, err)
		}
	}
	return left
}

// concerns says whether a member, by its path without its destination's block, is that of
// a whole path, is around it or within it.
func concerns(member, path string) bool {
	first, _, _ := strings.Cut(member, ".")
	return strings.HasSuffix("."+path, "."+first) || strings.Contains("."+path+".", "."+member+".")
}

// A reader fills in c and gathers what is wrong. Members are named by their
// path, without the name of the destination's block.
type reader struct {
	c    *Config
	api  bool // the document is a request, not a file
	errs []error
}

func (r *reader) bad(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// keep notes a member that has no effect.
func (r *reader) keep(name string, raw json.RawMessage) {
	if raw == nil || string(raw) == "null" {
		return
	}
	if r.c.Kept == nil {
		r.c.Kept = map[string]json.RawMessage{}
	}
	r.c.Kept[name] = raw
}

func (r *reader) keepText(name, value string) {
	if value != "" {
		r.keep(name, json.RawMessage(strconv.Quote(value)))
	}
}

// An option is something that may be there and off.
type option struct {
	Enabled *bool // nil is on
}

// on says whether o is there and on. What is off is kept.
func (r *reader) on(name string, o *option) bool {
	if o == nil {
		return false
	}
	if o.Enabled == nil || *o.Enabled {
		return true
	}
	r.keep(name, json.RawMessage(`{"Enabled":false}`))
	return false
}

// length checks a text's length in characters, as AWS's model bounds it.
func (r *reader) length(name, value string, least, most int) {
	if n := len([]rune(value)); n < least || n > most {
		r.bad("%s: %d characters, want %d to %d", name, n, least, most)
	}
}

// oneOf checks that value is one of those that are allowed, "" the first of
// them, and returns it.
func (r *reader) oneOf(name, value string, allowed ...string) string {
	if value == "" {
		return allowed[0]
	}
	for _, a := range allowed {
		if value == a {
			return value
		}
	}
	r.bad("%s: %.100q, want one of %q", name, value, allowed)
	return allowed[0]
}

// request reads the whole document.
func (r *reader) request(q *request) {
	if !nameForm.MatchString(r.c.Name) {
		r.bad("DeliveryStreamName: %.100q, want 1 to 64 of a-z A-Z 0-9 _ . -", r.c.Name)
	}
	r.source(q)
	r.keep("DeliveryStreamEncryptionConfigurationInput", q.DeliveryStreamEncryptionConfigurationInput)
	r.keep("Tags", q.Tags)
	var found []string
	for _, d := range destinations {
		if !d.given(q) {
			continue
		}
		found = append(found, string(d.kind)+"DestinationConfiguration")
		if len(found) == 1 {
			r.c.Kind = d.kind
			d.read(r, q)
		}
	}
	switch len(found) {
	case 0:
		r.bad("ExtendedS3DestinationConfiguration: missing; want one destination")
	case 1:
	default:
		r.bad("%s: there is %s, want one destination", found[1], found[0])
	}
	for _, n := range q.refused() {
		r.bad("%s: is not served", n)
	}
	r.house(q.Tidemill)
}

// destinations are the blocks that a document has one of.
var destinations = []struct {
	kind  Kind
	given func(*request) bool
	read  func(*reader, *request)
}{
	{ExtendedS3, func(q *request) bool { return q.ExtendedS3DestinationConfiguration != nil },
		func(r *reader, q *request) { r.extended(q.ExtendedS3DestinationConfiguration) }},
	{PlainS3, func(q *request) bool { return q.S3DestinationConfiguration != nil },
		func(r *reader, q *request) { r.plain(q.S3DestinationConfiguration) }},
	{ToRedshift, func(q *request) bool { return q.RedshiftDestinationConfiguration != nil },
		func(r *reader, q *request) { r.redshift(q.RedshiftDestinationConfiguration) }},
	{Elasticsearch, func(q *request) bool { return q.ElasticsearchDestinationConfiguration != nil },
		func(r *reader, q *request) { r.search(q.ElasticsearchDestinationConfiguration) }},
	{OpenSearch, func(q *request) bool { return q.AmazonopensearchserviceDestinationConfiguration != nil },
		func(r *reader, q *request) { r.search(q.AmazonopensearchserviceDestinationConfiguration) }},
	{ToEndpoint, func(q *request) bool { return q.HttpEndpointDestinationConfiguration != nil },
		func(r *reader, q *request) { r.endpoint(q.HttpEndpointDestinationConfiguration) }},
	{ToSplunk, func(q *request) bool { return q.SplunkDestinationConfiguration != nil },
		func(r *reader, q *request) { r.splunk(q.SplunkDestinationConfiguration) }},
}
