package send

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/dynamodb"
)

// tables are those of one region.
type tables struct {
	config aws.Config

	mu   sync.Mutex // guards made
	made map[string]*dynamodb.Table
}

// maxTables bounds how many tables' descriptions are kept: names may be templates.
const maxTables = 1000

func (t *tables) table(name string) *dynamodb.Table {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.made[name] == nil {
		if len(t.made) >= maxTables {
			clear(t.made)
		}
		t.made[name] = dynamodb.New(t.config, name)
	}
	return t.made[name]
}

// A change is what one delivery does to a table.
type change struct {
	operation string // as in the rule: INSERT, UPDATE or DELETE
	key       dynamodb.Schema
	item      *dynamodb.Item
}

func addTables(o *Options, add adding) {
	for kind, read := range map[string]func(context.Context, *dynamodb.Table, *action.Delivery, bool) (change, error){
		"dynamoDB": column, "dynamoDBv2": item,
	} {
		regions := newClients(o, kind, func(c aws.Config) *tables {
			return &tables{config: c, made: map[string]*dynamodb.Table{}}
		})
		add(kind, dynamodb.MaxItems, dynamodb.MaxBytes, func(ctx context.Context, ds deliveries) []error {
			return runs(ds, param("tableName"), dynamodb.MaxItems, dynamodb.MaxBytes, func(run deliveries) []error {
				name := run[0].Parameter("tableName")
				t, err := regions.in(ctx, arnRegion(name))
				if err != nil {
					return each(len(run), err)
				}
				return changes(ctx, t.table(name), run, read)
			})
		})
	}
}

// changes does deliveries to one table: what inserts items of different keys
// together, all else one by one.
func changes(ctx context.Context, t *dynamodb.Table, run deliveries,
	read func(context.Context, *dynamodb.Table, *action.Delivery, bool) (change, error)) []error {
	all, seen := make([]change, len(run)), map[string]bool{}
	together := len(run) > 1
	for i, d := range run {
		var err error
		all[i], err = read(ctx, t, d, len(run) > 1)
		together = together && err == nil && all[i].operation == "INSERT" && len(all[i].key) > 0 &&
			!seen[all[i].item.Key()]
		if err == nil {
			seen[all[i].item.Key()] = true
		}
	}
	if together {
		if errs, ok := insert(ctx, t, all); ok {
			return errs
		}
	}
	return runs(run, func(*action.Delivery) string { return "" }, 1, 0, func(one deliveries) []error {
		c, err := read(ctx, t, one[0], false)
		if err != nil {
			return []error{action.Permanent(err)}
		}
		switch c.operation {
		case "UPDATE":
			err = t.Update(ctx, c.key, c.item)
		case "DELETE":
			err = t.Delete(ctx, c.key, c.item)
		default:
			err = t.PutItem(ctx, c.item)
		}
		return []error{err}
	})
}

// errNoCapacity is of items that a table left over.
var errNoCapacity = errors.New("the table had no capacity for the item")

// insert puts items in one request. If the table refuses it for good, ok is false:
// the fault may be one item's.
func insert(ctx context.Context, t *dynamodb.Table, all []change) (errs []error, ok bool) {
	items := make([]*dynamodb.Item, len(all))
	for i := range all {
		items[i] = all[i].item
	}
	left, err := t.PutAs(ctx, all[0].key, items)
	if err != nil && permanent(final(err)) {
		return nil, false
	}
	errs = each(len(all), err)
	for _, i := range left {
		errs[i] = errNoCapacity
	}
	return errs, true
}

// column reads a delivery of the dynamoDB action.
func column(_ context.Context, _ *dynamodb.Table, d *action.Delivery, _ bool) (c change, err error) {
	var attributes []dynamodb.Attribute
	for _, k := range []string{"hashKey", "rangeKey"} {
		if name := d.Parameter(k + "Field"); name != "" {
			kind := types.ScalarAttributeTypeS
			if d.Parameter(k+"Type") == "NUMBER" {
				kind = types.ScalarAttributeTypeN
			}
			c.key = append(c.key, dynamodb.KeyAttribute{Name: name, Type: kind})
			attributes = append(attributes,
				dynamodb.Attribute{Name: name, Type: kind, Value: []byte(d.Parameter(k + "Value"))})
		}
	}
	if c.operation = d.Parameter("operation"); c.operation != "DELETE" {
		payload := dynamodb.Attribute{Name: d.Parameter("payloadField"), Value: d.Data}
		if !json.Valid(d.Data) {
			payload.Type = types.ScalarAttributeTypeB
		}
		attributes = append(attributes, payload)
	}
	c.item, err = c.key.Compose(attributes...)
	return c, err
}

// item reads a delivery of the dynamoDBv2 action. Only who puts several at once
// needs to know the table's key; a service that does not tell it takes items one
// by one.
func item(ctx context.Context, t *dynamodb.Table, d *action.Delivery, several bool) (c change, err error) {
	c.operation = "INSERT"
	if several {
		c.key, _ = t.Schema(ctx)
	}
	c.item, err = c.key.Parse(d.Data)
	return c, err
}
