package connector

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/strictjson"
)

// A File is a connector as it is declared; FORMAT.md describes it.
type File struct {
	ConnectorName string
	Source        struct {
		StreamPlace
		StartingPosition  string
		StartingTimestamp time.Time
	}
	Transform struct {
		SQL           string
		SQLVersion    string
		AppendNewline bool
	}
	Filter struct {
		JSON string // "drop" or "fail"
	}
	Buffer struct {
		Records int
		Bytes   int
		Seconds float64
	}
	Retry struct {
		Limit   *int
		Seconds float64
	}
	DeadLetter *StreamPlace
	Emit       map[string]json.RawMessage // of one member
	Leases     struct {
		DynamoDB *struct {
			TableName   string
			Region      string
			EndpointURL string
		}
		File *struct{ Path string }
	}
	Workers int

	sql *iotsql.Statement
}

// A StreamPlace is a stream: of the bridge that runs the connector if it has
// but a name, else of Kinesis or of a bridge elsewhere.
type StreamPlace struct {
	StreamName  string
	StreamARN   string
	Region      string
	EndpointURL string
}

func (p *StreamPlace) remote() bool {
	return p.StreamARN != "" || p.Region != "" || p.EndpointURL != ""
}

// stream is the name or ARN.
func (p *StreamPlace) stream() string {
	if p.StreamARN != "" {
		return p.StreamARN
	}
	return p.StreamName
}

var (
	nameForm = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
	arnForm  = regexp.MustCompile(`^arn:aws[a-z-]*:kinesis:([a-z0-9-]+):\d{12}:stream/[a-zA-Z0-9_.-]{1,128}$`)
)

// place is where the stream's service is; an ARN tells its region.
func (p *StreamPlace) place() awsapi.Place {
	at := awsapi.Place{Region: p.Region, EndpointURL: p.EndpointURL}
	if m := arnForm.FindStringSubmatch(p.StreamARN); m != nil && at.Region == "" {
		at.Region = m[1]
	}
	return at
}

// Bounds of what a file may ask for: a buffer is in memory, one for each shard.
const (
	maxBufferRecords = 100_000
	maxBufferBytes   = 128 << 20
	maxSeconds       = 24 * 3600
	maxWorkers       = 64
	maxRetries       = 1000
)

// ParseFile reads a file and checks it, the emitter's part by making one, and
// what can only be had in a bridge (inside) or in a process of its own. It
// reports all errors at once, each by its member.
func ParseFile(doc []byte, emit NewEmitter, inside bool) (*File, error) {
	var f File
	if err := json.Unmarshal(doc, new(json.RawMessage)); err != nil {
		return nil, fmt.Errorf("want one JSON object: %w", strictjson.Explain(doc, err))
	}
	errs := decode("", doc, reflect.ValueOf(&f).Elem())
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if !nameForm.MatchString(f.ConnectorName) {
		bad("ConnectorName: %q, want 1 to 128 of a-z A-Z 0-9 _ . -", f.ConnectorName)
	}
	f.checkSource(bad)
	if t := f.Transform; t.SQL != "" {
		if t.SQLVersion == "" {
			t.SQLVersion = iotsql.Version2016
		}
		var err error
		if f.sql, err = iotsql.Compile(t.SQL, t.SQLVersion); err != nil {
			bad("Transform.SQL: %w", err)
		}
	} else if t.SQLVersion != "" {
		bad("Transform.SQLVersion: it needs SQL")
	}
	if j := f.Filter.JSON; j != "" && j != "drop" && j != "fail" {
		bad("Filter.JSON: %q, want drop or fail", j)
	}
	f.checkBounds(bad)
	if f.DeadLetter != nil {
		f.DeadLetter.check("DeadLetter", bad)
	}
	if len(f.Emit) != 1 {
		bad("Emit: %d members, want one, such as S3", len(f.Emit))
	} else if e, err := f.emitter(Env{Emit: emit}, inside); err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, e.Close())
	}
	f.checkLeases(inside, bad)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &f, nil
}

// A reporter takes what is wrong with a file.
type reporter func(format string, args ...any)

func (f *File) checkSource(bad reporter) {
	f.Source.StreamPlace.check("Source", bad)
	switch s := &f.Source; s.StartingPosition {
	case "", TrimHorizon, Latest:
		if !s.StartingTimestamp.IsZero() {
			bad("Source.StartingTimestamp: it needs the StartingPosition %s", AtTimestamp)
		}
	case AtTimestamp:
		if s.StartingTimestamp.IsZero() {
			bad("Source.StartingTimestamp: missing; want a time such as 2026-01-31T12:00:00Z")
		}
	default:
		bad("Source.StartingPosition: %q, want %s, %s or %s", s.StartingPosition, TrimHorizon, Latest, AtTimestamp)
	}
}

