package dynamodb

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/cockroachdb/apd/v3"

	"github.com/tidemill/tidemill/shadow"
)

// Limits of an item (DynamoDB developer guide, quotas).
const (
	maxItem      = 400 << 10 // bytes of names and values
	maxDepth     = 32        // of lists and maps within each other
	maxPartition = 2048      // bytes of a partition key
	maxSort      = 1024      // of a sort key
	maxDigits    = 38        // significant, of a number
	maxExponent  = 125       // of a number's first digit
	minExponent  = -130
)

// An Item is what is stored, and what identifies it.
type Item struct {
	attributes map[string]types.AttributeValue
	key        string // the same for items of the same key, and for those alone
	size       int    // bytes as the limit counts them, about
	wire       int    // at most so many in a request
}

// Wire is how many bytes the item adds to a request, at most.
func (i *Item) Wire() int { return i.wire }

// Key is the same for two items if one replaces the other in its table.
func (i *Item) Key() string { return i.key }

// A Schema are the key attributes of a table.
type Schema []KeyAttribute

// A KeyAttribute is one of at most two, the partition key first.
type KeyAttribute struct {
	Name string
	Type types.ScalarAttributeType
}

// Parse makes an item of a JSON object: strings, numbers with all their digits,
// booleans, null, lists and maps. A key attribute of type binary is base64 in a
// string. An error says that the table could never take it.
func (s Schema) Parse(doc []byte) (*Item, error) {
	object, malformed := shadow.ParseObject(doc)
	if malformed != nil {
		return nil, errors.New("want one JSON object")
	}
	it := &Item{attributes: make(map[string]types.AttributeValue, len(object))}
	for name, v := range object {
		a, err := it.value(v, 1)
		if err != nil {
			return nil, fmt.Errorf("attribute %.255q: %w", name, err)
		}
		it.named(name)
		it.attributes[name] = a
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

// identify checks the key attributes and returns what Key does.
func (i *Item) identify(s Schema) (string, error) {
	var key strings.Builder
	for n, k := range s {
		text, err := i.keyText(k, []int{maxPartition, maxSort}[n])
		if err != nil {
			return "", fmt.Errorf("key attribute %q: %w", k.Name, err)
		}
		fmt.Fprintf(&key, "%d:%s", len(text), text)
	}
	return key.String(), nil
}

// keyText is the same for two values of a key attribute if they are equal.
func (i *Item) keyText(k KeyAttribute, most int) (text string, err error) {
	switch v := i.attributes[k.Name].(type) {
	case nil:
		return "", errors.New("missing")
	case *types.AttributeValueMemberB:
		return string(v.Value), nil
	case *types.AttributeValueMemberS:
		text = v.Value
		if k.Type == types.ScalarAttributeTypeB {
			data, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return "", errors.New("the table wants binary: base64 in a string")
			}
			i.attributes[k.Name], text = &types.AttributeValueMemberB{Value: data}, string(data)
		} else if k.Type != types.ScalarAttributeTypeS {
			return "", fmt.Errorf("a string, the table wants type %s", k.Type)
		}
		if len(text) == 0 || len(text) > most {
			return "", fmt.Errorf("%d bytes, want 1 to %d", len(text), most)
		}
		return text, nil
	case *types.AttributeValueMemberN:
		if k.Type != types.ScalarAttributeTypeN {
			return "", fmt.Errorf("a number, the table wants type %s", k.Type)
		}
		var d apd.Decimal
		if _, _, err := d.SetString(v.Value); err != nil { // 1, 1.0 and 1e0 are one key
			return "", err
		}
		if d.Reduce(&d); d.IsZero() {
			return "0", nil
		}
		return d.Text('E'), nil
	}
	return "", fmt.Errorf("the table wants type %s", k.Type)
}

// named counts an attribute's name.
func (i *Item) named(name string) {
	i.size += len(name)
	i.wire += quoted(name) + len(`:{"NULL":},`)
}

// quoted is how long a string can become in JSON: \u00XX for a byte.
func quoted(s string) int {
	n := len(s) + 2
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '<' || c == '>' || c == '&' || c == 0x7f || c >= 0x80 {
			n += 5
		} else if c == '"' || c == '\\' {
			n++
		}
	}
	return n
}

func (i *Item) value(v any, depth int) (types.AttributeValue, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("more than %d levels", maxDepth)
	}
	switch v := v.(type) {
	case string:
		i.size += len(v)
		i.wire += quoted(v)
		return &types.AttributeValueMemberS{Value: v}, nil
	case json.Number:
		i.size += len(v)/2 + 1
		i.wire += len(v) + 2
		return &types.AttributeValueMemberN{Value: v.String()}, checkNumber(v.String())
	case bool:
		i.size++
		i.wire += len("false")
		return &types.AttributeValueMemberBOOL{Value: v}, nil
	case []any:
		l := &types.AttributeValueMemberL{Value: make([]types.AttributeValue, len(v))}
		i.size += 3
		for n, e := range v {
			a, err := i.value(e, depth+1)
			if err != nil {
				return nil, err
			}
			i.size++
			i.wire += len(`{"NULL":},`)
			l.Value[n] = a
		}
		i.wire += 2
		return l, nil
	case map[string]any:
		m := &types.AttributeValueMemberM{Value: make(map[string]types.AttributeValue, len(v))}
		i.size += 3
		for name, e := range v {
			a, err := i.value(e, depth+1)
			if err != nil {
				return nil, err
			}
			i.size++
			i.named(name)
			m.Value[name] = a
		}
		i.wire += 2
		return m, nil
	}
	i.size++
	i.wire += len("true")
	return &types.AttributeValueMemberNULL{Value: true}, nil
}

// checkNumber says whether DynamoDB keeps a number as it is.
func checkNumber(text string) error {
	mantissa, _, _ := strings.Cut(strings.ToLower(text), "e")
	digits := strings.Trim(strings.Replace(strings.TrimLeft(mantissa, "-"), ".", "", 1), "0")
	if len(digits) > maxDigits {
		return fmt.Errorf("a number of %d digits, want at most %d", len(digits), maxDigits)
	}
	if digits == "" {
		return nil
	}
	var d apd.Decimal
	if _, _, err := d.SetString(text); err != nil {
		return fmt.Errorf("a number that is out of range")
	}
	if first := int64(d.Exponent) + d.NumDigits() - 1; first > maxExponent || first < minExponent {
		return fmt.Errorf("a number of about 1E%d, want 1E%d to 1E%d", first, minExponent, maxExponent)
	}
	return nil
}
