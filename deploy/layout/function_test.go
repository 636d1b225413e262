package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// maxFunction is how many lines a function may have, from func to its last brace.
// Those of tests are not counted: many are one table.
const maxFunction = 60

// A longFunction may have more, for a reason: it reads as one thing, or it is hot and
// a call in it would be measured.
type longFunction struct {
	lines  int // that it has, at most
	reason string
}

const (
	aTable   = "it is a table, a line an entry"
	aSwitch  = "it is a switch, a case each"
	aFormat  = "it reads or writes a format from front to back"
	isHot    = "it is hot, and measured as it is"
	inSteps  = "its steps share what they have open, and say what to undo"
	oneCheck = "it is one check after another"
)

// longFunctions are by file and name, a method's with its type.
var longFunctions = map[string]longFunction{
	"agent/health/health.go Server.Serve":                             {67, inSteps},
	"agent/provision/provision.go work.run":                           {61, inSteps},
	"agent/spool/salvage.go fill":                                     {68, inSteps},
	"agent/telemetry/decode.go decoder.schema":                        {79, aFormat},
	"agent/telemetry/ints.go encoder.appendInts":                      {61, isHot},
	"bridge/cli/rule_replay_text.go reportText":                       {61, aFormat},
	"bridge/config/check.go Config.bounds":                            {84, aTable},
	"bridge/control/authz/context.go Context.lookup":                  {70, aSwitch},
	"bridge/control/pki/verify.go Verify":                             {76, oneCheck},
	"bridge/control/provision/apply.go thing":                         {67, aTable},
	"bridge/control/provision/provision.go Service.Provision":         {63, inSteps},
	"bridge/control/registry/registrytest/registrytest.go testTables": {64, oneCheck},
	"bridge/datadir/check.go look":                                    {62, oneCheck},
	"bridge/serving/aws/s3/none.go api.none":                          {70, aTable},
	"bridge/speed/connector/emit/search.go newSearch":                 {64, oneCheck},
	"bridge/speed/connector/worker.go worker.take":                    {63, inSteps},
	"bridge/speed/iotsql/check.go checker.slip":                       {66, aSwitch},
	"bridge/speed/iotsql/number_text.go parseNumber":                  {75, isHot},
	"bridge/speed/kinesis/put.go API.PutRecords":                      {72, isHot},
	"bridge/speed/message/record.go Message.AppendRecord":             {61, isHot},
	"bridge/speed/mqtt/mqtttest/load.go Run":                          {90, inSteps},
	"bridge/speed/mqtt/packet/properties.go Properties.Parse":         {80, isHot},
	"bridge/speed/rules/rule.go Compiler.Parse":                       {61, oneCheck},
	"bridge/speed/streams/pebble/block.go appendBlock":                {66, isHot},
	"bridge/speed/streams/pebble/reshard.go Store.reshard":            {66, inSteps},
	"bridge/speed/streams/streamstest/crash.go model.check":           {65, oneCheck},
	"deploy/kinesisbench/idle.go idle":                                {72, inSteps},
}

// functionName is a function's name, with the type before it of a method.
func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	x := f.Recv.List[0].Type
	if p, ok := x.(*ast.StarExpr); ok {
		x = p.X
	}
	switch g := x.(type) { // of a generic type
	case *ast.IndexExpr:
		x = g.X
	case *ast.IndexListExpr:
		x = g.X
	}
	return x.(*ast.Ident).Name + "." + f.Name.Name
}

// TestFunctions finds functions that have too many lines, and entries of
// longFunctions that are not needed any more.
func TestFunctions(t *testing.T) {
	seen, n := map[string]bool{}, 0
	for name := range strings.FieldsSeq(tracked(t, "*.go")) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, filepath.Join(root, name), nil, parser.SkipObjectResolution)
		if err != nil {
			continue // removed and not committed yet
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n++
			lines := fset.Position(f.End()).Line - fset.Position(f.Pos()).Line + 1
			key := name + " " + functionName(f)
			most := maxFunction
			if long, ok := longFunctions[key]; ok && lines > maxFunction {
				seen[key], most = true, long.lines
			}
			if lines > most {
				t.Errorf("%s has %d lines, want at most %d", key, lines, most)
			}
		}
	}
	for key := range longFunctions {
		if !seen[key] {
			t.Errorf("%s is in longFunctions, and has no more than %d lines, or is gone", key, maxFunction)
		}
	}
	if n < 1000 {
		t.Fatalf("%d functions are found; the test looks at nothing", n)
	}
}
