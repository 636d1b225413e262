package dynamodb

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// An Attribute is one of an item: text of type S or N, bytes of type B, or, with
// no type, a JSON value.
type Attribute struct {
	Name  string
	Type  types.ScalarAttributeType
	Value []byte
}

// Compose makes an item of attributes. An error says that no table could ever take
// it.
func (s Schema) Compose(attributes ...Attribute) (*Item, error) {
	it := &Item{attributes: map[string]types.AttributeValue{}}
	for _, a := range attributes {
		it.named(a.Name)
		v, err := it.compose(&a)
		if err != nil {
			return nil, fmt.Errorf("attribute %.255q: %w", a.Name, err)
		}
		it.attributes[a.Name] = v
	}
	var err error
	if it.key, err = it.identify(s); err != nil {
		return nil, err
	}
	if it.size > maxItem {
		return nil, fmt.Errorf("%d bytes, want at most %d", it.size, maxItem)
	}
	return it, nil
}

func (i *Item) compose(a *Attribute) (types.AttributeValue, error) {
	switch a.Type {
	case types.ScalarAttributeTypeS:
		return i.value(string(a.Value), 1)
	case types.ScalarAttributeTypeN:
		return i.value(json.Number(a.Value), 1)
	case types.ScalarAttributeTypeB:
		i.size += len(a.Value)
		i.wire += len(a.Value)*4/3 + 6
		return &types.AttributeValueMemberB{Value: a.Value}, nil
	}
	dec := json.NewDecoder(bytes.NewReader(a.Value))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	return i.value(v, 1)
}

// PutItem puts one item in a request of its own, in the place of one of its key.
func (t *Table) PutItem(ctx context.Context, it *Item) error {
	_, err := t.api.PutItem(ctx, &dynamodb.PutItemInput{TableName: &t.name, Item: it.attributes}, sorted)
	return t.named(err)
}

// Update sets the attributes of an item that are not of its key, and leaves others
// as they are. An item that is not there is made.
func (t *Table) Update(ctx context.Context, key Schema, it *Item) error {
	in := &dynamodb.UpdateItemInput{TableName: &t.name, Key: it.keyOf(key),
		ExpressionAttributeNames: map[string]string{}, ExpressionAttributeValues: map[string]types.AttributeValue{}}
	expression := ""
	for _, name := range slices.Sorted(maps.Keys(it.attributes)) {
		v := it.attributes[name]
		if _, ok := in.Key[name]; ok {
			continue
		}
		n := fmt.Sprint(len(in.ExpressionAttributeNames))
		in.ExpressionAttributeNames["#"+n], in.ExpressionAttributeValues[":"+n] = name, v
		expression += ", #" + n + " = :" + n
	}
	if expression != "" {
		in.UpdateExpression = aws.String("SET " + expression[2:])
	} else {
		in.ExpressionAttributeNames, in.ExpressionAttributeValues = nil, nil
	}
	_, err := t.api.UpdateItem(ctx, in, sorted)
	return t.named(err)
}

// Delete deletes the item of that key. One that is not there is no error.
func (t *Table) Delete(ctx context.Context, key Schema, it *Item) error {
	_, err := t.api.DeleteItem(ctx, &dynamodb.DeleteItemInput{TableName: &t.name, Key: it.keyOf(key)}, sorted)
	return t.named(err)
}

func (i *Item) keyOf(s Schema) map[string]types.AttributeValue {
	key := map[string]types.AttributeValue{}
	for _, k := range s {
		key[k.Name] = i.attributes[k.Name]
	}
	return key
}

func (t *Table) named(err error) error {
	if err != nil {
		return fmt.Errorf("table %s: %w", t.name, err)
	}
	return nil
}
