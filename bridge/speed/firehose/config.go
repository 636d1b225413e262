package firehose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/timepattern"
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
}

// payload is the part of CreateDeliveryStream that is served today. Every
// other member is refused by name rather than passed over.
type payload struct {
	DeliveryStreamName                 string
	DeliveryStreamType                 string
	KinesisStreamSourceConfiguration   *source
	ExtendedS3DestinationConfiguration *destination
}

type source struct{ KinesisStreamARN, RoleARN string }

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

var streamARN = regexp.MustCompile(`^arn:aws:kinesis:[a-z0-9-]+:\d{12}:stream/([a-zA-Z0-9_.-]{1,128})$`)

var nameForm = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`)

// Parse reads a CreateDeliveryStream request in AWS's JSON form. It reports
// all errors at once, each by its member.
func Parse(doc []byte) (*Config, error) {
	var p payload
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return nil, fmt.Errorf("delivery stream: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("delivery stream: more than one JSON value")
	}
	r := reader{c: &Config{Name: p.DeliveryStreamName, Size: defaultSizeMB << 20, Interval: defaultInterval * time.Second}}
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
	if d := p.ExtendedS3DestinationConfiguration; d != nil {
		r.destination(d)
	} else {
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

func (r *reader) destination(d *destination) {
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
	if d.ErrorOutputPrefix != "" {
		r.bad("ErrorOutputPrefix: nothing that could write there is served yet")
	}
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
		loc, ok := timepattern.Zone(z)
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
}

// processing reads the one processor served, which ends each record.
func (r *reader) processing(p *processing) {
	for _, pr := range p.Processors {
		if pr.Type != "AppendDelimiterToRecord" {
			r.bad("Processors: %q, want AppendDelimiterToRecord", pr.Type)
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
