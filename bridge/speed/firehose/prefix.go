package firehose

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/speed/javatime"
)

// A Prefix is the beginning of object keys, evaluated when an object is planned:
// what Eval returns is kept with the plan, since a random string differs from
// call to call. Its zero value gives "".
type Prefix struct {
	text        string // as it was given
	parts       []part
	zone        *time.Location
	expressions bool // the text has any
	timed       bool // one of them is a time

	Query, Lambda []string // the partition keys that it names, each once
}

// A part is a literal or an expression.
type part struct {
	kind    partKind
	text    string           // of a literal; the id of a partition key
	pattern javatime.Pattern // of a time
}

type partKind int

const (
	literal partKind = iota
	timestamp
	randomString
	errorType
	queryKey
	lambdaKey
)

// Values are what the expressions of a prefix stand for.
type Values struct {
	At        time.Time // arrival of the oldest record in the object
	ErrorType string    // of an ErrorOutputPrefix, such as processingFailed

	Query, Lambda map[string]string // partition keys
}

// Error output types (Firehose developer guide, custom prefixes; those of
// format-conversion and partitioning from examples in it).
const (
	processingFailed    = "processing-failed"
	conversionFailed    = "format-conversion-failed"
	partitioningFailed  = "metadata-extraction-failed" // a guess
	endpointFailed      = "http-endpoint-failed"
	splunkFailed        = "splunk-failed"
	elasticsearchFailed = "elasticsearch_failed" // AmazonOpenSearchService-failed in newer text
)

// defaultTime is what a Prefix without a time expression is followed by.
const defaultTime = "yyyy/MM/dd/HH/"

// maxPrefix is how many characters a prefix has when it is evaluated (Firehose
// developer guide, custom prefixes).
const maxPrefix = 512

// parseObjectPrefix compiles a Prefix with expressions !{timestamp:PATTERN} (letters of
// Java's DateTimeFormatter, evaluated in zone), !{firehose:random-string},
// !{partitionKeyFromQuery:ID} and !{partitionKeyFromLambda:ID}. Without a time
// expression yyyy/MM/dd/HH/ follows the text as it stands, with no slash put
// between.
func parseObjectPrefix(text string, zone *time.Location) (Prefix, error) {
	p, err := parsePrefix(text, zone)
	if err == nil && slices.ContainsFunc(p.parts, func(x part) bool { return x.kind == errorType }) {
		err = errors.New("!{firehose:error-output-type} is for ErrorOutputPrefix")
	}
	if err == nil && !p.timed {
		err = p.time(defaultTime)
	}
	return p, err
}

// parseErrorPrefix compiles an ErrorOutputPrefix, which may have times, random
// strings and !{firehose:error-output-type}, and must have the last if it has
// any expression. Without one it is as it stands, then the type, then the hour.
func parseErrorPrefix(text string, zone *time.Location) (Prefix, error) {
	p, err := parsePrefix(text, zone)
	if err != nil {
		return p, err
	}
	typed := slices.ContainsFunc(p.parts, func(x part) bool { return x.kind == errorType })
	switch {
	case len(p.Query)+len(p.Lambda) > 0:
		err = errors.New("partition keys are for Prefix")
	case p.expressions && !typed:
		err = fmt.Errorf("%.200q: want !{firehose:error-output-type} where there are expressions", text)
	case !p.expressions:
		p.parts = append(p.parts, part{kind: errorType}, part{text: "/"})
		err = p.time(defaultTime)
	}
	return p, err
}

func parsePrefix(text string, zone *time.Location) (Prefix, error) {
	p := Prefix{text: text, zone: zone}
	for rest := text; rest != ""; {
		lit, expr, found := strings.Cut(rest, "!{")
		if lit != "" {
			p.parts = append(p.parts, part{text: lit})
		}
		if !found {
			break
		}
		body, after, closed := strings.Cut(expr, "}")
		if !closed {
			return p, fmt.Errorf("%.200q: !{ without }", text)
		}
		if err := p.expression(body); err != nil {
			return p, err
		}
		rest = after
	}
	if !utf8.ValidString(text) {
		return p, fmt.Errorf("%.200q: no UTF-8", text)
	}
	return p, nil
}

