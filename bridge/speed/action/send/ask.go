package send

import (
	"context"
	"encoding/json"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/dynamodb"
	"github.com/tidemill/tidemill/bridge/speed/sink/lambda"
)

// Asks are calls whose answers are waited for, at the services that actions call:
// those of statements, delivery streams, hooks and authorizers. Each is made once, and
// waits as long as its context says. Several goroutines may use it.
type Asks struct {
	tables    *clients[*tables]
	functions *clients[*lambda.Client]
}

// maxItem bounds the answer with an item: DynamoDB's are of at most 400 KB, which
// escapes in JSON may make six times as long.
const maxItem = 4 << 20

// NewAsks returns the calls at o's Places of dynamoDB and lambda. Nothing is asked.
func NewAsks(o Options) *Asks {
	return &Asks{
		tables: newClients(&o, "dynamoDB", func(c aws.Config) *tables {
			return &tables{config: awsapi.Asking(c, maxItem), made: map[string]*dynamodb.Table{}}
		}),
		functions: newClients(&o, "lambda", func(c aws.Config) *lambda.Client {
			return lambda.New(awsapi.Asking(c, lambda.MaxAnswer))
		}),
	}
}

// Item implements iotsql.Tables. A table is a name, or an ARN, which says its region.
func (a *Asks) Item(ctx context.Context, table, partitionKey string, partitionValue []byte, sortKey string,
	sortValue []byte) ([]byte, error) {
	t, err := a.tables.in(ctx, arnRegion(table))
	if err != nil {
		return nil, err
	}
	first, err := keyAttribute(partitionKey, partitionValue)
	if err != nil {
		return nil, err
	}
	if sortKey == "" {
		return t.table(table).Get(ctx, first)
	}
	second, err := keyAttribute(sortKey, sortValue)
	if err != nil {
		return nil, err
	}
	return t.table(table).Get(ctx, first, second)
}

// keyAttribute is one of a key; the value is a JSON string or number.
func keyAttribute(name string, value []byte) (dynamodb.Attribute, error) {
	if len(value) == 0 || value[0] != '"' {
		return dynamodb.Attribute{Name: name, Type: types.ScalarAttributeTypeN, Value: value}, nil
	}
	var text string
	err := json.Unmarshal(value, &text)
	return dynamodb.Attribute{Name: name, Type: types.ScalarAttributeTypeS, Value: []byte(text)}, err
}

// Invoke calls a function of Lambda by its ARN, which says its region.
// functionError is not empty if the function failed; then the answer says how.
func (a *Asks) Invoke(ctx context.Context, arn string, event []byte) (answer []byte, functionError string, err error) {
	c, err := a.functions.in(ctx, arnRegion(arn))
	if err != nil {
		return nil, "", err
	}
	return c.Invoke(ctx, arn, event)
}
