package firehose

import (
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/httpendpoint"
	"github.com/tidemill/tidemill/bridge/speed/sink/search"
	"github.com/tidemill/tidemill/bridge/speed/sink/splunk"
)

// A target takes records itself, not as objects. It answers for units of records:
// what it refused is written under the error prefix.
type target struct {
	failedType string
	// group is how many of pieces, at least one, are the first unit.
	group func(pieces []piece) int
	// send tries units, and tells which were not taken.
	send func(ctx context.Context, units []unit, idx []int) ([]sink.Refusal, error)
	// enough says that a unit is given up.
	enough func(f *delivery.Failing) bool
	// line adds to a failure what the target has for it.
	line func(f *failure, u *unit, i int, err error)
}

// A unit is records that a target answers for as one.
type unit struct {
	id     string // the same at every attempt
	at     int64  // of the plan, epoch ms
	stream string // ids of pieces begin with it
	pieces []piece
}

// units are those of pieces. Pieces that failed in a unit are one again, with its id: a
// receiver that took it passes over that and over no other record.
func (d *stream) units(t *target, at int64, pieces []piece) (all []unit) {
	for len(pieces) > 0 {
		id, n := pieces[0].unit, 0
		for id != "" && n < len(pieces) && pieces[n].unit == id {
			n++
		}
		if id == "" {
			n = t.group(pieces)
			id = uuid.NewHash(sha1.New(), uuid.NameSpaceOID, []byte(pieces[0].id(d.idPrefix())), 5).String()
		}
		all = append(all, unit{id: id, at: at, stream: d.idPrefix(), pieces: pieces[:n]})
		pieces = pieces[n:]
	}
	return all
}

// idPrefix begins the ids of records: of this stream and no other one, though it
// has the same name.
func (d *stream) idPrefix() string {
	return uuid.NewHash(sha1.New(), uuid.NameSpaceOID, d.state, 5).String()
}

// toTarget delivers to a target. What it does not take in the time of the retry
// window goes under the error prefix, and is kept in mind until it is driven again.
func (d *stream) toTarget(ctx context.Context, c *Config, p *plan, t *target) (*delivery.Job, error) {
	m, err := d.make(ctx, c, p)
	if err != nil {
		return nil, err
	}
	units := d.units(t, p.At, m.parts)
	tries := map[int]int{}
	why := map[string]string{}
	done := m.counts
	done.records, done.bytes, done.failed = int64(len(m.parts)), p.size(m.parts), m.nFail
	fail := func(r sink.Refusal) {
		u := &units[r.Index]
		why[t.failedType] = r.Err.Error()
		for i := range u.pieces {
			one := &u.pieces[i]
			f := &failure{Attempts: tries[r.Index], Arrived: one.Arrived.UnixMilli(), Message: r.Err.Error(),
				Ended: time.Now().UnixMilli(), Raw: one.Data}
			t.line(f, u, i, r.Err)
			m.fail(t.failedType, f)
		}
		done.records, done.bytes = done.records-int64(len(u.pieces)), done.bytes-p.size(u.pieces)
	}
	return &delivery.Job{
		Items: len(units), OutagesCount: true,
		Send: func(ctx context.Context, idx []int) ([]sink.Refusal, error) {
			for _, i := range idx {
				tries[i]++
			}
			return t.send(ctx, units, idx)
		},
		Enough: func(_ int, f *delivery.Failing) bool { return t.enough(f) },
		Settle: func(ctx context.Context, to int, given []sink.Refusal) error {
			for _, r := range given {
				if lost := (*httpendpoint.Error)(nil); errors.As(r.Err, &lost) && lost.TooLarge {
					d.nLost.Add(int64(len(units[r.Index].pieces)))
					d.log.Error("records are too large for the endpoint, and gone", "err", r.Err)
					continue // the guide: they are not backed up
				}
				fail(r)
			}
			if to < len(units) {
				return nil
			}
			done.failed = m.nFail
			return d.finish(ctx, c, p, m, done, t.failedType, why)
		},
	}, nil
}

// finish writes what failed, and the copy of all records if there is to be one, and
// moves the position. It waits for as long as the objects cannot be written.
func (d *stream) finish(ctx context.Context, c *Config, p *plan, m *made, n counts, failedType string,
	why map[string]string) error {
	outputs := d.failures(c, p, m)
	if c.BackupAll && len(m.parts) > 0 {
		all := p.joined(c, p.Key, m.parts)
		all.backup = true
		outputs = append(outputs, all)
	}
	n.backup = new(Amount)
	for i := range outputs {
		if o := &outputs[i]; o.backup || o.kind == failedType {
			o.backup = true
			n.backup.add(o.records, o.bytes)
		}
	}
	if err := d.Persist(ctx, "writing what failed", abandoned, func(ctx context.Context) error {
		return d.putPlanned(ctx, p, outputs)
	}); err != nil {
		return err
	}
	n.objects = int64(len(outputs))
	return d.settleWith(ctx, p, n, d.ofOutputs(p, outputs, why))
}

func abandoned(err error) bool { return errors.Is(err, delivery.ErrAbandon) }

// target is that of a configuration; nil: objects are.
func (d *stream) target(c *Config) (*target, error) {
	switch {
	case c.Search != nil:
		return d.toSearch(c)
	case c.Endpoint != nil:
		return d.toEndpoint(c)
	case c.Splunk != nil:
		return d.toSplunk(c)
	}
	return nil, nil
}

