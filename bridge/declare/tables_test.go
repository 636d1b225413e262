package declare

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A table of a file is in force while the file is there, as it was last good; a
// delivery stream that names one that is not there is refused until it is.
func TestTables(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	write := func(folder, name, doc string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(b.path, folder, name), []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	version := func() string {
		one, err := b.tables.Find("lake", "readings")
		if err != nil {
			return "none"
		}
		return one.VersionID
	}
	const table = `{"DatabaseName":"lake","Name":"readings","VersionId":"1","StorageDescriptor":{"Columns":[
	  {"Name":"id","Type":"int"}]}}`
	write("delivery-streams", "a.json", `{"DeliveryStreamName":"a","ExtendedS3DestinationConfiguration":{
	  "BucketARN":"arn:aws:s3:::lake","DataFormatConversionConfiguration":{"SchemaConfiguration":{"DatabaseName":"lake",
	  "TableName":"readings"},"InputFormatConfiguration":{"Deserializer":{"OpenXJsonSerDe":{}}},
	  "OutputFormatConfiguration":{"Serializer":{"ParquetSerDe":{}}}}}}`)
	if n, err := b.dir.Apply(false); n != 0 || err == nil || !strings.Contains(err.Error(), "lake.readings") {
		t.Errorf("without the table: %d, %v", n, err)
	}
	write("tables", "readings.json", table)
	if n, err := b.dir.Apply(false); n != 2 || err != nil || version() != "1" {
		t.Errorf("%d, %v", n, err)
	}
	write("tables", "readings.json", strings.Replace(table, `"int"`, `"uniontype<int>"`, 1))
	if n, err := b.dir.Apply(false); n != 2 || err == nil || version() != "1" {
		t.Errorf("with a mistake: %d, %v", n, err)
	}
	b.close()
	b = open(t, data)
	if n, err := b.dir.Apply(false); n != 2 || err == nil || version() != "1" {
		t.Errorf("with a mistake, at a start: %d, %v, %s", n, err, version())
	}
	write("tables", "readings.json", strings.Replace(table, `"1"`, `"2"`, 1))
	if _, err := b.dir.Apply(false); err != nil || version() != "2" {
		t.Errorf("%s, %v", version(), err)
	}
	if err := os.Remove(filepath.Join(b.path, "tables", "readings.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.dir.Apply(false); err != nil || version() != "none" {
		t.Errorf("gone: %s, %v", version(), err)
	}
}
