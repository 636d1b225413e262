package firehose

import (
	"encoding/json"

	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
	"github.com/tidemill/tidemill/bridge/speed/firehose/convert"
)

// A Conversion makes Parquet of JSON.
type Conversion struct {
	Table   Table
	Schema  *convert.Table  // of Table; nil: the catalogue's, when a delivery is planned
	JSON    convert.JSON    // how records are read
	Parquet convert.Parquet // how they are written
}

// A Table names the schema, in the bridge's catalogue of tables.
type Table struct{ Database, Name, VersionID string }

type conversionBlock struct {
	option
	SchemaConfiguration       *schemaBlock
	InputFormatConfiguration  *struct{ Deserializer deserializerBlock }
	OutputFormatConfiguration *struct{ Serializer serializerBlock }
}

type schemaBlock struct{ RoleARN, CatalogId, DatabaseName, TableName, Region, VersionId string }

type deserializerBlock struct {
	OpenXJsonSerDe *struct {
		ConvertDotsInJsonKeysToUnderscores bool
		CaseInsensitive                    *bool
		ColumnToJsonKeyMappings            map[string]string
	}
	HiveJsonSerDe *struct{ TimestampFormats []string }
}

type serializerBlock struct {
	ParquetSerDe *parquetBlock
	OrcSerDe     json.RawMessage
}

type parquetBlock struct {
	BlockSizeBytes              *int
	PageSizeBytes               *int
	Compression                 string
	EnableDictionaryCompression bool
	MaxPaddingBytes             *int
	WriterVersion               string
}

// Bounds of Parquet's sizes in bytes (Firehose API, ParquetSerDe: a page at
// least 64 KiB, standard 1 MiB; a block at least 64 MiB, standard 256 MiB).
const (
	minPage, standardPage   = 64 << 10, 1 << 20
	minBlock, standardBlock = 64 << 20, 256 << 20
)

// conversion says whether records are converted, and reads how.
func (r *reader) conversion(b *conversionBlock) bool {
	if b == nil || r.c.Conversion != nil || !r.on("DataFormatConversionConfiguration", &b.option) {
		return r.c.Conversion != nil
	}
	const at = "DataFormatConversionConfiguration."
	c := &Conversion{}
	r.c.Conversion = c
	if s := b.SchemaConfiguration; s == nil {
		r.bad(at + "SchemaConfiguration: missing")
	} else {
		c.Table = Table{s.DatabaseName, s.TableName, r.orText(s.VersionId, "LATEST")}
		if s.DatabaseName == "" || s.TableName == "" {
			r.bad(at + "SchemaConfiguration: want a DatabaseName and a TableName")
		}
		r.keepText(at+"SchemaConfiguration.RoleARN", s.RoleARN)
		r.keepText(at+"SchemaConfiguration.CatalogId", s.CatalogId)
		r.keepText(at+"SchemaConfiguration.Region", s.Region)
	}
	var in deserializerBlock
	if b.InputFormatConfiguration == nil {
		r.bad(at + "InputFormatConfiguration: missing")
	} else {
		in = b.InputFormatConfiguration.Deserializer
		r.deserializer(at, in, c)
	}
	switch o := b.OutputFormatConfiguration; {
	case o == nil:
		r.bad(at + "OutputFormatConfiguration: missing")
	case o.Serializer.OrcSerDe != nil:
		r.bad(at + "OutputFormatConfiguration.Serializer.OrcSerDe: is not served; want ParquetSerDe")
	case o.Serializer.ParquetSerDe == nil:
		r.bad(at + "OutputFormatConfiguration.Serializer: want ParquetSerDe")
	default:
		r.parquet(at, o.Serializer.ParquetSerDe, c)
	}
	return true
}

// schema reads the table that a conversion names.
func (r *reader) schema(doc json.RawMessage) {
	c := r.c.Conversion
	if c == nil {
		r.bad("Tidemill.Table: goes with DataFormatConversionConfiguration")
		return
	}
	t, err := convert.ParseTable(doc)
	switch {
	case err != nil:
		r.bad("Tidemill.Table: %w", err)
	case t.Database != c.Table.Database || t.Name != c.Table.Name:
		r.bad("Tidemill.Table: %s.%s, want %s.%s of SchemaConfiguration", t.Database, t.Name, c.Table.Database,
			c.Table.Name)
	default:
		c.Schema = t
	}
}

func (r *reader) orText(text, standard string) string {
	if text == "" {
		return standard
	}
	return text
}

// deserializer reads how JSON is read.
func (r *reader) deserializer(at string, in deserializerBlock, c *Conversion) {
	at += "InputFormatConfiguration.Deserializer"
	switch {
	case in.OpenXJsonSerDe != nil && in.HiveJsonSerDe != nil:
		r.bad("%s: want one of OpenXJsonSerDe and HiveJsonSerDe", at)
	case in.OpenXJsonSerDe != nil:
		x := in.OpenXJsonSerDe
		c.JSON = convert.JSON{OpenX: true, Dots: x.ConvertDotsInJsonKeysToUnderscores,
			CaseInsensitive: x.CaseInsensitive == nil || *x.CaseInsensitive, Keys: x.ColumnToJsonKeyMappings}
	case in.HiveJsonSerDe != nil:
		c.JSON = convert.JSON{CaseInsensitive: true, Timestamps: in.HiveJsonSerDe.TimestampFormats}
	default:
		r.bad("%s: want OpenXJsonSerDe or HiveJsonSerDe", at)
		return
	}
	if err := c.JSON.Check(); err != nil {
		r.bad("%s: %w", at, err)
	}
}

// parquet reads how Parquet is written.
func (r *reader) parquet(at string, b *parquetBlock, c *Conversion) {
	at += "OutputFormatConfiguration.Serializer.ParquetSerDe."
	c.Parquet = convert.Parquet{
		Block:       r.atLeast(at+"BlockSizeBytes", b.BlockSizeBytes, standardBlock, minBlock),
		Page:        r.atLeast(at+"PageSizeBytes", b.PageSizeBytes, standardPage, minPage),
		Compression: r.oneOf(at+"Compression", b.Compression, "SNAPPY", "GZIP", "UNCOMPRESSED"),
		Dictionary:  b.EnableDictionaryCompression,
		Version2:    r.oneOf(at+"WriterVersion", b.WriterVersion, "V1", "V2") == "V2",
	}
	r.atLeast(at+"MaxPaddingBytes", b.MaxPaddingBytes, 0, 0) // of HDFS' blocks, which there are none of here
}

func (r *reader) atLeast(name string, n *int, standard, least int) int {
	if n == nil {
		return standard
	}
	if *n < least || *n > 1<<30 {
		r.bad("%s: %d, want %d to %d", name, *n, least, 1<<30)
	}
	return *n
}

// convertedObjects checks that a converted object is not compressed as a whole,
// and names it.
func (r *reader) convertedObjects() {
	if r.c.Conversion == nil {
		return
	}
	if r.c.Objects.Compression != compress.None {
		r.bad("CompressionFormat: want UNCOMPRESSED with DataFormatConversionConfiguration")
	}
	if r.c.Objects.Suffix == "" {
		r.c.Objects.Suffix = ".parquet"
	}
}
