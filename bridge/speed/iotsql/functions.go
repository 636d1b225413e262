package iotsql

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/spelling"
)

// A function is an entry of the function table. Calls are case-insensitive.
type function struct {
	min, max int   // arguments; max < 0: any number
	not      []int // counts between min and max that it does not take
	modern   bool  // came with 2016-03-23
	run      func(f *frame, args []value) value
	build    func(n *node, args []eval) eval // instead of run, to prepare at compile time
	check    func(p *parser, n *node)        // further refusals, may be nil
}

// takes says whether the function may have n arguments.
func (fn *function) takes(n int) bool {
	return n >= fn.min && (fn.max < 0 || n <= fn.max) && !slices.Contains(fn.not, n)
}

// counts says how many arguments the function takes: "2 or 3 arguments".
func (fn *function) counts() string {
	var all []string
	for n := fn.min; n <= fn.max; n++ {
		if fn.takes(n) {
			all = append(all, strconv.Itoa(n))
		}
	}
	switch n := len(all); {
	case fn.max == 0:
		return "no arguments"
	case fn.max == 1 && n == 1:
		return "1 argument"
	case n == 1:
		return all[0] + " arguments"
	default:
		return strings.Join(all[:n-1], ", ") + " or " + all[n-1] + " arguments"
	}
}

// nearFunction returns the function that a name is most likely a slip of, "" if none.
func nearFunction(name string) string {
	if len(name) > 40 {
		return ""
	}
	best, least := "", 3
	for have := range functions {
		d := spelling.Distance(strings.ToLower(name), have, least)
		if d < least && d <= len(have)/3 || d == least && best != "" && have < best {
			best, least = have, d
		}
	}
	return best
}

// functions is the dialect's function table (rule SQL reference, functions).
var functions = map[string]*function{
	// numbers
	"abs":       {min: 1, max: 1, run: numberFunc(absolute)},
	"ceil":      {min: 1, max: 1, run: numberFunc(ceiling)},
	"floor":     {min: 1, max: 1, run: numberFunc(floor)},
	"round":     {min: 1, max: 1, run: numberFunc(round)},
	"sign":      {min: 1, max: 1, run: numberFunc(sign)},
	"trunc":     {min: 2, max: 2, run: truncate},
	"mod":       {min: 2, max: 2, run: modulo},
	"remainder": {min: 2, max: 2, run: modulo},
	"bitand":    {min: 2, max: 2, run: bitFunc(bitAnd)},
	"bitor":     {min: 2, max: 2, run: bitFunc(bitOr)},
	"bitxor":    {min: 2, max: 2, run: bitFunc(bitXor)},
	"bitnot":    {min: 1, max: 1, run: numberFunc(bitNot)},
	"rand":      {min: 0, max: 0, run: random},
	"nanvl":     {min: 2, max: 2, run: nanvl},
	"power":     {min: 2, max: 2, run: doubleFunc2(math.Pow)},
	"atan2":     {min: 2, max: 2, run: doubleFunc2(math.Atan2)},
	"sqrt":      {min: 1, max: 1, run: doubleFunc(math.Sqrt)},
	"exp":       {min: 1, max: 1, run: doubleFunc(math.Exp)},
	"ln":        {min: 1, max: 1, run: doubleFunc(math.Log)},
	"log":       {min: 1, max: 1, run: doubleFunc(math.Log10)},
	"sin":       {min: 1, max: 1, run: doubleFunc(math.Sin)},
	"cos":       {min: 1, max: 1, run: doubleFunc(math.Cos)},
	"tan":       {min: 1, max: 1, run: doubleFunc(math.Tan)},
	"sinh":      {min: 1, max: 1, run: doubleFunc(math.Sinh)},
	"cosh":      {min: 1, max: 1, run: doubleFunc(math.Cosh)},
	"tanh":      {min: 1, max: 1, run: doubleFunc(math.Tanh)},
	"asin":      {min: 1, max: 1, run: doubleFunc(math.Asin)},
	"acos":      {min: 1, max: 1, run: doubleFunc(math.Acos)},
	"atan":      {min: 1, max: 1, run: doubleFunc(math.Atan)},

	// text
	"chr":            {min: 1, max: 1, run: chr},
	"concat":         {min: 0, max: -1, run: concat},
	"startswith":     {min: 2, max: 2, run: startsWith},
	"endswith":       {min: 2, max: 2, run: endsWith},
	"indexof":        {min: 2, max: 2, modern: true, run: indexOf},
	"length":         {min: 1, max: 1, modern: true, run: length},
	"numbytes":       {min: 1, max: 1, modern: true, run: numBytes},
	"lower":          {min: 1, max: 1, run: lower},
	"upper":          {min: 1, max: 1, run: upper},
	"lpad":           {min: 2, max: 2, run: leftPad},
	"rpad":           {min: 2, max: 2, run: rightPad},
	"ltrim":          {min: 1, max: 1, run: trimFunc(bytes.TrimLeft)},
	"rtrim":          {min: 1, max: 1, run: trimFunc(bytes.TrimRight)},
	"trim":           {min: 1, max: 1, run: trimFunc(bytes.Trim)},
	"replace":        {min: 3, max: 3, run: replace},
	"substring":      {min: 2, max: 3, run: substring},
	"regexp_matches": {min: 2, max: 2, build: regexpFunc(regexpMatches)},
	"regexp_replace": {min: 3, max: 3, build: regexpFunc(regexpReplace)},
	"regexp_substr":  {min: 2, max: 2, build: regexpFunc(regexpSubstr)},
	"md2":            {min: 1, max: 1, run: hashFunc(md2Sum, 48)},
	"md5":            {min: 1, max: 1, run: hashFunc(md5Sum, 1)},
	"sha1":           {min: 1, max: 1, run: hashFunc(sha1Sum, 1)},
	"sha224":         {min: 1, max: 1, run: hashFunc(sha224Sum, 1)},
	"sha256":         {min: 1, max: 1, run: hashFunc(sha256Sum, 1)},
	"sha384":         {min: 1, max: 1, run: hashFunc(sha384Sum, 1)},
	"sha512":         {min: 1, max: 1, run: hashFunc(sha512Sum, 1)},
	"encode":         {min: 2, max: 2, modern: true, build: encode, check: checkEncode},
	"decode":         {min: 2, max: 6, not: []int{3, 4, 5}, modern: true, build: decode, check: checkDecode},

	// documents
	"get":            {min: 2, max: 2, run: get},
	"get_or_default": {min: 1, max: 2, modern: true, build: getOrDefault},
	"isnull": {min: 1, max: 1, run: func(f *frame, a []value) value {
		return boolValue(a[0].kind == kindNull)
	}},
	"isundefined": {min: 1, max: 1, modern: true, run: func(f *frame, a []value) value {
		return boolValue(a[0].kind == kindUndefined)
	}},
	"transform": {min: 3, max: 3, modern: true, run: transform, check: fixed(0)},

	// the message
	"topic":               {min: 0, max: 1, run: topicFunc},
	"timestamp":           {min: 0, max: 0, run: func(f *frame, _ []value) value { return wholeValue(f.m.Time) }},
	"clientid":            {min: 0, max: 0, run: clientID},
	"traceid":             {min: 0, max: 0, run: traceID},
	"principal":           {min: 0, max: 0, run: func(f *frame, _ []value) value { return f.given(f.m.Principal) }},
	"sourceip":            {min: 0, max: 0, run: func(f *frame, _ []value) value { return f.given(f.m.SourceIP) }},
	"accountid":           {min: 0, max: 0, run: func(f *frame, _ []value) value { return f.given(f.m.Account) }},
	"sql_version":         {min: 0, max: 0, run: func(f *frame, _ []value) value { return f.string(f.prog.version) }},
	"newuuid":             {min: 0, max: 0, run: newUUID},
	"get_mqtt_property":   {min: 1, max: 1, modern: true, run: mqttProperty},
	"get_user_properties": {min: 0, max: 1, modern: true, run: userProperties},
	"parse_time":          {min: 2, max: 3, modern: true, run: parseTime},
	"time_to_epoch":       {min: 2, max: 2, modern: true, run: timeToEpoch},

	// beyond the engine
	"get_thing_shadow": {min: 2, max: 3, modern: true, run: getThingShadow,
		check: needs("things' shadows", func(x *Services) bool { return x.Shadows != nil }, -1)},
	"get_registry_data": {min: 3, max: 3, run: getRegistryData,
		check: needs("things of the registry", func(x *Services) bool { return x.Things != nil }, 0, -1)},
	"get_dynamodb": {min: 4, max: 6, not: []int{5}, modern: true, run: getDynamoDB,
		check: needs("DynamoDB tables", func(x *Services) bool { return x.Tables != nil }, -1)},
	"get_secret": {min: 3, max: 4, run: getSecret,
		check: needs("secrets", func(x *Services) bool { return x.Secrets != nil }, 1, -1)},
	"aws_lambda": {min: 2, max: 2, run: awsLambda,
		check: needs("Lambda functions", func(x *Services) bool { return x.Lambdas != nil })},
	"machinelearning_predict": {min: 3, max: 3, run: predict,
		check: needs("prediction models", func(x *Services) bool { return x.Models != nil }, 1)},
}