func (f *File) checkBounds(bad reporter) {
	for _, x := range []struct {
		name    string
		v, most float64
	}{
		{"Buffer.Records", float64(f.Buffer.Records), maxBufferRecords},
		{"Buffer.Bytes", float64(f.Buffer.Bytes), maxBufferBytes},
		{"Buffer.Seconds", f.Buffer.Seconds, maxSeconds},
		{"Retry.Seconds", f.Retry.Seconds, maxSeconds},
		{"Workers", float64(f.Workers), maxWorkers},
	} {
		if x.v < 0 || x.v > x.most {
			bad("%s: %v, want at most %v, or 0 for the default", x.name, x.v, x.most)
		}
	}
	if l := f.Retry.Limit; l != nil && (*l < 0 || *l > maxRetries) {
		bad("Retry.Limit: %d, want 0 to %d", *l, maxRetries)
	}
}

func (f *File) checkLeases(inside bool, bad reporter) {
	switch l := f.Leases; {
	case l.DynamoDB != nil && l.File != nil:
		bad("Leases: DynamoDB and File, want one of them or none")
	case l.File != nil && l.File.Path == "":
		bad("Leases.File.Path: missing")
	case inside && l.File != nil:
		bad("Leases.File: it is for a connector that runs by itself; in the bridge the log has the leases")
	case !inside && l.DynamoDB == nil && l.File == nil:
		bad("Leases: missing; a connector that runs by itself needs DynamoDB or File")
	}
}

// Check tells bad what is wrong with a stream that the member name has.
func (p *StreamPlace) Check(name string, bad func(string, ...any)) { p.check(name, bad) }

// At returns where a stream is and its name or ARN; local, that it is one of
// the bridge that runs the connector.
func (p *StreamPlace) At() (at awsapi.Place, stream string, local bool) {
	return p.place(), p.stream(), !p.remote()
}

func (p *StreamPlace) check(name string, bad func(string, ...any)) {
	switch {
	case p.StreamName == "" && p.StreamARN == "":
		bad("%s: want StreamName or StreamARN", name)
	case p.StreamName != "" && p.StreamARN != "":
		bad("%s: StreamName and StreamARN, want one of them", name)
	case p.StreamARN != "" && !arnForm.MatchString(p.StreamARN):
		bad("%s.StreamARN: %q is no stream's", name, p.StreamARN)
	case p.StreamName != "" && !nameForm.MatchString(p.StreamName):
		bad("%s.StreamName: %q, want 1 to 128 of a-z A-Z 0-9 _ . -", name, p.StreamName)
	}
}

// Decode reads a JSON object into the struct that into points to, and returns
// all that is wrong with it, each by its member.
func Decode(doc []byte, into any) []error { return decode("", doc, reflect.ValueOf(into).Elem()) }

// decode reads an object into a struct, member by member, so that every one
// that is unknown or of the wrong type is named.
func decode(path string, doc []byte, into reflect.Value) (errs []error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(doc, &members); err != nil {
		return []error{fmt.Errorf("%s: want an object", orFile(path))}
	}
	for name, raw := range sorted(members) {
		at := name
		if path != "" {
			at = path + "." + name
		}
		field, ok := into.Type().FieldByName(name)
		if !ok || !field.IsExported() || field.Anonymous {
			errs = append(errs, fmt.Errorf("%s: unknown member", at))
			continue
		}
		v := into.FieldByIndex(field.Index)
		if v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct {
			v.Set(reflect.New(v.Type().Elem()))
			v = v.Elem()
		}
		if _, plain := v.Interface().(time.Time); v.Kind() == reflect.Struct && !plain {
			errs = append(errs, decode(at, raw, v)...)
			continue
		}
		if err := json.Unmarshal(raw, v.Addr().Interface()); err != nil {
			if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
				err = fmt.Errorf("a %s, want %s", t.Value, kindNames[v.Kind()])
			}
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		}
	}
	return errs
}

var kindNames = map[reflect.Kind]string{
	reflect.String: "a string", reflect.Int: "a whole number", reflect.Pointer: "a whole number",
	reflect.Float64: "a number", reflect.Bool: "true or false", reflect.Map: "an object", reflect.Struct: "a time",
	reflect.Slice: "a list",
}

func orFile(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

// sorted ranges over a map in the order of its keys.
func sorted[V any](m map[string]V) func(yield func(string, V) bool) {
	return func(yield func(string, V) bool) {
		keys := make([]string, 0, len(m))
		for k := range m {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
