package iotsql

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"
)

var errNotUTF8 = errors.New("the secret is no UTF-8 text")

// needs makes the check of a function that asks a service: a statement is
// refused without the service, which what names, and with a variable in one
// of the fixed arguments.
func needs(what string, has func(x *Services) bool, args ...int) func(p *parser, n *node) {
	return func(p *parser, n *node) {
		p.need(n, what, has)
		fixed(args...)(p, n)
	}
}

func (p *parser) need(call *node, what string, has func(x *Services) bool) {
	p.asks = append(p.asks, strings.ToLower(call.text))
	if p.services == nil || !has(p.services) {
		p.fail(call.pos, call.text+" asks for "+what+", and no service here has them", "")
	}
}

// fixed makes a check that refuses SET variables in arguments, counted from
// the end if negative: roles and modes are written out.
func fixed(args ...int) func(p *parser, n *node) {
	return func(p *parser, n *node) {
		for _, i := range args {
			if i < 0 {
				i += len(n.kids)
			}
			if i >= 0 && i < len(n.kids) {
				p.refuseVariable(n.text, n.kids[i])
			}
		}
	}
}

func (p *parser) refuseVariable(function string, arg *node) {
	if arg.op == opVar {
		p.fail(arg.pos, "the role and the mode of "+function+" can't be variables", "text in quotes")
	}
	for _, kid := range arg.kids {
		p.refuseVariable(function, kid)
	}
}

// name converts an argument that names something to String. An empty name
// names nothing.
func (f *frame) name(v value) (string, bool) {
	b, ok := f.text(v)
	return string(b), ok && len(b) > 0 && f.err == nil
}

// getThingShadow is get_thing_shadow(thing[, shadow], role).
func getThingShadow(f *frame, args []value) value {
	thing, ok := f.name(args[0])
	shadow := ""
	if len(args) == 3 && ok {
		shadow, ok = f.name(args[1])
	}
	if !ok {
		return value{}
	}
	return f.document("get_thing_shadow", callLimit, func(ctx context.Context, x *Services) ([]byte, error) {
		return x.Shadows.Shadow(ctx, thing, shadow)
	})
}

// getRegistryData is get_registry_data(api, thing, role).
func getRegistryData(f *frame, args []value) value {
	api, _ := f.name(args[0])
	thing, ok := f.name(args[1])
	if !ok || api != "DescribeThing" && api != "ListThingGroupsForThing" {
		return value{}
	}
	return f.document("get_registry_data", callLimit, func(ctx context.Context, x *Services) ([]byte, error) {
		if api == "DescribeThing" {
			return x.Things.Describe(ctx, thing)
		}
		return x.Things.Groups(ctx, thing)
	})
}

// getDynamoDB is get_dynamodb(table, key, value[, sortKey, sortValue], role).
// The second call for a message ends the rule, whatever it asks (guide, get_dynamodb).
func getDynamoDB(f *frame, args []value) value {
	if f.tableCalls++; f.tableCalls > 1 {
		f.fail(errTooManyCalls)
		return value{}
	}
	table, ok1 := f.name(args[0])
	key, ok2 := f.name(args[1])
	val, ok3 := f.keyValue(args[2])
	sortKey, sortVal := "", []byte(nil)
	ok4, ok5 := true, true
	if len(args) == 6 {
		sortKey, ok4 = f.name(args[3])
		sortVal, ok5 = f.keyValue(args[4])
	}
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 {
		return value{}
	}
	return f.document("get_dynamodb", callLimit, func(ctx context.Context, x *Services) ([]byte, error) {
		return x.Tables.Item(ctx, table, key, val, sortKey, sortVal)
	})
}

// keyValue is a value that a table's key can have, as JSON: a String or a number.
func (f *frame) keyValue(v value) ([]byte, bool) {
	if v.kind == kindNumber {
		n, ok := f.number(v)
		if !ok {
			return nil, false
		}
		return f.appendJSON(nil, f.prog.settle(n)), true
	}
	return f.appendJSON(nil, v), v.kind == kindText
}

