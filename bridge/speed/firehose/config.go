package firehose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/javatime"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

// Buffering hints: bounds and defaults of the S3 destination (Firehose
// developer guide, BufferingHints: 1-128 MiB, default 5; 0-900 s, default 300).
const (
	maxSizeMB       = 128
	maxInterval     = 900
	defaultSizeMB   = 5
	defaultInterval = 300
)

// A Config is what a delivery stream does, checked and ready to run.
type Config struct {
	Name     string
	Source   string // data stream that records come from; empty: they are put
	Bucket   string
	Prefix   Prefix
	Size     int64         // bytes buffered before compression that make an object due
	Interval time.Duration // age of the oldest buffered record that makes one due
	Gzip     bool
	Suffix   string // of object keys, such as ".gz"
	Delim    []byte // written after each record; empty: nothing

	split       *splitter // takes records apart; nil: they stay whole
	errorPrefix Prefix    // of what it cannot

	// Kept are the members that have no effect here, as they were given, such
	// as CloudWatchLoggingOptions.
	Kept map[string]json.RawMessage
}

// payload is the part of CreateDeliveryStream that is served today, and what of
// it has no effect here. Every other member is refused by name rather than
// passed over.
type payload struct {
	DeliveryStreamName                 string
	DeliveryStreamType                 string
	KinesisStreamSourceConfiguration   *source
	ExtendedS3DestinationConfiguration *destination
	S3DestinationConfiguration         *destination

	DeliveryStreamEncryptionConfigurationInput json.RawMessage
	Tags                                       json.RawMessage

	DeliveryStreamDescription *description // instead of all others: what DescribeDeliveryStream answers
}

// A description is an exported delivery stream. What tells of its state is
// passed over.
type description struct {
	DeliveryStreamName string
	DeliveryStreamType string
	Source             struct {
		KinesisStreamSourceDescription *source
		MSKSourceDescription           json.RawMessage
		DatabaseSourceDescription      json.RawMessage
	}
	Destinations []map[string]json.RawMessage

	DeliveryStreamEncryptionConfiguration json.RawMessage

	DeliveryStreamARN, DeliveryStreamStatus, VersionId, FailureDescription json.RawMessage
	CreateTimestamp, LastUpdateTimestamp, HasMoreDestinations              json.RawMessage
}

type source struct {
	KinesisStreamARN, RoleARN string
	DeliveryStartTimestamp    json.RawMessage // of a description
}

type destination struct {
	RoleARN                 string
	BucketARN               string
	Prefix                  string
	ErrorOutputPrefix       string
	BufferingHints          *hints
	CompressionFormat       string
	FileExtension           string
	CustomTimeZone          string
	ProcessingConfiguration *processing

	S3BackupMode                      string
	CloudWatchLoggingOptions          json.RawMessage
	EncryptionConfiguration           json.RawMessage
	DataFormatConversionConfiguration *option
	DynamicPartitioningConfiguration  *option
}

// An option is something that is not served; it may be there and off.
type option struct {
	Enabled *bool // nil is on
	raw     json.RawMessage
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *option) UnmarshalJSON(raw []byte) error {
	type plain option
	o.raw = bytes.Clone(raw)
	return json.Unmarshal(raw, (*plain)(o))
}

type hints struct {
	SizeInMBs         *int
	IntervalInSeconds *int
}

type processing struct {
	Enabled    bool
	Processors []struct {
		Type       string
		Parameters []struct{ ParameterName, ParameterValue string }
	}
}

// exported returns the request that would make a described delivery stream.
func (d *description) exported() (p payload, err error) {
	p = payload{DeliveryStreamName: d.DeliveryStreamName, DeliveryStreamType: d.DeliveryStreamType,
		KinesisStreamSourceConfiguration:           d.Source.KinesisStreamSourceDescription,
		DeliveryStreamEncryptionConfigurationInput: d.DeliveryStreamEncryptionConfiguration}
	if len(d.Destinations) != 1 {
		return p, fmt.Errorf("Destinations: %d, want one", len(d.Destinations)) //lint:ignore ST1005 the member's name
	}
	to := d.Destinations[0]
	delete(to, "DestinationId")
	if to["ExtendedS3DestinationDescription"] != nil {
		delete(to, "S3DestinationDescription") // the same with less
	}
	for name, raw := range to {
		var at **destination
		switch name {
		case "ExtendedS3DestinationDescription":
			at = &p.ExtendedS3DestinationConfiguration
		case "S3DestinationDescription":
			at = &p.S3DestinationConfiguration
		default:
			return p, fmt.Errorf("%s: ExtendedS3DestinationDescription is the one destination served", name)
		}
		if err := strictjson.Decode(raw, at); err != nil {
			return p, fmt.Errorf("%s: %w", name, err)
		}
	}
	return p, nil
}

