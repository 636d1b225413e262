// Package dynamodb puts items into a DynamoDB table, many in a request.
package dynamodb

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// Bounds of a BatchWriteItem (DynamoDB API reference). MaxBytes leaves room
// for what is around the items.
const (
	MaxItems = 25
	MaxBytes = 16<<20 - 64<<10
)

// A Table takes items. Several goroutines may use it.
type Table struct {
	api  *dynamodb.Client
	name string

	mu     sync.Mutex // guards what follows
	schema Schema
	until  time.Time // when schema is asked for again
}

// describeEvery is how long a table's description is believed: its key never
// changes, but somebody may make the table anew.
const describeEvery = 5 * time.Minute

// New returns a table by its name or ARN. Nothing is asked.
func New(c aws.Config, name string) *Table { return &Table{api: dynamodb.NewFromConfig(c), name: name} }

// Schema returns the table's key.
func (t *Table) Schema(ctx context.Context) (Schema, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Now().Before(t.until) {
		return t.schema, nil
	}
	out, err := t.api.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &t.name})
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t.name, err)
	}
	if out.Table == nil || len(out.Table.KeySchema) == 0 {
		return nil, fmt.Errorf("table %s: described without a key", t.name)
	}
	kinds := map[string]types.ScalarAttributeType{}
	for _, d := range out.Table.AttributeDefinitions {
		kinds[aws.ToString(d.AttributeName)] = d.AttributeType
	}
	schema := make(Schema, len(out.Table.KeySchema))
	if len(schema) > 2 {
		return nil, fmt.Errorf("table %s: a key of %d attributes", t.name, len(schema))
	}
	for _, k := range out.Table.KeySchema {
		at := len(schema) - 1
		if k.KeyType == types.KeyTypeHash {
			at = 0
		}
		schema[at] = KeyAttribute{aws.ToString(k.AttributeName), kinds[aws.ToString(k.AttributeName)]}
	}
	t.schema, t.until = schema, time.Now().Add(describeEvery)
	return schema, nil
}

// Put puts items in one request: at most MaxItems of at most MaxBytes together,
// no two of the same key. It returns the indexes of those that the table had
// no capacity for.
func (t *Table) Put(ctx context.Context, items []*Item) (unprocessed []int, err error) {
	return t.write(ctx, items, t.Schema)
}

// PutAs is Put into a table whose key the caller knows. items were made with it.
func (t *Table) PutAs(ctx context.Context, key Schema, items []*Item) (unprocessed []int, err error) {
	return t.write(ctx, items, func(context.Context) (Schema, error) { return key, nil })
}

func (t *Table) write(ctx context.Context, items []*Item,
	key func(context.Context) (Schema, error)) (unprocessed []int, err error) {
	puts := make([]types.WriteRequest, len(items))
	for i, it := range items {
		puts[i].PutRequest = &types.PutRequest{Item: it.attributes}
	}
	out, err := t.api.BatchWriteItem(ctx,
		&dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{t.name: puts}})
	if err != nil {
		if awsapi.Code(err) == "ResourceNotFoundException" || Refused(err) {
			t.mu.Lock()
			t.until = time.Time{}
			t.mu.Unlock()
		}
		return nil, fmt.Errorf("table %s: %w", t.name, err)
	}
	if len(out.UnprocessedItems) == 0 {
		return nil, nil
	}
	schema, err := key(ctx)
	if err != nil {
		return nil, err
	}
	at := make(map[string]int, len(items))
	for i, it := range items {
		at[it.key] = i
	}
	for _, left := range out.UnprocessedItems {
		for _, w := range left {
			it := &Item{}
			if w.PutRequest != nil {
				it.attributes = w.PutRequest.Item
			}
			key, err := it.identify(schema)
			i, ours := at[key]
			if err != nil || !ours {
				return nil, fmt.Errorf("table %s: an unprocessed item that was not sent", t.name)
			}
			unprocessed = append(unprocessed, i)
		}
	}
	return unprocessed, nil
}

// Refused tells whether the table can never take a request as it is. The fault
// may be one item's of many.
func Refused(err error) bool {
	c := awsapi.Code(err)
	return c == "ValidationException" || c == "ItemCollectionSizeLimitExceededException" ||
		c == "SerializationException" || c == "RequestEntityTooLarge"
}
