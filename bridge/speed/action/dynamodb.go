package action

import (
	"encoding/json"
	"errors"
	"fmt"
)

// maxItem is DynamoDB's limit of an item, names and values together; what does
// not fit by a little is for the client to say.
const maxItem = 400 << 10

// toColumn is the dynamoDB action: the document becomes one attribute of the item
// with a key that the action gives.
var toColumn = sentKind{
	name: "dynamoDB",
	members: []member{
		{name: "tableName", required: true},
		{name: "hashKeyField", required: true},
		{name: "hashKeyValue", required: true},
		{name: "hashKeyType", form: choice, choices: keyTypes, standard: "STRING"},
		{name: "rangeKeyField"},
		{name: "rangeKeyValue"},
		{name: "rangeKeyType", form: choice, choices: keyTypes},
		{name: "payloadField", standard: "payload"},
		{name: "operation", standard: "INSERT"},
	},
	resource: "tableName",
	check: func(p *parser) {
		if (p.params["rangeKeyField"] == nil) != (p.params["rangeKeyValue"] == nil) {
			p.never = append(p.never, errOneKey)
		}
	},
	judge: func(d *Delivery) error {
		for _, k := range []string{"hashKey", "rangeKey"} {
			v := d.Parameter(k + "Value")
			if d.Parameter(k+"Type") == "NUMBER" && v != "" && !decimal.MatchString(v) {
				return fmt.Errorf("%sValue: %.100q is no number, and %sType is NUMBER", k, v, k)
			}
		}
		seen := map[string]bool{}
		for _, k := range []string{"hashKeyField", "rangeKeyField", "payloadField"} {
			if v := d.Parameter(k); v != "" && seen[v] {
				return errors.New("hashKeyField, rangeKeyField and payloadField: two are the same")
			}
			seen[d.Parameter(k)] = true
		}
		return d.judge("operation", isOperation)
	},
	stage: func(d *Delivery) error {
		if (d.Parameter("rangeKeyField") == "") != (d.Parameter("rangeKeyValue") == "") {
			return errOneKey
		}
		if len(d.Data) > maxItem {
			return fmt.Errorf("document of %d bytes, want at most %d", len(d.Data), maxItem)
		}
		return nil
	},
}

var (
	errOneKey   = errors.New("rangeKeyField and rangeKeyValue: one is missing")
	keyTypes    = []string{"STRING", "NUMBER"}
	isOperation = oneOf("INSERT", "UPDATE", "DELETE")
)

// toItem is the dynamoDBv2 action: each member of the document becomes an
// attribute of the item.
var toItem = sentKind{
	name:     "dynamoDBv2",
	members:  []member{{name: "tableName", required: true}},
	resource: "tableName",
	// JSON has more bytes than the item: \u0041 is one.
	stage: func(d *Delivery) error { return d.object(6 * maxItem) },
}

// compileItem reads {"putItem": {"tableName": …}}.
func compileItem(p *parser) Target {
	var inner json.RawMessage
	if raw, ok := p.params["putItem"]; !ok {
		p.bad("putItem: missing")
	} else {
		inner = raw
	}
	in := parser{compile: p.compile, catalog: p.catalog, outbox: p.outbox}
	if inner != nil {
		in.read(inner, "tableName")
	}
	t := in.sent(&toItem)
	for _, err := range in.errs {
		if inner != nil {
			p.bad("putItem.%w", err)
		}
	}
	return t
}