var streamARN = regexp.MustCompile(`^arn:aws:kinesis:[a-z0-9-]+:\d{12}:stream/([a-zA-Z0-9_.-]{1,128})$`)

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)

// Parse reads a CreateDeliveryStream request in AWS's JSON form, or what
// DescribeDeliveryStream answers. It reports all errors at once, each by its
// member.
func Parse(doc []byte) (*Config, error) {
	var p payload
	err := strictjson.Decode(doc, &p)
	if d := p.DeliveryStreamDescription; err == nil && d != nil {
		p, err = d.exported()
	}
	if err != nil {
		return nil, fmt.Errorf("delivery stream: %w", err)
	}
	r := reader{c: &Config{Name: p.DeliveryStreamName, Size: defaultSizeMB << 20,
		Interval: defaultInterval * time.Second}}
	if !nameForm.MatchString(r.c.Name) {
		r.bad("DeliveryStreamName: %q, want 1 to 64 of a-z A-Z 0-9 _ . -", r.c.Name)
	}
	switch src := p.KinesisStreamSourceConfiguration; p.DeliveryStreamType {
	case "", "DirectPut":
		if src != nil {
			r.bad("KinesisStreamSourceConfiguration: goes with the DeliveryStreamType KinesisStreamAsSource")
		}
	case "KinesisStreamAsSource":
		if src == nil {
			r.bad("KinesisStreamSourceConfiguration: missing")
		} else if m := streamARN.FindStringSubmatch(src.KinesisStreamARN); m == nil {
			r.bad("KinesisStreamARN: %.200q, want arn:aws:kinesis:REGION:ACCOUNT:stream/NAME", src.KinesisStreamARN)
		} else {
			r.c.Source = m[1]
		}
	default:
		r.bad("DeliveryStreamType: %q, want DirectPut or KinesisStreamAsSource", p.DeliveryStreamType)
	}
	r.keep("DeliveryStreamEncryptionConfigurationInput", p.DeliveryStreamEncryptionConfigurationInput)
	r.keep("Tags", p.Tags)
	switch d, plain := p.ExtendedS3DestinationConfiguration, p.S3DestinationConfiguration; {
	case d != nil && plain != nil:
		r.bad("S3DestinationConfiguration: there is ExtendedS3DestinationConfiguration, want one of them")
	case d != nil:
		r.destination(d)
	case plain != nil:
		r.destination(plain)
	default:
		r.bad("ExtendedS3DestinationConfiguration: missing; it is the one destination served")
	}
	if len(r.errs) > 0 {
		return nil, fmt.Errorf("delivery stream %q: %w", r.c.Name, errors.Join(r.errs...))
	}
	return r.c, nil
}

