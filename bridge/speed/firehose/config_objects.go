package firehose

import (
	"encoding/json"
	"reflect"
	"regexp"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
	"github.com/tidemill/tidemill/bridge/speed/javatime"
	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// Objects says how records become objects.
type Objects struct {
	Bucket              string
	Prefix, ErrorPrefix Prefix
	Buffer
	Compression compress.Format
	Suffix      string // of object keys, such as ".gz"

	Region, EndpointURL string // of S3; both empty: the bridge's own objects
}

// A Buffer says when records are delivered: what is reached first.
type Buffer struct {
	Size     int64         // bytes before compression
	Interval time.Duration // age of the oldest buffered record
}

type s3Block struct {
	RoleARN                  string
	BucketARN                string
	Prefix                   string
	ErrorOutputPrefix        string
	BufferingHints           *hints
	CompressionFormat        string
	CloudWatchLoggingOptions json.RawMessage
	EncryptionConfiguration  json.RawMessage
}

type extendedBlock struct {
	s3Block
	FileExtension           string
	CustomTimeZone          string
	ProcessingConfiguration *processingBlock

	S3BackupMode                      string
	S3BackupConfiguration             *s3Block
	DataFormatConversionConfiguration *conversionBlock
	DynamicPartitioningConfiguration  *partitioningBlock
}

type hints struct {
	SizeInMBs         *int
	IntervalInSeconds *int
}

// A hintBound is what BufferingHints may be, in MiB and seconds.
type hintBound struct{ leastMB, mostMB, standardMB, leastS, mostS, standardS int }

// Bounds and defaults of the hints (Firehose API, BufferingHints of each
// destination).
var (
	s3Hints       = hintBound{1, 128, 5, 0, 900, 300}
	grownHints    = hintBound{64, 128, 128, 0, 900, 300} // with conversion or partitioning
	searchHints   = hintBound{1, 100, 5, 0, 900, 300}
	endpointHints = hintBound{1, 64, 5, 0, 900, 300}
	splunkHints   = hintBound{1, 5, 5, 0, 60, 60}
)

// hints reads when a delivery is due. AWS wants both or none.
func (r *reader) hints(at string, h *hints, b hintBound) Buffer {
	size, interval := b.standardMB, b.standardS
	switch {
	case h == nil || h.SizeInMBs == nil && h.IntervalInSeconds == nil:
	case h.SizeInMBs == nil || h.IntervalInSeconds == nil:
		r.bad("%sBufferingHints: SizeInMBs and IntervalInSeconds go together", at)
	default:
		size, interval = *h.SizeInMBs, *h.IntervalInSeconds
	}
	if size < b.leastMB || size > b.mostMB {
		r.bad("%sBufferingHints.SizeInMBs: %d, want %d to %d", at, size, b.leastMB, b.mostMB)
	}
	if interval < b.leastS || interval > b.mostS {
		r.bad("%sBufferingHints.IntervalInSeconds: %d, want %d to %d", at, interval, b.leastS, b.mostS)
	}
	return Buffer{int64(size) << 20, time.Duration(interval) * time.Second}
}

// extended reads an S3 destination.
func (r *reader) extended(d *extendedBlock) {
	c := r.c
	c.Retry = retryS3
	bound := s3Hints
	if r.partitioning(d.DynamicPartitioningConfiguration) || r.conversion(d.DataFormatConversionConfiguration) {
		bound = grownHints
		r.conversion(d.DataFormatConversionConfiguration)
	}
	zone := r.zone(d.CustomTimeZone)
	r.processing("", d.ProcessingConfiguration)
	c.Objects = r.objects("", &d.s3Block, zone, bound)
	c.Buffer = c.Objects.Buffer
	r.extension(d.FileExtension)
	r.convertedObjects()
	r.partitionPrefix(d)
	r.backup(d.S3BackupMode, d.S3BackupConfiguration)
}

// plain reads an S3 destination of the old kind. Files may have the members of
// the new kind in it, since earlier versions took them.
func (r *reader) plain(d *extendedBlock) {
	if r.api && !reflect.DeepEqual(*d, extendedBlock{s3Block: d.s3Block}) {
		r.bad("S3DestinationConfiguration: a member is unknown; ExtendedS3DestinationConfiguration has more of them")
	}
	r.extended(d)
}

// backup reads whether the records are kept as they came, of S3 and Redshift.
func (r *reader) backup(mode string, b *s3Block) {
	if r.oneOf("S3BackupMode", mode, "Disabled", "Enabled") == "Disabled" {
		r.keepText("S3BackupMode", mode)
		if b != nil {
			r.bad("S3BackupConfiguration: goes with the S3BackupMode Enabled")
		}
		return
	}
	if b == nil {
		r.bad("S3BackupConfiguration: missing, with the S3BackupMode Enabled")
		return
	}
	o := r.objects("S3BackupConfiguration.", b, time.UTC, s3Hints)
	r.c.SourceBackup = &o
}

// required reads the block of objects that a destination cannot be without.
func (r *reader) required(b *s3Block) {
	if b == nil {
		r.bad("S3Configuration: missing")
		return
	}
	r.c.Objects = r.objects("S3Configuration.", b, time.UTC, s3Hints)
}

// objects reads a block of S3, whose members' names begin with at.
func (r *reader) objects(at string, d *s3Block, zone *time.Location, bound hintBound) (o Objects) {
	r.keepText(at+"RoleARN", d.RoleARN)
	r.keep(at+"CloudWatchLoggingOptions", d.CloudWatchLoggingOptions)
	r.keep(at+"EncryptionConfiguration", d.EncryptionConfiguration)
	bucket, ok := arn.CutBucket(d.BucketARN)
	if o.Bucket = bucket; !ok {
		r.bad("%sBucketARN: %.200q, want arn:aws:s3:::NAME", at, d.BucketARN)
	} else if err := sink.CheckBucket(o.Bucket); err != nil {
		r.bad("%sBucketARN: %w", at, err)
	}
	o.Buffer = r.hints(at, d.BufferingHints, bound)
	var err error
	if o.Compression, err = compress.Parse(d.CompressionFormat); err != nil {
		r.bad("%sCompressionFormat: %w", at, err)
	}
	o.Suffix = o.Compression.Extension()
	r.prefixes(at, d, zone, &o)
	return o
}

// prefixes reads where objects go, and those of failures.
func (r *reader) prefixes(at string, d *s3Block, zone *time.Location, o *Objects) {
	var err error
	if o.Prefix, err = parseObjectPrefix(d.Prefix, zone); err != nil {
		r.bad("%sPrefix: %w", at, err)
		return
	}
	if d.ErrorOutputPrefix == "" && o.Prefix.expressions && r.api {
		r.bad("%sErrorOutputPrefix: missing; want one where Prefix has expressions", at)
	}
	text := d.ErrorOutputPrefix
	if text == "" && !o.Prefix.expressions {
		text = d.Prefix
	}
	if o.ErrorPrefix, err = parseErrorPrefix(text, zone); err != nil {
		r.bad("%sErrorOutputPrefix: %w", at, err)
		return
	}
	for name, p := range map[string]Prefix{"Prefix": o.Prefix, "ErrorOutputPrefix": o.ErrorPrefix} {
		if key, err := p.Eval(p.sample()); err != nil {
			r.bad("%s%s: %w", at, name, err)
		} else if err := sink.CheckKey(key + "x"); err != nil {
			r.bad("%s%s: %w", at, name, err)
		}
	}
}

func (r *reader) zone(name string) *time.Location {
	if name == "" {
		return time.UTC
	}
	loc, ok := javatime.Zone(name)
	if !ok {
		r.bad("CustomTimeZone: %.100q, want UTC or a name such as Europe/Paris", name)
		return time.UTC
	}
	return loc
}

// extensionForm is the model's (Firehose API, FileExtension; at most 128).
var extensionForm = regexp.MustCompile(`^\.[0-9a-z!\-_.*'()]{1,127}$`)

// extension reads the end of object keys, which overrides that of the
// compression.
func (r *reader) extension(e string) {
	if e == "" {
		return
	}
	if !extensionForm.MatchString(e) {
		r.bad("FileExtension: %.200q, want a dot and 1 to 127 of 0-9 a-z ! - _ . * ' ( )", e)
	}
	r.c.Objects.Suffix = e
}
