package action

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Limits of PutRecordBatch (Firehose quotas).
const (
	maxBatchRecords = 500
	maxBatchBytes   = 4 << 20
)

// toDeliveryStream is the firehose action: the document becomes a record; in
// batch mode, each element of the array does.
var toDeliveryStream = sentKind{
	name: "firehose",
	members: []member{
		{name: "deliveryStreamName", required: true},
		{name: "separator", form: choice, choices: []string{"\n", "\t", "\r\n", ","}},
		{name: "batchMode", form: boolean, standard: "false"},
	},
	resource: "deliveryStreamName",
	judge:    func(d *Delivery) error { return d.judge("deliveryStreamName", isDeliveryStream) },
	stage: func(d *Delivery) error {
		records, err := d.Records()
		if err == nil && len(records) == 0 {
			return errNothing
		}
		return err
	},
}

// isDeliveryStream judges a delivery stream's name (CreateDeliveryStream).
var isDeliveryStream = matches(regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,64}$`), "1 to 64 of a-z A-Z 0-9 _ . -")

// Records are what a delivery of the firehose action puts, separators included.
func (d *Delivery) Records() ([][]byte, error) {
	records := [][]byte{d.Data}
	if d.Parameter("batchMode") == "true" {
		all, err := d.elements(maxBatchRecords)
		if err != nil {
			return nil, err
		}
		records = make([][]byte, len(all))
		for i := range all {
			records[i] = all[i]
		}
	}
	size, separator := 0, d.Parameter("separator")
	for i, r := range records {
		if separator != "" {
			r = append(slices.Clip(r), separator...)
		}
		if len(r) > firehose.MaxRecord {
			return nil, fmt.Errorf("record of %d bytes, want at most %d", len(r), firehose.MaxRecord)
		}
		size += len(r)
		records[i] = r
	}
	if size > maxBatchBytes {
		return nil, fmt.Errorf("records of %d bytes, want at most %d", size, maxBatchBytes)
	}
	return records, nil
}

// toBuffer is the firehose action to a delivery stream of the bridge's own.
type toBuffer struct{ *toSender }

func compileFirehose(p *parser) Target {
	t := p.sent(&toDeliveryStream)
	if p.catalog != nil && p.catalog.Remote("firehose") {
		return t
	}
	return toBuffer{t}
}

func (t toBuffer) Outbox() string { return "" }

func (t toBuffer) resolve(ctx context.Context, in *Input) (d *Delivery, err error) {
	if d, err = t.toSender.resolve(ctx, in); err != nil {
		return d, err
	}
	name := d.Name
	if !t.catalog.HasDeliveryStream(name) {
		return d, fmt.Errorf("delivery stream %s does not exist, or has a data stream as its source", name)
	}
	return d, t.catalog.Room(firehose.StreamName(name))
}

func (t toBuffer) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	d, err := t.resolve(ctx, in)
	if err != nil {
		return onResource(d.Name, something(err))
	}
	records, err := d.Records()
	for _, r := range records {
		b.Append(firehose.StreamName(d.Name), 0, streams.Record{Data: r})
	}
	return onResource(d.Name, err)
}

func (t toBuffer) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	d, err := t.resolve(ctx, in)
	return given(d), something(err)
}

// given are the parameters that the rule document gives, or that are not as if it
// gave none.
func given(d *Delivery) []Parameter {
	return slices.DeleteFunc(slices.Clone(d.Parameters), func(p Parameter) bool {
		return p.Name == "batchMode" && p.Value == "false" || p.Name == "separator"
	})
}

// elements splits a document of batch mode, which must be a JSON array of at
// most so many.
func (d *Delivery) elements(most int) ([]json.RawMessage, error) {
	var all []json.RawMessage
	if err := json.Unmarshal(d.Data, &all); err != nil || all == nil {
		return nil, errNoArray
	}
	if len(all) > most {
		return nil, fmt.Errorf("an array of %d elements, want at most %d", len(all), most)
	}
	return all, nil
}
