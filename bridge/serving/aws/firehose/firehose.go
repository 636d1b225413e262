// Package firehose is Firehose as AWS's SDKs speak it: the table of its operations,
// API version 2015-08-04, in JSON 1.1. What they do is speed/firehose/control.
package firehose

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/speed/firehose/control"
	"github.com/tidemill/tidemill/shadow"
)

const (
	// maxBody is PutRecordBatch's 4 MiB as base64 and what stands around its 500
	// records, and so much more that who sends too much reads why.
	maxBody = 8 << 20
	// maxCalls are under way at once. Their bodies have come, and memory bounds
	// those.
	maxCalls = 2048
)

// Service serves s.
func Service(s *control.Service) *wire.Service {
	return &wire.Service{
		Name:       "firehose",
		Signing:    []string{"firehose"},
		Protocol:   wire.JSON{Target: "Firehose_20150804", Version: "1.1"},
		MaxBody:    maxBody,
		Concurrent: maxCalls,
		Errors: []wire.Rule{wire.As(func(e *control.Error) *wire.Error {
			status := http.StatusBadRequest
			if e.Code == control.Unavailable {
				status = http.StatusServiceUnavailable
			}
			return &wire.Error{Code: e.Code, Status: status, Message: e.Message}
		})},
		Operations: []wire.Operation{
			changes(s, create(s)),
			changes(s, query(s, "DeleteDeliveryStream", s.Delete)),
			describe(s),
			about(s, wire.Query("ListDeliveryStreams", control.Patterns, plain(s.List))),
			query(s, "ListTagsForDeliveryStream", s.ListTags),
			stores(query(s, "PutRecord", s.PutRecord)),
			stores(query(s, "PutRecordBatch", s.PutRecordBatch)),
			changes(s, query(s, "StartDeliveryStreamEncryption", s.StartEncryption)),
			changes(s, query(s, "StopDeliveryStreamEncryption", s.StopEncryption)),
			changes(s, query(s, "TagDeliveryStream", s.Tag)),
			changes(s, query(s, "UntagDeliveryStream", s.Untag)),
			changes(s, update(s)),
		},
	}
}

func plain[In, Out any](f func(context.Context, *In) (*Out, error)) func(*wire.Request, *In) (*Out, error) {
	return func(r *wire.Request, in *In) (*Out, error) { return f(r.Context(), in) }
}

// stores is an operation that puts data.
func stores(op wire.Operation) wire.Operation {
	op.Stores = true
	return op
}

// query is an operation about one delivery stream.
func query[In, Out any](s *control.Service, name string, f func(context.Context, *In) (*Out, error)) wire.Operation {
	return about(s, wire.Query(name, control.Patterns, plain(f)))
}

// about says what an operation's requests are about.
func about(s *control.Service, op wire.Operation) wire.Operation {
	op.Resource = func(r *wire.Request) string {
		if ref, ok := r.Input.(interface{ Name() string }); ok {
			return s.ARN(r.Region, ref.Name())
		}
		return "*"
	}
	return op
}

// changes is an operation that changes control. The audit log has the delivery
// stream as it was, and what is asked for, without passwords and the like.
func changes(s *control.Service, op wire.Operation) wire.Operation {
	op.Changes = true
	op.Before = func(r *wire.Request) any {
		ref, ok := r.Input.(interface{ Name() string })
		if !ok {
			return nil
		}
		name := ref.Name()
		d, err := s.Describe(r.Context(), r.Region,
			&control.DescribeInput{Ref: control.Ref{DeliveryStreamName: &name}})
		if err != nil {
			return nil // there is none yet
		}
		d.Destination = hidden(d.Destination)
		return d
	}
	return op
}

// asked is the document of a request as it is kept: without passwords, tokens, keys, the
// values that each request of an HTTP endpoint has, and what is behind ? in a URL.
func asked(r *wire.Request) any {
	v, err := shadow.Parse(r.Body)
	if err != nil {
		return nil
	}
	text, err := json.Marshal(withoutQueries(v))
	if err != nil {
		return nil
	}
	return audit.Kept(text)
}

