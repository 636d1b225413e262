package firehose

import (
	"encoding/json"
	"net"
	"net/url"
	"time"
)

// An Endpoint takes records by HTTP.
type Endpoint struct {
	URL        string
	Name       string
	AccessKey  Secret // header X-Amz-Firehose-Access-Key
	Gzip       bool   // of bodies
	Attributes []Attribute
}

// An Attribute is a name and value that each request of an HTTP endpoint has.
// AWS' model counts both as sensitive.
type Attribute struct {
	Name  string
	Value Secret
}

// Splunk is an HTTP Event Collector.
type Splunk struct {
	URL        string
	Raw        bool // records are its raw text, else events
	Token      Secret
	AckTimeout time.Duration
}

type endpointBlock struct {
	EndpointConfiguration struct {
		Url, Name string
		AccessKey Secret
	}
	RequestConfiguration *struct {
		ContentEncoding  string
		CommonAttributes []struct {
			AttributeName  string
			AttributeValue Secret
		}
	}
	BufferingHints          *hints
	RetryOptions            *retryBlock
	S3BackupMode            string
	S3Configuration         *s3Block
	ProcessingConfiguration *processingBlock
	RoleARN                 string

	CloudWatchLoggingOptions    json.RawMessage
	SecretsManagerConfiguration *secretsManagerBlock
}

type splunkBlock struct {
	HECEndpoint                       string
	HECEndpointType                   string
	HECToken                          Secret
	HECAcknowledgmentTimeoutInSeconds *int
	BufferingHints                    *hints
	RetryOptions                      *retryBlock
	S3BackupMode                      string
	S3Configuration                   *s3Block
	ProcessingConfiguration           *processingBlock

	CloudWatchLoggingOptions    json.RawMessage
	SecretsManagerConfiguration *secretsManagerBlock
}

// endpoint reads an HTTP endpoint (Firehose API,
// HttpEndpointDestinationConfiguration; a retry of standard 300 s).
func (r *reader) endpoint(d *endpointBlock) {
	r.keepText("RoleARN", d.RoleARN)
	r.keep("CloudWatchLoggingOptions", d.CloudWatchLoggingOptions)
	r.noSecretsManager(d.SecretsManagerConfiguration)
	e := d.EndpointConfiguration
	c := &Endpoint{URL: e.Url, Name: e.Name, AccessKey: e.AccessKey}
	r.c.Endpoint = c
	r.url("EndpointConfiguration.Url", e.Url, secureHost)
	r.length("EndpointConfiguration.Name", e.Name, 0, 256)
	r.length("EndpointConfiguration.AccessKey", e.AccessKey.Reveal(), 0, 4096)
	if q := d.RequestConfiguration; q != nil {
		c.Gzip = r.oneOf("RequestConfiguration.ContentEncoding", q.ContentEncoding, "NONE", "GZIP") == "GZIP"
		if n := len(q.CommonAttributes); n > 50 {
			r.bad("RequestConfiguration.CommonAttributes: %d, want at most 50", n)
		}
		for _, a := range q.CommonAttributes {
			r.length("RequestConfiguration.CommonAttributes: AttributeName", a.AttributeName, 1, 256)
			r.length("RequestConfiguration.CommonAttributes: AttributeValue", a.AttributeValue.Reveal(), 0, 1024)
			c.Attributes = append(c.Attributes, Attribute{a.AttributeName, a.AttributeValue})
		}
	}
	r.c.Buffer = r.hints("", d.BufferingHints, endpointHints)
	r.retry(d.RetryOptions, 300)
	r.processing("", d.ProcessingConfiguration)
	r.required(d.S3Configuration)
	r.c.BackupAll = r.oneOf("S3BackupMode", d.S3BackupMode, "FailedDataOnly", "AllData") == "AllData"
}

// splunk reads a Splunk destination (Firehose API,
// SplunkDestinationConfiguration; an acknowledgement within 180 to 600 s,
// standard 180, a retry of standard 300 s).
func (r *reader) splunk(d *splunkBlock) {
	r.keep("CloudWatchLoggingOptions", d.CloudWatchLoggingOptions)
	r.noSecretsManager(d.SecretsManagerConfiguration)
	c := &Splunk{URL: d.HECEndpoint, Token: d.HECToken, AckTimeout: 180 * time.Second}
	r.c.Splunk = c
	r.url("HECEndpoint", d.HECEndpoint, secureHost)
	c.Raw = r.oneOf("HECEndpointType", d.HECEndpointType, "Event", "Raw") == "Raw"
	if d.HECEndpointType == "" {
		r.bad("HECEndpointType: missing, want Raw or Event")
	}
	r.length("HECToken", d.HECToken.Reveal(), 1, 2048)
	if s := d.HECAcknowledgmentTimeoutInSeconds; s != nil {
		if *s < 180 || *s > 600 {
			r.bad("HECAcknowledgmentTimeoutInSeconds: %d, want 180 to 600", *s)
		}
		c.AckTimeout = time.Duration(*s) * time.Second
	}
	r.c.Buffer = r.hints("", d.BufferingHints, splunkHints)
	r.retry(d.RetryOptions, 300)
	r.processing("", d.ProcessingConfiguration)
	r.required(d.S3Configuration)
	r.c.BackupAll = r.oneOf("S3BackupMode", d.S3BackupMode, "FailedEventsOnly", "AllEvents") == "AllEvents"
}

// What a URL has to be: any, or one where what is sent stays secret.
const (
	anyHost    = false
	secureHost = true
)

// url checks an address. One for secrets is https, or http to this machine: AWS
// wants https and port 443. The text is not told: it may have a key.
func (r *reader) url(name, text string, secure bool) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		r.bad("%s: want a URL such as https://host:port/path", name)
	case u.User != nil || u.Fragment != "":
		r.bad("%s: want a URL without a password and #", name)
	case secure && u.Scheme == "http" && !loopback(u.Hostname()):
		r.bad("%s: want https; http is for this machine alone", name)
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