func (d *stream) toSearch(c *Config) (*target, error) {
	s := c.Search
	o := search.Options{URL: s.Endpoint, HTTP: d.opts.HTTP}
	switch {
	case s.Username != "":
		o.Authorize = search.Basic(s.Username, s.Password.Reveal())
	case s.Region != "":
		if d.opts.AWS == nil {
			return nil, errors.New("there are no credentials to sign requests with")
		}
		config, err := d.opts.AWS(Place{Region: s.Region})
		if err != nil {
			return nil, err
		}
		o.Authorize = search.Signed(config, "es")
	}
	client := search.New(o)
	document := func(u *unit) *search.Document {
		one := &u.pieces[0]
		doc := &search.Document{Index: search.Rotated(s.Index, s.Rotation, one.Arrived), Type: s.Type}
		if !s.NoID {
			doc.ID = one.id(u.stream)
		}
		return doc
	}
	return &target{
		failedType: s.FailedType,
		group:      func([]piece) int { return 1 },
		enough:     func(f *delivery.Failing) bool { return time.Since(f.Began) >= c.Retry },
		send: func(ctx context.Context, units []unit, idx []int) (refused []sink.Refusal, err error) {
			docs := make([]*search.Document, len(idx))
			for n, i := range idx {
				line, err := search.Line(units[i].pieces[0].Data)
				if err != nil {
					refused = append(refused, sink.Refusal{Index: i, Err: err, Permanent: true})
					continue
				}
				docs[n] = document(&units[i])
				docs[n].Source = line
			}
			more, err := client.Write(ctx, docs, search.StandardBulk)
			for _, r := range more {
				r.Index = idx[r.Index]
				refused = append(refused, r)
			}
			return refused, err
		},
		line: func(f *failure, u *unit, _ int, err error) {
			doc := document(u)
			f.DocumentID, f.Index, f.Type = doc.ID, doc.Index, doc.Type
			f.Code = "ES.ServiceException"
			if status := (*search.StatusError)(nil); errors.As(err, &status) {
				f.Code = fmt.Sprint(status.Status)
			}
		},
	}, nil
}

func (d *stream) toEndpoint(c *Config) (*target, error) {
	e := c.Endpoint
	attributes := map[string]string{}
	for _, a := range e.Attributes {
		attributes[a.Name] = a.Value.Reveal()
	}
	client, err := httpendpoint.New(httpendpoint.Options{URL: e.URL, AccessKey: e.AccessKey.Reveal(), Gzip: e.Gzip,
		Attributes: attributes, SourceARN: d.arn(c.Name), HTTP: d.opts.HTTP})
	return &target{
		failedType: endpointFailed,
		group:      func(pieces []piece) int { return bounded(pieces, httpendpoint.MaxRecords, httpendpoint.MaxBytes) },
		// Waiting for an answer does not count.
		enough: func(f *delivery.Failing) bool { return f.Waited >= c.Retry },
		send: each(func(ctx context.Context, u *unit) (never bool, err error) {
			err = client.Post(ctx, &httpendpoint.Request{ID: u.id, Time: u.at, Records: u.data(c.Processing.Delimiter)})
			why, _ := errors.AsType[*httpendpoint.Error](err)
			return why != nil && why.TooLarge, err
		}),
		line: func(f *failure, u *unit, i int, err error) {
			f.DataID, f.RequestID = u.pieces[i].id(u.stream), u.id
			if why, ok := errors.AsType[*httpendpoint.Error](err); ok {
				f.Code, f.Message = why.Code, why.Err.Error()
			}
		},
	}, err
}

func (d *stream) toSplunk(c *Config) (*target, error) {
	s := c.Splunk
	client := splunk.New(splunk.Options{URL: s.URL, Raw: s.Raw, Token: s.Token.Reveal(), Channel: d.idPrefix(),
		Ack: s.AckTimeout, HTTP: d.opts.HTTP})
	return &target{
		failedType: splunkFailed,
		group:      func(pieces []piece) int { return len(pieces) },
		enough:     func(f *delivery.Failing) bool { return f.Waited >= c.Retry },
		send: each(func(ctx context.Context, u *unit) (never bool, err error) {
			err = client.Send(ctx, u.data(c.Processing.Delimiter))
			why, _ := errors.AsType[*splunk.Error](err)
			return why != nil && why.Never, err
		}),
		line: func(f *failure, u *unit, i int, err error) {
			f.EventID = u.pieces[i].id(u.stream)
			if why, ok := errors.AsType[*splunk.Error](err); ok {
				f.Code, f.Message = why.Code, why.Err.Error()
			}
		},
	}, nil
}

// each sends units one after the other, up to the first that is to be sent again.
func each(send func(ctx context.Context, u *unit) (never bool, err error)) func(context.Context, []unit,
	[]int) ([]sink.Refusal, error) {
	return func(ctx context.Context, units []unit, idx []int) (refused []sink.Refusal, _ error) {
		for n, i := range idx {
			never, err := send(ctx, &units[i])
			if err == nil {
				continue
			}
			refused = append(refused, sink.Refusal{Index: i, Err: err, Permanent: never})
			if !never {
				for _, i := range idx[n+1:] {
					refused = append(refused, sink.Refusal{Index: i, Err: delivery.Later})
				}
				break
			}
		}
		return refused, nil
	}
}

// bounded is how many of pieces are within most and within bytes.
func bounded(pieces []piece, most, bytes int) int {
	n := 0
	for size := 0; n < len(pieces) && n < most; n++ {
		if size += len(pieces[n].Data) * 4 / 3; n > 0 && size > bytes {
			break
		}
	}
	return max(n, 1)
}

// data are the records of a unit, each with what follows it.
func (u *unit) data(delimiter []byte) [][]byte {
	all := make([][]byte, len(u.pieces))
	for i := range u.pieces {
		all[i] = u.pieces[i].Data
		if len(delimiter) > 0 {
			all[i] = append(all[i][:len(all[i]):len(all[i])], delimiter...)
		}
	}
	return all
}

// An AWS finds a service.
type AWS func(Place) (aws.Config, error)
