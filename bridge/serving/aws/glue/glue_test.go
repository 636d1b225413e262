package glue

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/speed/firehose/catalogue"
)

// exported is what aws glue get-table answers of a table of Athena's.
const exported = `{"Table": {"Name": "real", "DatabaseName": "lake", "Owner": "hadoop",
  "CreateTime": "2026-05-04T09:14:12+00:00", "UpdateTime": "2026-05-04T09:14:12+00:00", "LastAccessTime": 0, "Retention": 0,
  "StorageDescriptor": {"Columns": [{"Name": "id", "Type": "bigint"}], "Location": "s3://lake/real/",
    "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
    "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
    "Compressed": false, "NumberOfBuckets": -1,
    "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
      "Parameters": {"serialization.format": "1"}},
    "BucketColumns": [], "SortColumns": [{"Column": "id", "SortOrder": 1}], "Parameters": {},
    "SkewedInfo": {"SkewedColumnNames": [], "SkewedColumnValues": [], "SkewedColumnValueLocationMaps": {}},
    "StoredAsSubDirectories": false},
  "PartitionKeys": [{"Name": "day", "Type": "string"}], "TableType": "EXTERNAL_TABLE",
  "Parameters": {"EXTERNAL": "TRUE"}, "CreatedBy": "arn:aws:sts::123456789012:assumed-role/a/b",
  "IsRegisteredWithLakeFormation": false, "CatalogId": "123456789012", "VersionId": "3", "IsMultiDialectView": false}}`

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
	one, err := catalogue.Parse([]byte(exported))
	if err != nil {
		t.Fatal(err)
	}
	c.Put(one)
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
			`"StorageDescriptor":{"Columns":[{"Name":"m","Type":"map<string,array<int>>","Comment":"c"}],`},
		{"GetTable", `{"DatabaseName":"lake","Name":"real"}`, 200, `"Owner":"hadoop","TableType":"EXTERNAL_TABLE"`},
		{"GetTable", `{"DatabaseName":"lake","Name":"real"}`, 200, `"Location":"s3://lake/real/","InputFormat":` +
			`"org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat","OutputFormat":` +
			`"org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat"`},
		{"GetTable", `{"DatabaseName":"lake","Name":"real"}`, 200, `"SerdeInfo":{"SerializationLibrary":` +
			`"org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe","Parameters":{"serialization.format":"1"}}`},
		{"GetTable", `{"DatabaseName":"lake","Name":"real"}`, 200,
			`"PartitionKeys":[{"Name":"day","Type":"string"}],"Parameters":{"EXTERNAL":"TRUE"}`},
		{"GetTable", `{"DatabaseName":"lake","Name":"none"}`, 400, "EntityNotFoundException"},
		{"GetTables", `{"DatabaseName":"lake","MaxResults":1}`, 200, `"NextToken":"1"`},
		{"GetTables", `{"DatabaseName":"lake","NextToken":"1"}`, 200, `{"TableList":[{"Name":"readings"`},
		{"GetTables", `{"DatabaseName":"lake","NextToken":"2"}`, 200, `{"TableList":[{"Name":"real"`},
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