// A castType is a target of cast(x AS type).
type castType struct {
	modern bool // came with 2016-03-23
	to     kind
	cast   func(f *frame, v value) value
}

var castTypes = map[string]castType{
	"string":   {to: kindText, cast: castText},
	"nvarchar": {to: kindText, cast: castText},
	"text":     {to: kindText, cast: castText},
	"ntext":    {to: kindText, cast: castText},
	"varchar":  {to: kindText, cast: castText},
	"int":      {to: kindNumber, cast: castInt},
	"integer":  {to: kindNumber, cast: castInt},
	"double":   {to: kindNumber, cast: castDouble},
	"decimal":  {to: kindNumber, cast: castDecimal, modern: true},
	"bool":     {to: kindBool, cast: castBool, modern: true},
	"boolean":  {to: kindBool, cast: castBool, modern: true},
}

func castText(f *frame, v value) value {
	if v.kind == kindText {
		return v
	}
	b, ok := f.text(v)
	if !ok {
		return value{}
	}
	return textValue(b)
}

func castDecimal(f *frame, v value) value {
	if v.kind == kindBool {
		return intValue(v.c)
	}
	n, ok := f.numeric(v)
	if !ok {
		return value{}
	}
	return f.prog.settle(n)
}

// castInt rounds down, as the guide says of Decimals.
func castInt(f *frame, v value) value {
	n := castDecimal(f, v)
	if n.kind == kindUndefined {
		return n
	}
	return floor(f, n)
}

func castDouble(f *frame, v value) value {
	n := castDecimal(f, v)
	if n.kind == kindUndefined {
		return n
	}
	return f.prog.fromFloat(n.float())
}

func castBool(f *frame, v value) value {
	if v.kind == kindNumber {
		n, ok := f.number(v)
		if !ok {
			return value{}
		}
		return boolValue(!n.zero())
	}
	is, ok := f.truth(v)
	if !ok {
		return value{}
	}
	return boolValue(is)
}
