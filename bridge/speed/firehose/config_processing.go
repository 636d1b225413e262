package firehose

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose/blueprint"
	"github.com/tidemill/tidemill/bridge/speed/firehose/partition"
)

// Processing is what happens to records before delivery, in this order.
type Processing struct {
	Decompress bool      // GZIP
	LogEvents  bool      // CloudWatch Logs' documents become the messages of their events
	Split      *Splitter // takes records apart; nil: they stay whole
	Lambda     *Lambda   // nil: no function
	Delimiter  []byte    // written after each record; empty: nothing
}

// A Lambda is the function that transforms records.
type Lambda struct {
	Function string // an ARN, or a blueprint's name such as tidemill:blueprint:syslog-to-json
	Retries  int
	Buffer
}

// A Partitioning spreads records over prefixes (DynamicPartitioning).
type Partitioning struct {
	Query *partition.Query // of a record's partition keys; nil: the function's alone
	Retry time.Duration
}

type processingBlock struct {
	Enabled    bool
	Processors []processorBlock
}

type processorBlock struct {
	Type       string
	Parameters []struct{ ParameterName, ParameterValue string }
}

type partitioningBlock struct {
	option
	RetryOptions *retryBlock
}

// processors are those that there are, each with the parameters that it takes.
var processors = map[string]struct {
	parameters []string
	read       func(r *reader, at string, p parameters)
}{
	"Decompression":           {[]string{"CompressionFormat"}, (*reader).decompression},
	"CloudWatchLogProcessing": {[]string{"DataMessageExtraction"}, (*reader).logEvents},
	"RecordDeAggregation":     {[]string{"SubRecordType", "Delimiter"}, (*reader).deaggregation},
	"Lambda": {[]string{"LambdaArn", "NumberOfRetries", "RoleArn", "BufferSizeInMBs", "BufferIntervalInSeconds"},
		(*reader).lambda},
	"MetadataExtraction":      {[]string{"MetadataExtractionQuery", "JsonParsingEngine"}, (*reader).metadata},
	"AppendDelimiterToRecord": {[]string{"Delimiter"}, (*reader).delimiter},
}

// parameters are a processor's, by name.
type parameters map[string]string

// processing reads the processors. What is not enabled is checked too.
func (r *reader) processing(at string, b *processingBlock) {
	if b == nil {
		return
	}
	before := r.c.Processing
	seen := map[string]bool{}
	for _, b := range b.Processors {
		p, ok := processors[b.Type]
		if !ok {
			r.bad("%sProcessors: %.100q is not served", at, b.Type)
			continue
		}
		if seen[b.Type] {
			r.bad("%sProcessors: %s twice", at, b.Type)
		}
		seen[b.Type] = true
		given := parameters{}
		for _, a := range b.Parameters {
			if !slices.Contains(p.parameters, a.ParameterName) {
				r.bad("%s%s: unknown parameter %.100q", at, b.Type, a.ParameterName)
			}
			given[a.ParameterName] = a.ParameterValue
		}
		p.read(r, at+b.Type, given)
	}
	if !b.Enabled {
		r.c.Processing = before
		if r.c.Partitioning != nil {
			r.c.Partitioning.Query = nil
		}
	}
}

func (r *reader) decompression(at string, p parameters) {
	r.oneOf(at+".CompressionFormat", p["CompressionFormat"], "GZIP")
	r.c.Processing.Decompress = true
}

func (r *reader) logEvents(at string, p parameters) {
	r.c.Processing.LogEvents = r.oneOf(at+".DataMessageExtraction", p["DataMessageExtraction"], "true", "false") ==
		"true"
}

func (r *reader) deaggregation(at string, p parameters) {
	switch kind, text := p["SubRecordType"], p["Delimiter"]; {
	case kind == "JSON" && text == "":
		r.c.Processing.Split = &Splitter{JSON: true}
	case kind == "DELIMITED":
		d, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(d) == 0 {
			r.bad("%s.Delimiter: %.100q, want base64", at, text)
			return
		}
		r.c.Processing.Split = &Splitter{Delimiter: d}
	default:
		r.bad("%s.SubRecordType: %.100q, want JSON, or DELIMITED with a Delimiter", at, kind)
	}
}

// delimiter reads what follows each record. The guide writes a line's end as \n
// in two characters.
func (r *reader) delimiter(_ string, p parameters) {
	text, ok := p["Delimiter"]
	if !ok {
		text = "\n"
	}
	r.c.Processing.Delimiter = []byte(strings.ReplaceAll(text, `\n`, "\n"))
}

// functionARN is an ARN of a function, with or without a version.
var functionARN = regexp.MustCompile(
	`^arn:aws[a-z-]*:lambda:[a-z0-9-]+:\d{12}:function:[a-zA-Z0-9_-]{1,64}(:(\$LATEST|[a-zA-Z0-9_-]{1,128}))?$`)