// expression adds what stands between !{ and }.
func (p *Prefix) expression(body string) error {
	p.expressions = true
	space, value, _ := strings.Cut(body, ":")
	add := func(kind partKind) { p.parts = append(p.parts, part{kind: kind, text: value}) }
	key := func(kind partKind, ids *[]string) error {
		if value == "" {
			return fmt.Errorf("!{%s}: want the name of a partition key", body)
		}
		add(kind)
		if !slices.Contains(*ids, value) {
			*ids = append(*ids, value)
		}
		return nil
	}
	switch {
	case space == "timestamp":
		return p.time(value)
	case space == "firehose" && value == "random-string":
		add(randomString)
	case space == "firehose" && value == "error-output-type":
		add(errorType)
	case space == "partitionKeyFromQuery":
		return key(queryKey, &p.Query)
	case space == "partitionKeyFromLambda":
		return key(lambdaKey, &p.Lambda)
	default:
		return fmt.Errorf("!{%.200s}: want timestamp:…, firehose:random-string, firehose:error-output-type, "+
			"partitionKeyFromQuery:… or partitionKeyFromLambda:…", body)
	}
	return nil
}

// time adds a pattern of java.time's DateTimeFormatter.
func (p *Prefix) time(pattern string) error {
	if pattern == "" {
		return errors.New("timestamp: empty pattern")
	}
	compiled, err := javatime.Java(pattern)
	if err != nil {
		return fmt.Errorf("timestamp: %w", err)
	}
	p.parts = append(p.parts, part{kind: timestamp, pattern: compiled})
	p.timed = true
	return nil
}

// Eval returns the prefix with v for its expressions. A partition key that v
// does not have, or has as "", is an error, as are more than 512 characters.
func (p Prefix) Eval(v Values) (string, error) {
	b := make([]byte, 0, 64)
	for _, x := range p.parts {
		switch x.kind {
		case literal:
			b = append(b, x.text...)
		case timestamp:
			b = x.pattern.Append(b, v.At.In(p.zone))
		case randomString:
			b = append(b, rand.Text()[:11]...)
		case errorType:
			b = append(b, v.ErrorType...)
		case queryKey, lambdaKey:
			from := v.Query
			if x.kind == lambdaKey {
				from = v.Lambda
			}
			value := from[x.text]
			if value == "" {
				return "", fmt.Errorf("partition key %q: no value", x.text)
			}
			b = append(b, value...)
		}
	}
	if n := utf8.RuneCount(b); n > maxPrefix {
		return "", fmt.Errorf("%d characters when evaluated, want at most %d", n, maxPrefix)
	}
	return string(b), nil
}

// sample are values of each expression, to see whether a prefix can be had.
func (p Prefix) sample() Values {
	v := Values{At: time.Unix(0, 0), ErrorType: processingFailed, Query: map[string]string{},
		Lambda: map[string]string{}}
	for _, id := range p.Query {
		v.Query[id] = "x"
	}
	for _, id := range p.Lambda {
		v.Lambda[id] = "x"
	}
	return v
}

// Key names an object of a delivery stream and its configuration's version: the
// prefix, STREAM-VERSION-yyyy-MM-dd-HH-mm-ss-ID and the extension. id differs
// for each object.
func (o *Objects) Key(stream string, version int, v Values, id string) (string, error) {
	name, err := o.Prefix.name(stream, version, v, id)
	return name + o.Suffix, err
}

// errorKey is Key for records that failed, of v.ErrorType, without an extension:
// their lines are not compressed.
func (o *Objects) errorKey(stream string, version int, v Values, id string) (string, error) {
	return o.ErrorPrefix.name(stream, version, v, id)
}

func (p Prefix) name(stream string, version int, v Values, id string) (string, error) {
	prefix, err := p.Eval(v)
	if err != nil {
		return "", err
	}
	at := v.At.In(p.zone).Format("2006-01-02-15-04-05")
	return fmt.Sprintf("%s%s-%d-%s-%s", prefix, stream, version, at, id), nil
}
