package convert

import (
	"strings"
	"testing"
)

// What a table has that nobody knows, or that is not served, is refused by its name, all
// of it at once.
func TestGlueRefuses(t *testing.T) {
	const column = `"Columns":[{"Name":"a","Type":"int"}]`
	for doc, want := range map[string]string{
		`{"DatabaseName":"d","Name":"t","StorageDescriptor":{` + column + `}}`: "",
		`{"Table":{"DatabaseName":"d","Name":"t","StorageDescriptor":{` + column +
			`,"SerdeInfo":{"Name":"s"}},"PartitionKeys":[{"Name":"p","Type":"string"}],"TargetTable":null}}`: "",
		`{"DatabaseName":"d","TableInput":{"Name":"t","StorageDescriptor":{` + column + `}},"CatalogId":"1"}`: "",
		`{"DatabaseName":"d","Name":"t","Partitionkeys":[],"StorageDescriptor":{` + column + `,"Serde":{}},"PartitionKeys":{}}`: "" +
			"PartitionKeys: is an object, want a list\nPartitionkeys: unknown member\nStorageDescriptor.Serde: unknown member",
		`{"DatabaseName":"d","Name":"t","StorageDescriptor":{"SchemaReference":{"SchemaVersionNumber":1}},"TargetTable":{}}`: "" +
			"TargetTable: is not served\nStorageDescriptor.SchemaReference: is not served; want Columns",
		`{"DatabaseName":"d","TableInput":{"Name":"t","StorageDescriptor":{` + column + `}},"OpenTableFormatInput":{}}`: "" +
			"OpenTableFormatInput: is not served",
	} {
		_, err := ParseTable([]byte(doc))
		if (err == nil) != (want == "") || err != nil && !strings.HasSuffix(err.Error(), ": "+want) {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
	}
}
