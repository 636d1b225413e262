package firehose

import (
	"encoding/json"
	"regexp"
	"time"
)

// A Source is where the records of a delivery stream come from.
type Source struct {
	Stream string // data stream; empty: records are put

	// Region and EndpointURL lead to Kinesis where the stream is not the
	// bridge's own; both are empty then.
	Region, EndpointURL string
	ARN                 string // of the data stream, as it was given
}

// Direct says whether records are put.
func (s Source) Direct() bool { return s.Stream == "" }

// own says whether the source is a data stream of the bridge.
func (s Source) own() bool { return s.Stream != "" && s.Region == "" && s.EndpointURL == "" }

type sourceBlock struct {
	KinesisStreamARN, RoleARN string
	DeliveryStartTimestamp    json.RawMessage `json:",omitempty"` // of a description
}

// A houseBlock has what AWS has no word for: where services are. A request of
// the API cannot have it.
type houseBlock struct {
	Kinesis *place          // of the source; else a data stream of the bridge
	S3      *place          // of all objects; else the bridge's own
	Search  *searchHouse    // how to speak with the search service
	Table   json.RawMessage // that SchemaConfiguration names, as AWS Glue exports one
}

// A place is a service of AWS, or one like it.
type place struct {
	Region      string
	EndpointURL string
}

var streamARN = regexp.MustCompile(
	`^arn:aws[a-z-]*:kinesis:[a-z0-9-]+:\d{12}:stream/([a-zA-Z0-9_.-]{1,128})$`)

// source reads where records come from.
func (r *reader) source(q *request) {
	src := q.KinesisStreamSourceConfiguration
	switch q.DeliveryStreamType {
	case "", "DirectPut":
		if src != nil {
			r.bad("KinesisStreamSourceConfiguration: goes with the DeliveryStreamType KinesisStreamAsSource")
		}
		r.keep("DirectPutSourceConfiguration", q.DirectPutSourceConfiguration)
	case "KinesisStreamAsSource":
		if q.DirectPutSourceConfiguration != nil {
			r.bad("DirectPutSourceConfiguration: goes with the DeliveryStreamType DirectPut")
		}
		if src == nil {
			r.bad("KinesisStreamSourceConfiguration: missing")
			return
		}
		r.keepText("KinesisStreamSourceConfiguration.RoleARN", src.RoleARN)
		m := streamARN.FindStringSubmatch(src.KinesisStreamARN)
		if m == nil {
			r.bad("KinesisStreamARN: %.200q, want arn:aws:kinesis:REGION:ACCOUNT:stream/NAME", src.KinesisStreamARN)
			return
		}
		r.c.Source = Source{Stream: m[1], ARN: src.KinesisStreamARN}
	default:
		r.bad("DeliveryStreamType: %.100q, want DirectPut or KinesisStreamAsSource", q.DeliveryStreamType)
	}
}

// house reads the bridge's own members.
func (r *reader) house(h *houseBlock) {
	switch {
	case h == nil:
		return
	case r.api:
		r.bad("Tidemill: unknown member")
		return
	}
	if p := h.Kinesis; p != nil {
		if r.c.Source.Direct() {
			r.bad("Tidemill.Kinesis: goes with the DeliveryStreamType KinesisStreamAsSource")
		}
		r.place("Tidemill.Kinesis", p)
		r.c.Source.Region, r.c.Source.EndpointURL = p.Region, p.EndpointURL
	}
	if p := h.S3; p != nil {
		r.place("Tidemill.S3", p)
		r.c.Objects.Region, r.c.Objects.EndpointURL = p.Region, p.EndpointURL
		if b := r.c.SourceBackup; b != nil {
			b.Region, b.EndpointURL = p.Region, p.EndpointURL
		}
	}
	if s := h.Search; s != nil {
		r.searchHouse(s)
	}
	if h.Table != nil {
		r.schema(h.Table)
	}
}

func (r *reader) place(name string, p *place) {
	if p.Region == "" && p.EndpointURL == "" {
		r.bad("%s: want a Region or an EndpointURL", name)
	}
	if p.EndpointURL != "" {
		r.url(name+".EndpointURL", p.EndpointURL, anyHost)
	}
}

// A retryBlock bounds the time that a delivery is tried.
type retryBlock struct{ DurationInSeconds *int }

// maxRetry is 2 hours (Firehose API, RetryOptions of each destination).
const maxRetry = 7200

// retry reads for how long a delivery is tried, standard seconds if it is not
// said.
func (r *reader) retry(b *retryBlock, standard int) {
	seconds := standard
	if b != nil && b.DurationInSeconds != nil {
		seconds = *b.DurationInSeconds
	}
	if seconds < 0 || seconds > maxRetry {
		r.bad("RetryOptions.DurationInSeconds: %d, want 0 to %d", seconds, maxRetry)
	}
	r.c.Retry = time.Duration(seconds) * time.Second
}
