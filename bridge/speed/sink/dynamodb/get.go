package dynamodb

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Get returns the item of a key as plain JSON; nil if there is none. The key's
// attributes are of type S or N. What was written a moment ago may not be seen.
func (t *Table) Get(ctx context.Context, key ...Attribute) ([]byte, error) {
	it, err := Schema(nil).Compose(key...)
	if err != nil {
		return nil, err
	}
	out, err := t.api.GetItem(ctx, &dynamodb.GetItemInput{TableName: &t.name, Key: it.attributes})
	if err != nil {
		return nil, t.named(err)
	}
	if len(out.Item) == 0 {
		return nil, nil
	}
	doc, err := appendObject(nil, out.Item, 1)
	return doc, t.named(err)
}

// appendObject writes attributes as a JSON object, its members in order. Bytes are in
// base64, and sets are arrays.
func appendObject(dst []byte, attributes map[string]types.AttributeValue, depth int) ([]byte, error) {
	dst = append(dst, '{')
	for i, name := range slices.Sorted(maps.Keys(attributes)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendText(dst, name); err != nil {
			return nil, err
		}
		if dst, err = appendValue(append(dst, ':'), attributes[name], depth); err != nil {
			return nil, fmt.Errorf("attribute %.255q: %w", name, err)
		}
	}
	return append(dst, '}'), nil
}

var errNoValue = errors.New("an answer that DynamoDB would not give")

func appendValue(dst []byte, v types.AttributeValue, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%w: more than %d levels", errNoValue, maxDepth)
	}
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return appendText(dst, v.Value)
	case *types.AttributeValueMemberN:
		return appendNumber(dst, v.Value)
	case *types.AttributeValueMemberB:
		return appendBytes(dst, v.Value)
	case *types.AttributeValueMemberBOOL:
		return fmt.Append(dst, v.Value), nil
	case *types.AttributeValueMemberNULL:
		return append(dst, "null"...), nil
	case *types.AttributeValueMemberM:
		return appendObject(dst, v.Value, depth+1)
	case *types.AttributeValueMemberL:
		return appendList(dst, v.Value, func(dst []byte, v types.AttributeValue) ([]byte, error) {
			return appendValue(dst, v, depth+1)
		})
	case *types.AttributeValueMemberSS:
		return appendList(dst, v.Value, appendText)
	case *types.AttributeValueMemberNS:
		return appendList(dst, v.Value, appendNumber)
	case *types.AttributeValueMemberBS:
		return appendList(dst, v.Value, appendBytes)
	}
	return nil, fmt.Errorf("%w: a value of type %T", errNoValue, v)
}

func appendList[V any](dst []byte, all []V, one func([]byte, V) ([]byte, error)) (_ []byte, err error) {
	dst = append(dst, '[')
	for i, v := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = one(dst, v); err != nil {
			return nil, err
		}
	}
	return append(dst, ']'), nil
}

func appendText(dst []byte, s string) ([]byte, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("%w: a text that is no UTF-8", errNoValue)
	}
	text, err := json.Marshal(s)
	return append(dst, text...), err
}

// appendNumber keeps all digits.
func appendNumber(dst []byte, n string) ([]byte, error) {
	if c := n + " "; c[0] != '-' && (c[0] < '0' || c[0] > '9') || !json.Valid([]byte(n)) {
		return nil, fmt.Errorf("%w: the number %.50q", errNoValue, n)
	}
	return append(dst, n...), nil
}

func appendBytes(dst []byte, b []byte) ([]byte, error) {
	dst = append(dst, '"')
	return append(base64.StdEncoding.AppendEncode(dst, b), '"'), nil
}
