package emit

import (
	"context"
	"errors"
	"regexp"
	"slices"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/dynamodb"
)

// A dynamoEmitter puts items into a table. Of items with the same key in a
// batch the last alone is put; the others share its fate.
type dynamoEmitter struct {
	open
	table *dynamodb.Table
}

var tableForm = regexp.MustCompile(
	`^([a-zA-Z0-9_.-]{3,255}|arn:aws[a-z-]*:dynamodb:[a-z0-9-]+:\d{12}:table/[a-zA-Z0-9_.-]{3,255})$`)

func newDynamoDB(p *parse) connector.Emitter {
	var doc struct{ TableName, Region, EndpointURL string }
	p.into(&doc)
	p.want("TableName", doc.TableName, func(s string) error {
		if !tableForm.MatchString(s) {
			return errors.New("want 3 to 255 of a-z A-Z 0-9 _ . -, or a table's ARN")
		}
		return nil
	})
	return &dynamoEmitter{table: dynamodb.New(p.aws(awsapi.Place{Region: doc.Region, EndpointURL: doc.EndpointURL}),
		doc.TableName)}
}

var errUnprocessed = errors.New("the table had no capacity for the item")

// Emit implements connector.Emitter.
func (e *dynamoEmitter) Emit(ctx context.Context, b *connector.Batch) ([]connector.Failure, error) {
	schema, err := e.table.Schema(ctx)
	if err != nil {
		return nil, err
	}
	var failed []connector.Failure
	items := make([]*dynamodb.Item, len(b.Items))
	same := map[string][]int{} // by key, in order
	for i := range b.Items {
		if items[i], err = schema.Parse(b.Items[i].Data); err != nil {
			failed = append(failed, connector.Failure{Index: i, Err: err, Permanent: true})
			continue
		}
		same[items[i].Key()] = append(same[items[i].Key()], i)
	}
	w := sink.Writer{
		Most: dynamodb.MaxItems, Bytes: dynamodb.MaxBytes, Refused: dynamodb.Refused,
		Size: func(i int) int { return items[i].Wire() },
		Put:  func(ctx context.Context, idx []int) ([]connector.Failure, error) { return e.put(ctx, items, idx) },
	}
	for first := true; len(same) > 0; first = false {
		last := lasts(same)
		refused, err := w.Write(ctx, last)
		if err != nil && first {
			return nil, err
		}
		if err != nil { // what was put before need not be again
			for _, i := range last {
				refused = append(refused, connector.Failure{Index: i, Err: err})
			}
		}
		next := map[string][]int{}
		for _, f := range refused {
			key := items[f.Index].Key()
			older := same[key][:len(same[key])-1]
			failed = append(failed, f)
			if f.Permanent && len(older) > 0 {
				next[key] = older // the one before is put instead
				continue
			}
			for _, i := range older {
				failed = append(failed, connector.Failure{Index: i, Err: f.Err})
			}
		}
		same = next
	}
	return failed, nil
}

// lasts are the indexes of the last items of each key, ascending.
func lasts(same map[string][]int) (last []int) {
	for _, idx := range same {
		last = append(last, idx[len(idx)-1])
	}
	slices.Sort(last)
	return last
}

func (e *dynamoEmitter) put(ctx context.Context, all []*dynamodb.Item, idx []int) ([]connector.Failure, error) {
	items := make([]*dynamodb.Item, len(idx))
	for n, i := range idx {
		items[n] = all[i]
	}
	left, err := e.table.Put(ctx, items)
	var failed []connector.Failure
	for _, n := range left {
		failed = append(failed, connector.Failure{Index: idx[n], Err: errUnprocessed})
	}
	return failed, err
}