// lambda reads a function. Its buffer's bounds are of the guide ("Data
// transformation": 0.2 to 3 MB, standard 1, for Splunk 0.25; 0 to 900 s,
// standard 60), retries of the API model.
func (r *reader) lambda(at string, p parameters) {
	l := &Lambda{Function: p["LambdaArn"]}
	if name, ok := strings.CutPrefix(l.Function, blueprint.Prefix); ok {
		if !blueprint.Has(name) {
			r.bad("%s.LambdaArn: there is no blueprint %.100q", at, name)
		}
	} else if !functionARN.MatchString(l.Function) {
		r.bad("%s.LambdaArn: %.200q, want arn:aws:lambda:REGION:ACCOUNT:function:NAME or %sNAME", at, l.Function,
			blueprint.Prefix)
	}
	size := 1.0
	if r.c.Kind == ToSplunk {
		size = 0.25
	}
	size = r.number(at+".BufferSizeInMBs", p["BufferSizeInMBs"], size, 0.2, 3)
	l.Retries = int(r.number(at+".NumberOfRetries", p["NumberOfRetries"], 3, 0, 300))
	seconds := r.number(at+".BufferIntervalInSeconds", p["BufferIntervalInSeconds"], 60, 0, 900)
	l.Buffer = Buffer{int64(size * (1 << 20)), time.Duration(seconds * float64(time.Second))}
	r.keepText(at+".RoleArn", p["RoleArn"])
	r.c.Processing.Lambda = l
}

// number reads a parameter's number, standard if it is not given.
func (r *reader) number(name, text string, standard, least, most float64) float64 {
	if text == "" {
		return standard
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= least && n <= most) {
		r.bad("%s: %.100q, want %g to %g", name, text, least, most)
		return standard
	}
	return n
}

// partitioning says whether dynamic partitioning is on; its retry options are of
// 0 to 7,200 s, standard 300.
func (r *reader) partitioning(b *partitioningBlock) bool {
	if b == nil || !r.on("DynamicPartitioningConfiguration", &b.option) {
		return false
	}
	seconds := 300
	if b.RetryOptions != nil && b.RetryOptions.DurationInSeconds != nil {
		seconds = *b.RetryOptions.DurationInSeconds
	}
	if seconds < 0 || seconds > maxRetry {
		r.bad("DynamicPartitioningConfiguration.RetryOptions.DurationInSeconds: %d, want 0 to %d", seconds, maxRetry)
	}
	r.c.Partitioning = &Partitioning{Retry: time.Duration(seconds) * time.Second}
	return true
}

// metadata reads the query for partition keys.
func (r *reader) metadata(at string, p parameters) {
	r.oneOf(at+".JsonParsingEngine", p["JsonParsingEngine"], "JQ-1.6")
	q, err := partition.Compile(p["MetadataExtractionQuery"])
	switch {
	case err != nil:
		r.bad("%s.MetadataExtractionQuery: %w", at, err)
	case r.c.Partitioning == nil:
		r.bad("%s: goes with DynamicPartitioningConfiguration", at)
	default:
		r.c.Partitioning.Query = q
	}
}

// partitionPrefix checks that the prefix names the partition keys that there
// are, and all of them.
func (r *reader) partitionPrefix(d *extendedBlock) {
	p, part := r.c.Objects.Prefix, r.c.Partitioning
	switch {
	case part == nil && len(p.Query)+len(p.Lambda) > 0:
		r.bad("Prefix: partition keys go with DynamicPartitioningConfiguration")
	case part == nil:
	case len(p.Query)+len(p.Lambda) == 0:
		r.bad("Prefix: want the partition keys, with DynamicPartitioningConfiguration")
	case d.ErrorOutputPrefix == "":
		r.bad("ErrorOutputPrefix: missing, with DynamicPartitioningConfiguration")
	case len(p.Lambda) > 0 && r.c.Processing.Lambda == nil:
		r.bad("Prefix: partitionKeyFromLambda goes with a processor Lambda")
	case len(p.Query) > 0 && part.Query == nil:
		r.bad("Prefix: partitionKeyFromQuery goes with a processor MetadataExtraction")
	case part.Query != nil:
		if err := r.sameKeys(p.Query, part.Query.Keys()); err != nil {
			r.bad("Prefix: %w", err)
		}
	}
}

// sameKeys compares the keys of a prefix with those of a query; known is nil
// where the query does not show its keys before it runs.
func (r *reader) sameKeys(used, known []string) error {
	if known == nil {
		return nil
	}
	for _, k := range known {
		if !slices.Contains(used, k) {
			return fmt.Errorf("want each partition key of the query; %q is not there", k)
		}
	}
	for _, k := range used {
		if !slices.Contains(known, k) {
			return fmt.Errorf("partition key %q is not in the query", k)
		}
	}
	return nil
}