// A reader fills in c and gathers what is wrong.
type reader struct {
	c    *Config
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

// off keeps what is there and off; what is on cannot be served.
func (r *reader) off(name string, o *option) {
	switch {
	case o == nil:
	case o.Enabled == nil || *o.Enabled:
		r.bad("%s: is not served; want Enabled false", name)
	default:
		r.keep(name, o.raw)
	}
}

func (r *reader) text(name, value string) {
	if value != "" {
		raw, _ := json.Marshal(value) // of a text
		r.keep(name, raw)
	}
}

func (r *reader) destination(d *destination) {
	r.text("RoleARN", d.RoleARN)
	r.text("S3BackupMode", d.S3BackupMode)
	if d.S3BackupMode != "" && d.S3BackupMode != "Disabled" {
		r.bad("S3BackupMode: %q, want Disabled: no copies are served", d.S3BackupMode)
	}
	r.keep("CloudWatchLoggingOptions", d.CloudWatchLoggingOptions)
	r.keep("EncryptionConfiguration", d.EncryptionConfiguration)
	r.off("DataFormatConversionConfiguration", d.DataFormatConversionConfiguration)
	r.off("DynamicPartitioningConfiguration", d.DynamicPartitioningConfiguration)
	r.c.Bucket = strings.TrimPrefix(d.BucketARN, "arn:aws:s3:::")
	if r.c.Bucket == d.BucketARN {
		r.bad("BucketARN: %q, want arn:aws:s3:::NAME", d.BucketARN)
	} else if err := sink.CheckBucket(r.c.Bucket); err != nil {
		r.bad("BucketARN: %w", err)
	}
	if d.BufferingHints != nil {
		r.hints(d.BufferingHints)
	}
	switch d.CompressionFormat {
	case "", "UNCOMPRESSED":
	case "GZIP":
		r.c.Gzip, r.c.Suffix = true, ".gz"
	default:
		r.bad("CompressionFormat: %q, want UNCOMPRESSED or GZIP", d.CompressionFormat)
	}
	if e := d.FileExtension; e != "" {
		if !strings.HasPrefix(e, ".") || strings.ContainsAny(e, "/\x00") || len(e) > 50 {
			r.bad("FileExtension: %q, want a dot and at most 49 further characters", e)
		}
		r.c.Suffix = e
	}
	r.prefix(d)
	if p := d.ProcessingConfiguration; p != nil && p.Enabled {
		r.processing(p)
	}
}

// hints reads when an object is due. AWS wants both or none.
func (r *reader) hints(h *hints) {
	if h.SizeInMBs == nil || h.IntervalInSeconds == nil {
		r.bad("BufferingHints: SizeInMBs and IntervalInSeconds go together")
	} else {
		if *h.SizeInMBs < 1 || *h.SizeInMBs > maxSizeMB {
			r.bad("SizeInMBs: %d, want 1 to %d", *h.SizeInMBs, maxSizeMB)
		}
		if *h.IntervalInSeconds < 0 || *h.IntervalInSeconds > maxInterval {
			r.bad("IntervalInSeconds: %d, want 0 to %d", *h.IntervalInSeconds, maxInterval)
		}
		r.c.Size = int64(*h.SizeInMBs) << 20
		r.c.Interval = time.Duration(*h.IntervalInSeconds) * time.Second
	}
}

func (r *reader) prefix(d *destination) {
	zone := time.UTC
	if z := d.CustomTimeZone; z != "" {
		loc, ok := javatime.Zone(z)
		if !ok {
			r.bad("CustomTimeZone: %q, want UTC or a name such as Europe/Paris", z)
		} else {
			zone = loc
		}
	}
	var err error
	if r.c.Prefix, err = ParsePrefix(d.Prefix, zone); err != nil {
		r.bad("Prefix: %w", err)
	} else if err := sink.CheckKey(r.c.key(time.UnixMilli(0), "")); err != nil {
		r.bad("Prefix: %w", err)
	}
	if r.c.errorPrefix, err = ParseErrorPrefix(d.ErrorOutputPrefix, zone); err != nil {
		r.bad("ErrorOutputPrefix: %w", err)
	} else if err := sink.CheckKey(r.c.errorKey(time.UnixMilli(0), "")); err != nil {
		r.bad("ErrorOutputPrefix: %w", err)
	}
}

// processing reads the processors served: one takes records apart, one ends
// each.
func (r *reader) processing(p *processing) {
	for _, pr := range p.Processors {
		if pr.Type == "RecordDeAggregation" {
			parameters := map[string]string{}
			for _, a := range pr.Parameters {
				parameters[a.ParameterName] = a.ParameterValue
			}
			var err error
			if r.c.split, err = parseSplit(parameters); err != nil {
				r.bad("RecordDeAggregation: %w", err)
			}
			continue
		}
		if pr.Type != "AppendDelimiterToRecord" {
			r.bad("Processors: %q, want RecordDeAggregation or AppendDelimiterToRecord", pr.Type)
			continue
		}
		r.c.Delim = []byte("\n")
		for _, a := range pr.Parameters {
			if a.ParameterName != "Delimiter" {
				r.bad("AppendDelimiterToRecord: unknown parameter %q", a.ParameterName)
				continue
			}
			// The guide writes the delimiter as \n in two characters.
			r.c.Delim = []byte(strings.ReplaceAll(a.ParameterValue, `\n`, "\n"))
		}
	}
}