// getSecret is get_secret(id, type[, key], role). The answer is text: a JSON
// object as such, other text as a String, bytes in base64. A key of anything
// but a JSON object fails the evaluation, as the guide has it.
func getSecret(f *frame, args []value) value {
	id, ok := f.name(args[0])
	kind, _ := f.name(args[1])
	key := ""
	if len(args) == 4 && ok {
		key, ok = f.name(args[2])
	}
	binary := kind == "SecretBinary"
	if !ok || !binary && kind != "SecretString" {
		return value{}
	}
	if binary && len(args) == 4 {
		f.fail(errSecretKey)
		return value{}
	}
	secret := f.ask("get_secret", callLimit, func(ctx context.Context, x *Services) ([]byte, error) {
		return x.Secrets.Secret(ctx, id, binary)
	})
	if secret == nil {
		return value{}
	}
	if f.onlyLooks() {
		secret = hide(secret, binary)
	} else if binary {
		return f.base64(secret)
	}
	v, ok := jsonValue(secret)
	switch object := ok && v.kind == kindObject; {
	case object && len(args) == 4:
		return f.member(v.b, key)
	case object:
		return v
	case len(args) == 4:
		f.fail(errSecretKey)
		return value{}
	}
	if !utf8.Valid(secret) {
		f.failed("get_secret", errNotUTF8)
		return value{}
	}
	if !f.fits(len(secret)) {
		return value{}
	}
	return f.string(string(secret))
}

type withoutEffects struct{}

// WithoutEffects has statements that are evaluated with the context call no functions:
// aws_lambda is Undefined; and see no secrets: get_secret answers Redacted, for each
// member if the secret is a JSON object, so that no comparison can tell what it is.
// It is for those who only look at what a statement makes of a message, or made of it
// before.
func WithoutEffects(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutEffects{}, true)
}

// onlyLooks says whether the evaluation is WithoutEffects.
func (f *frame) onlyLooks() bool { return f.ctx.Value(withoutEffects{}) != nil }

// Redacted stands for a secret before those who only look.
const Redacted = "[redacted]"

// hide is a secret as they see it.
func hide(secret []byte, binary bool) []byte {
	v, ok := jsonValue(secret)
	if binary || !ok || v.kind != kindObject {
		return []byte(Redacted)
	}
	hidden := []byte{'{'}
	for it := members(v.b); it.next(); {
		if len(hidden) > 1 {
			hidden = append(hidden, ',')
		}
		hidden = append(append(append(hidden, '"'), it.key...), `":"`+Redacted+`"`...)
	}
	return append(hidden, '}')
}

// awsLambda is aws_lambda(arn, input), often with * for the input.
func awsLambda(f *frame, args []value) value {
	arn, ok := f.name(args[0])
	v := args[1]
	if f.onlyLooks() || !ok || v.kind == kindUndefined || !f.fits(f.size(v)) {
		return value{}
	}
	doc := f.appendJSON(nil, v)
	return f.document("aws_lambda", lambdaLimit, func(ctx context.Context, x *Services) ([]byte, error) {
		return x.Lambdas.Invoke(ctx, arn, doc)
	})
}

// predict is machinelearning_predict(model, role, record), often with * for the record.
func predict(f *frame, args []value) value {
	model, ok := f.name(args[0])
	v := args[2]
	if !ok || v.kind != kindObject {
		return value{}
	}
	flat := f.flatten(v.b)
	if f.err != nil {
		return value{}
	}
	return f.document("machinelearning_predict", callLimit, func(ctx context.Context, x *Services) ([]byte, error) {
		return x.Models.Predict(ctx, model, flat)
	})
}

// flatten makes an object of one layer: members that are documents become
// their JSON text (guide, machinelearning_predict).
func (f *frame) flatten(obj []byte) []byte {
	flat := []byte{'{'}
	for it := members(obj); it.next() && f.work(1) && f.fits(len(flat)); {
		if len(flat) > 1 {
			flat = append(flat, ',')
		}
		flat = append(append(append(flat, '"'), it.key...), '"', ':')
		if c := it.value[0]; c == '{' || c == '[' {
			flat = appendQuoted(flat, appendCompact(nil, it.value))
		} else {
			flat = append(flat, it.value...)
		}
	}
	flat = append(flat, '}')
	f.fits(len(flat))
	return flat
}
