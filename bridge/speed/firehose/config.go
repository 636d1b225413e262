package firehose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
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
	ExtendedS3DestinationConfiguration *struct {
		RoleARN           string
		BucketARN         string
		Prefix            string
		ErrorOutputPrefix string
		BufferingHints    *struct {
			SizeInMBs         *int
			IntervalInSeconds *int
		}
		CompressionFormat       string
		FileExtension           string
		CustomTimeZone          string
		ProcessingConfiguration *struct {
			Enabled    bool
			Processors []struct {
				Type       string
				Parameters []struct{ ParameterName, ParameterValue string }
			}
		}
	}
}

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
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	c := &Config{Name: p.DeliveryStreamName, Size: defaultSizeMB << 20, Interval: defaultInterval * time.Second}
	if !nameForm.MatchString(c.Name) {
		bad("DeliveryStreamName: %q, want 1 to 64 of a-z A-Z 0-9 _ . -", c.Name)
	}
	if t := p.DeliveryStreamType; t != "" && t != "DirectPut" {
		bad("DeliveryStreamType: %q, want DirectPut", t)
	}
	d := p.ExtendedS3DestinationConfiguration
	if d == nil {
		bad("ExtendedS3DestinationConfiguration: missing; it is the one destination served")
		return nil, fmt.Errorf("delivery stream %q: %w", c.Name, errors.Join(errs...))
	}
	c.Bucket = strings.TrimPrefix(d.BucketARN, "arn:aws:s3:::")
	if c.Bucket == d.BucketARN {
		bad("BucketARN: %q, want arn:aws:s3:::NAME", d.BucketARN)
	} else if err := sink.CheckBucket(c.Bucket); err != nil {
		bad("BucketARN: %w", err)
	}
	if h := d.BufferingHints; h != nil {
		if h.SizeInMBs == nil || h.IntervalInSeconds == nil {
			bad("BufferingHints: SizeInMBs and IntervalInSeconds go together")
		} else {
			if *h.SizeInMBs < 1 || *h.SizeInMBs > maxSizeMB {
				bad("SizeInMBs: %d, want 1 to %d", *h.SizeInMBs, maxSizeMB)
			}
			if *h.IntervalInSeconds < 0 || *h.IntervalInSeconds > maxInterval {
				bad("IntervalInSeconds: %d, want 0 to %d", *h.IntervalInSeconds, maxInterval)
			}
			c.Size = int64(*h.SizeInMBs) << 20
			c.Interval = time.Duration(*h.IntervalInSeconds) * time.Second
		}
	}
	switch d.CompressionFormat {
	case "", "UNCOMPRESSED":
	case "GZIP":
		c.Gzip, c.Suffix = true, ".gz"
	default:
		bad("CompressionFormat: %q, want UNCOMPRESSED or GZIP", d.CompressionFormat)
	}
	if e := d.FileExtension; e != "" {
		if !strings.HasPrefix(e, ".") || strings.ContainsAny(e, "/\x00") || len(e) > 50 {
			bad("FileExtension: %q, want a dot and at most 49 further characters", e)
		}
		c.Suffix = e
	}
	zone := time.UTC
	if z := d.CustomTimeZone; z != "" {
		loc, ok := timepattern.Zone(z)
		if !ok {
			bad("CustomTimeZone: %q, want UTC or a name such as Europe/Paris", z)
		} else {
			zone = loc
		}
	}
	var err error
	if c.Prefix, err = ParsePrefix(d.Prefix, zone); err != nil {
		bad("Prefix: %w", err)
	} else if err := sink.CheckKey(c.key(time.UnixMilli(0), "")); err != nil {
		bad("Prefix: %w", err)
	}
	if d.ErrorOutputPrefix != "" {
		bad("ErrorOutputPrefix: nothing that could write there is served yet")
	}
	if pc := d.ProcessingConfiguration; pc != nil && pc.Enabled {
		for _, pr := range pc.Processors {
			if pr.Type != "AppendDelimiterToRecord" {
				bad("Processors: %q, want AppendDelimiterToRecord", pr.Type)
				continue
			}
			c.Delim = []byte("\n")
			for _, a := range pr.Parameters {
				if a.ParameterName != "Delimiter" {
					bad("AppendDelimiterToRecord: unknown parameter %q", a.ParameterName)
					continue
				}
				// The guide writes the delimiter as \n in two characters.
				c.Delim = []byte(strings.ReplaceAll(a.ParameterValue, `\n`, "\n"))
			}
		}
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("delivery stream %q: %w", c.Name, errors.Join(errs...))
	}
	return c, nil
}
