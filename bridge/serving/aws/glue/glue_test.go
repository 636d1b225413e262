package glue

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/speed/firehose/catalogue"
)

func TestGlue(t *testing.T) {
	c := catalogue.New()
	for _, name := range []string{"alarms", "readings"} {
		one, err := catalogue.Parse(fmt.Appendf(nil, `{"DatabaseName":"lake","Name":%q,"StorageDescriptor":{"Columns":[
		  {"Name":"m","Type":"map<string,array<int>>","Comment":"c"}]}}`, name))
		if err != nil {
			t.Fatal(err)
		}
		c.Put(one)
	}
	h := wire.New(wiretest.Options(Service(c, "000000000000")))
	for _, q := range []struct {
		op, in string
		status int
		want   string
	}{
		{"GetDatabases", `{}`, 200, `{"DatabaseList":[{"Name":"lake","CatalogId":"000000000000"}]}`},
		{"GetDatabase", `{"Name":"lake"}`, 200, `"Name":"lake"`},
		{"GetDatabase", `{"Name":"none"}`, 400, "EntityNotFoundException"},
		{"GetDatabase", `{}`, 400, "ValidationException"},
		{"GetTable", `{"DatabaseName":"lake","Name":"alarms"}`, 200,
			`"StorageDescriptor":{"Columns":[{"Name":"m","Type":"map<string,array<int>>","Comment":"c"}]}`},
		{"GetTable", `{"DatabaseName":"lake","Name":"none"}`, 400, "EntityNotFoundException"},
		{"GetTables", `{"DatabaseName":"lake","MaxResults":1}`, 200, `"NextToken":"1"`},
		{"GetTables", `{"DatabaseName":"lake","NextToken":"1"}`, 200, `{"TableList":[{"Name":"readings"`},
		{"GetTables", `{"DatabaseName":"lake","Expression":"al.*"}`, 200, `{"TableList":[{"Name":"alarms"`},
		{"GetTables", `{"DatabaseName":"lake","Expression":"("}`, 400, "InvalidInputException"},
		{"GetTables", `{"DatabaseName":"lake","NextToken":"x"}`, 400, "InvalidInputException"},
		{"GetTables", `{"DatabaseName":"lake","NextToken":"9"}`, 200, `{"TableList":[]}`},
		{"GetTables", `{"DatabaseName":"none"}`, 400, "EntityNotFoundException"},
	} {
		a := wiretest.AskTarget(h, "glue", "AWSGlue."+q.op, q.in)
		if a.Status != q.status || !strings.Contains(a.Body, q.want) {
			t.Errorf("%s %s: %d %s, want %d %s", q.op, q.in, a.Status, a.Body, q.status, q.want)
		}
	}
}