// withoutQueries cuts URLs within v before what may be a password.
func withoutQueries(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			v[name] = withoutQueries(inner)
		}
	case []any:
		for i, inner := range v {
			v[i] = withoutQueries(inner)
		}
	case string:
		if before, _, ok := strings.Cut(v, "?"); ok && strings.Contains(before, "://") {
			return before
		}
	}
	return v
}

// hidden is a destination as it is shown to who may not change it, and as it is kept.
func hidden(v map[string]any) map[string]any {
	text, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	out, err := shadow.ParseObject(audit.Hidden(text))
	if err != nil {
		return nil
	}
	return out
}

// create reads the destination from the body, which is the document that files
// declare, too.
func create(s *control.Service) wire.Operation {
	return documented(about(s, wire.Query("CreateDeliveryStream", control.Patterns,
		func(r *wire.Request, in *control.CreateInput) (*control.CreateOutput, error) {
			return s.Create(r.Context(), r.Region, in, r.Body)
		})))
}

// documented is an operation whose request is a document that has more than its input.
func documented(op wire.Operation) wire.Operation {
	op.Asked = asked
	return op
}

func update(s *control.Service) wire.Operation {
	return documented(about(s, wire.Query("UpdateDestination", control.Patterns,
		func(r *wire.Request, in *control.UpdateInput) (*control.Empty, error) {
			return s.Update(r.Context(), in, r.Body)
		})))
}

// describe writes its answer by hand, since a destination has one of many forms.
func describe(s *control.Service) wire.Operation {
	return about(s, wire.Operation{
		Name:  "DescribeDeliveryStream",
		Input: shape.Of[control.DescribeInput](control.Patterns),
		Run: func(r *wire.Request) (any, error) {
			d, err := s.Describe(r.Context(), r.Region, r.Input.(*control.DescribeInput))
			if err == nil && r.Authorize("firehose:UpdateDestination", d.ARN) != nil {
				d.Destination = hidden(d.Destination)
			}
			return d, err
		},
		Output: func(w *shape.Writer, out any) { write(w, out.(*control.Description)) },
	})
}

// write writes a description.
func write(w *shape.Writer, d *control.Description) {
	text := func(name, value string) {
		if value != "" {
			w.Name(name)
			w.Text(value)
		}
	}
	w.OpenMap()
	w.Name("DeliveryStreamDescription")
	w.OpenMap()
	text("DeliveryStreamName", d.Name)
	text("DeliveryStreamARN", d.ARN)
	text("DeliveryStreamStatus", d.Status)
	w.Name("DeliveryStreamEncryptionConfiguration")
	w.OpenMap()
	text("Status", d.Encryption)
	text("KeyARN", d.KeyARN)
	text("KeyType", d.KeyType)
	w.CloseMap()
	text("DeliveryStreamType", d.Type)
	text("VersionId", d.Version)
	w.Name("CreateTimestamp")
	w.Time(d.Created)
	if !d.Updated.IsZero() {
		w.Name("LastUpdateTimestamp")
		w.Time(d.Updated)
	}
	if d.SourceARN != "" {
		w.Name("Source")
		w.OpenMap()
		w.Name("KinesisStreamSourceDescription")
		w.OpenMap()
		text("KinesisStreamARN", d.SourceARN)
		text("RoleARN", d.SourceRole)
		w.Name("DeliveryStartTimestamp")
		w.Time(d.SourceStart)
		w.CloseMap()
		w.CloseMap()
	}
	w.Name("Destinations")
	w.OpenList()
	if d.Destination != nil {
		w.Item()
		value(w, d.Destination)
	}
	w.CloseList()
	w.Name("HasMoreDestinations")
	w.Bool(false)
	w.CloseMap()
	w.CloseMap()
}

// value writes a value of a document. Its numbers are whole.
func value(w *shape.Writer, v any) {
	switch v := v.(type) {
	case map[string]any:
		w.OpenMap()
		for _, name := range slices.Sorted(maps.Keys(v)) {
			w.Name(name)
			value(w, v[name])
		}
		w.CloseMap()
	case []any:
		w.OpenList()
		for _, e := range v {
			w.Item()
			value(w, e)
		}
		w.CloseList()
	case bool:
		w.Bool(v)
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			w.Text(v.String())
			return
		}
		w.Int(n)
	default:
		w.Text(fmt.Sprint(v))
	}
}
