package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tidemill/tidemill/bridge/strictjson"
)

// A Glue is a table as AWS Glue has it (Glue API, Table and TableInput). Records are
// converted by the columns of its storage descriptor alone; the rest is kept and shown.
type Glue struct {
	Name, DatabaseName, VersionId, Description, Owner string
	TableType, ViewOriginalText, ViewExpandedText     string
	Retention                                         int32
	Parameters                                        map[string]string
	PartitionKeys                                     []GlueColumn
	StorageDescriptor                                 Storage

	// What Glue tells of its own state is passed over.
	CatalogId, CreatedBy, CreateTime, UpdateTime, LastAccessTime json.RawMessage
	LastAnalyzedTime, IsRegisteredWithLakeFormation, Status      json.RawMessage

	// These are refused.
	FederatedTable, TargetTable, ViewDefinition, IsMultiDialectView, IsMaterializedView json.RawMessage
}

// A GlueColumn is one of a table, its type in Hive's words.
type GlueColumn struct {
	Name, Type, Comment string
	Parameters          map[string]string
}

// A Storage says how a table is stored.
type Storage struct {
	Columns                             []GlueColumn
	Location, InputFormat, OutputFormat string
	AdditionalLocations, BucketColumns  []string
	Compressed, StoredAsSubDirectories  bool
	NumberOfBuckets                     int32
	Parameters                          map[string]string
	SerdeInfo                           *Serde
	SortColumns                         []Order
	SkewedInfo                          *Skewed
	SchemaReference                     json.RawMessage // refused
}

// A Serde says what reads and writes a table's rows.
type Serde struct {
	Name, SerializationLibrary string
	Parameters                 map[string]string
}

// An Order is a column that a table is sorted by; SortOrder is 1 for ascending.
type Order struct {
	Column    string
	SortOrder int32
}

// A Skewed says which values a table has often.
type Skewed struct {
	SkewedColumnNames, SkewedColumnValues []string
	SkewedColumnValueLocationMaps         map[string]string
}

// ParseGlue reads a table in the form of AWS Glue's CreateTable or GetTable, by itself or
// as Table or TableInput. It tells each member that is not known, or not served.
func ParseGlue(doc []byte) (*Glue, error) {
	var in struct {
		Glue
		Table, TableInput               *Glue
		PartitionIndexes, TransactionId json.RawMessage // of CreateTable: passed over
		OpenTableFormatInput            json.RawMessage
	}
	errs := strictjson.All(doc, &in)
	g := &in.Glue
	switch {
	case in.Table != nil:
		g = in.Table
	case in.TableInput != nil:
		g = in.TableInput
		if g.DatabaseName == "" {
			g.DatabaseName = in.DatabaseName
		}
	}
	if v := string(in.OpenTableFormatInput); v != "" && v != "null" {
		errs = append(errs, errors.New("OpenTableFormatInput: is not served"))
	}
	if err := errors.Join(append(errs, g.refused()...)...); err != nil {
		return nil, fmt.Errorf("table %.100q: %w", g.Name, err)
	}
	return g, nil
}

// refused tells of what has a meaning that is not served.
func (g *Glue) refused() (errs []error) {
	all := map[string]json.RawMessage{"FederatedTable": g.FederatedTable, "TargetTable": g.TargetTable,
		"ViewDefinition": g.ViewDefinition, "IsMultiDialectView": g.IsMultiDialectView,
		"IsMaterializedView": g.IsMaterializedView}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if v := string(all[name]); v != "" && v != "null" && v != "false" {
			errs = append(errs, fmt.Errorf("%s: is not served", name))
		}
	}
	if v := string(g.StorageDescriptor.SchemaReference); v != "" && v != "null" {
		errs = append(errs, errors.New("StorageDescriptor.SchemaReference: is not served; want Columns"))
	}
	return errs
}
