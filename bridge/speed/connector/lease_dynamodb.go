package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// inDynamoDB returns leases in a DynamoDB table, one for each connector, which
// is made when absent. Workers of many processes may share it. Attributes have
// the names and meanings that the Kinesis client library gives them; spanFirst
// and spanLast, of the delivery under way, and startingPosition are ours.
func inDynamoDB(ctx context.Context, p awsapi.Place, table string) (Leases, error) {
	c, err := p.Config(ctx)
	if err != nil {
		return nil, err
	}
	return &dynamoLeases{db: dynamodb.NewFromConfig(c), table: table}, nil
}

type dynamoLeases struct {
	db    *dynamodb.Client
	table string
}

// tableWait is how long a table may take to become active.
const tableWait = 2 * time.Minute

// make makes the table, or waits until somebody else has.
func (d *dynamoLeases) make(ctx context.Context) error {
	_, err := d.db.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:   &d.table,
		BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("leaseKey"),
			AttributeType: types.ScalarAttributeTypeS}},
		KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("leaseKey"),
			KeyType: types.KeyTypeHash}},
	})
	if _, there := errors.AsType[*types.ResourceInUseException](err); err != nil && !there {
		return fmt.Errorf("lease table %s: %w", d.table, err)
	}
	w := dynamodb.NewTableExistsWaiter(d.db, func(o *dynamodb.TableExistsWaiterOptions) { o.MinDelay = time.Second })
	if err := w.Wait(ctx, &dynamodb.DescribeTableInput{TableName: &d.table}, tableWait); err != nil {
		return fmt.Errorf("lease table %s: %w", d.table, err)
	}
	return nil
}

// List implements Leases.
func (d *dynamoLeases) List(ctx context.Context) ([]Lease, error) {
	all, err := d.scan(ctx)
	if _, none := errors.AsType[*types.ResourceNotFoundException](err); none {
		if err = d.make(ctx); err == nil {
			all, err = d.scan(ctx)
		}
	}
	return all, err
}

func (d *dynamoLeases) scan(ctx context.Context) ([]Lease, error) {
	var all []Lease
	pages := dynamodb.NewScanPaginator(d.db, &dynamodb.ScanInput{TableName: &d.table, ConsistentRead: aws.Bool(true)})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, it := range out.Items {
			l, err := parseItem(it)
			if err != nil {
				return nil, err
			}
			all = append(all, l)
		}
	}
	return all, nil
}

// Create implements Leases.
func (d *dynamoLeases) Create(ctx context.Context, l Lease) error {
	item, err := newItem(&l)
	if err != nil {
		return err
	}
	_, err = d.db.PutItem(ctx, &dynamodb.PutItemInput{
		TableName: &d.table, Item: item, ConditionExpression: aws.String("attribute_not_exists(leaseKey)")})
	if _, there := errors.AsType[*types.ConditionalCheckFailedException](err); there {
		return nil
	}
	return err
}

// Update implements Leases. A request may have been carried out though its
// answer was lost, and the client repeats those: a counter that the same owner
// counted up is no loss.
func (d *dynamoLeases) Update(ctx context.Context, l *Lease) error {
	for counter := l.Counter; ; {
		next := *l
		next.Counter = counter + 1
		item, err := newItem(&next)
		if err != nil {
			return err
		}
		_, err = d.db.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: &d.table, Item: item,
			ConditionExpression:                 aws.String("leaseCounter = :counter"),
			ExpressionAttributeValues:           map[string]types.AttributeValue{":counter": number(counter)},
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		})
		if err == nil {
			l.Counter = next.Counter
			return nil
		}
		failed, ok := errors.AsType[*types.ConditionalCheckFailedException](err)
		if !ok {
			return err
		}
		stored, err := parseItem(failed.Item)
		if err != nil || l.Owner == "" || stored.Owner != l.Owner || stored.Counter <= counter {
			return errLost
		}
		counter = stored.Counter
	}
}

// Delete implements Leases.
func (d *dynamoLeases) Delete(ctx context.Context, l Lease) error {
	_, err := d.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName: &d.table, Key: map[string]types.AttributeValue{"leaseKey": text(l.Shard)},
		ConditionExpression:       aws.String("attribute_not_exists(leaseKey) OR leaseCounter = :counter"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":counter": number(l.Counter)},
	})
	if _, other := errors.AsType[*types.ConditionalCheckFailedException](err); other {
		return errLost
	}
	return err
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func number(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func newItem(l *Lease) (map[string]types.AttributeValue, error) {
	start, err := json.Marshal(l.Start)
	if err != nil {
		return nil, err
	}
	item := map[string]types.AttributeValue{
		"leaseKey":                     text(l.Shard),
		"leaseCounter":                 number(l.Counter),
		"checkpoint":                   text(l.Checkpoint.Sequence),
		"checkpointSubSequenceNumber":  number(int64(l.Checkpoint.Sub)),
		"ownerSwitchesSinceCheckpoint": number(l.Switches),
		"startingHashKey":              text(l.Range.Start.String()),
		"endingHashKey":                text(l.Range.End.String()),
		"startingPosition":             text(string(start)),
	}
	if l.Owner != "" {
		item["leaseOwner"] = text(l.Owner)
	}
	if len(l.Parents) > 0 {
		item["parentShardId"] = &types.AttributeValueMemberSS{Value: l.Parents}
	}
	if p := l.Pending; p != nil {
		item["spanFirst"], item["spanLast"] = text(p.First.String()), text(p.Last.String())
	}
	return item, nil
}

func parseItem(item map[string]types.AttributeValue) (Lease, error) {
	var errs []error
	str := func(name string) string {
		v, ok := item[name].(*types.AttributeValueMemberS)
		if !ok {
			return ""
		}
		return v.Value
	}
	num := func(name string) int64 {
		v, ok := item[name].(*types.AttributeValueMemberN)
		if !ok {
			return 0
		}
		n, err := strconv.ParseInt(v.Value, 10, 64)
		errs = append(errs, err)
		return n
	}
	l := Lease{
		Shard: str("leaseKey"), Owner: str("leaseOwner"), Counter: num("leaseCounter"),
		Switches:   num("ownerSwitchesSinceCheckpoint"),
		Checkpoint: Position{Sequence: str("checkpoint"), Sub: int(num("checkpointSubSequenceNumber"))},
	}
	if s := str("startingPosition"); s != "" {
		errs = append(errs, json.Unmarshal([]byte(s), &l.Start))
	} else {
		l.Start = Position{Sequence: TrimHorizon}
	}
	if l.Checkpoint.Sequence == AtTimestamp {
		l.Checkpoint = l.Start
	}
	if v, ok := item["parentShardId"].(*types.AttributeValueMemberSS); ok {
		l.Parents = v.Value
	}
	l.Range = streams.Range{End: streams.MaxHash}
	for name, h := range map[string]*streams.Hash{"startingHashKey": &l.Range.Start, "endingHashKey": &l.Range.End} {
		if s := str(name); s != "" {
			var err error
			*h, err = streams.ParseHash(s)
			errs = append(errs, err)
		}
	}
	if s := str("spanFirst"); s != "" {
		first, err := parsePosition(s)
		last, err2 := parsePosition(str("spanLast"))
		errs = append(errs, err, err2)
		l.Pending = &Span{first, last}
	}
	if l.Shard == "" || l.Checkpoint.Sequence == "" {
		errs = append(errs, errors.New("it has no leaseKey or no checkpoint"))
	}
	if err := errors.Join(errs...); err != nil {
		return l, fmt.Errorf("lease %s: %w", l.Shard, err)
	}
	return l, nil
}
