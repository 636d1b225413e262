// Package glue answers what AWS's SDKs ask AWS Glue's data catalogue of databases and
// tables, API version 2017-03-31, in JSON 1.1: those that delivery streams convert
// records by. It reads alone: files of bridge.d/tables declare tables.
package glue

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/firehose/catalogue"
	"github.com/tidemill/tidemill/bridge/speed/firehose/convert"
)

const (
	maxBody  = 64 << 10
	maxCalls = 256 // under way at once
)

type service struct {
	tables  *catalogue.Catalogue
	account string
}

// Service serves the tables of c.
func Service(c *catalogue.Catalogue, account string) *wire.Service {
	s := &service{c, account}
	return &wire.Service{
		Name:       "glue",
		Signing:    []string{"glue"},
		Protocol:   wire.JSON{Target: "AWSGlue", Version: "1.1"},
		MaxBody:    maxBody,
		Concurrent: maxCalls,
		Errors: []wire.Rule{
			wire.Say(catalogue.ErrNotFound, "EntityNotFoundException", http.StatusBadRequest, "Entity Not Found"),
		},
		Operations: []wire.Operation{
			wire.Query("GetDatabase", nil, s.getDatabase),
			wire.Query("GetDatabases", nil, s.getDatabases),
			wire.Query("GetTable", nil, s.getTable),
			wire.Query("GetTables", nil, s.getTables),
		},
	}
}

type database struct{ Name, CatalogId *string }

type column struct {
	Name, Type, Comment *string
	Parameters          map[string]string
}

type descriptor struct {
	Columns                             []column
	Location, InputFormat, OutputFormat *string
	AdditionalLocations, BucketColumns  []string
	Compressed, StoredAsSubDirectories  bool
	NumberOfBuckets                     int32
	Parameters                          map[string]string
	SerdeInfo                           *serde
	SortColumns                         []order
	SkewedInfo                          *convert.Skewed
}

type serde struct {
	Name, SerializationLibrary *string
	Parameters                 map[string]string
}

type order struct {
	Column    string
	SortOrder int32
}

type table struct {
	Name, DatabaseName, CatalogId, Description, Owner, TableType, VersionId *string

	CreateTime, UpdateTime             time.Time
	Retention                          int32
	StorageDescriptor                  *descriptor
	PartitionKeys                      []column
	ViewOriginalText, ViewExpandedText *string
	Parameters                         map[string]string
}

type databaseInput struct {
	CatalogId *string
	Name      *string `aws:"required,min=1,max=255"`
}

type databaseOutput struct{ Database *database }

// getDatabase finds a database that has a table: there is none without.
func (s *service) getDatabase(_ *wire.Request, in *databaseInput) (*databaseOutput, error) {
	all := s.tables.List(*in.Name)
	if len(all) == 0 {
		return nil, fmt.Errorf("database %s: %w", *in.Name, catalogue.ErrNotFound)
	}
	return &databaseOutput{&database{&all[0].Database, &s.account}}, nil
}

type pageInput struct {
	CatalogId  *string
	NextToken  *string
	MaxResults *int32 `aws:"min=1,max=100"`
}

// page is the part of n things that a request asks for, and the token of what follows.
func (in *pageInput) page(n int) (from, to int, next *string, err error) {
	to = 100
	if in.MaxResults != nil {
		to = int(*in.MaxResults)
	}
	if in.NextToken != nil {
		if from, err = strconv.Atoi(*in.NextToken); err != nil || from < 0 {
			return 0, 0, nil, wire.Errorf(http.StatusBadRequest, "InvalidInputException", "NextToken is none of ours")
		}
	}
	from = min(from, n)
	if to += from; to < n {
		text := strconv.Itoa(to)
		return from, to, &text, nil
	}
	return from, n, nil, nil
}

type databasesOutput struct {
	DatabaseList []database
	NextToken    *string
}

func (s *service) getDatabases(_ *wire.Request, in *pageInput) (*databasesOutput, error) {
	out := &databasesOutput{DatabaseList: []database{}}
	for _, t := range s.tables.List("") {
		if n := len(out.DatabaseList); n == 0 || *out.DatabaseList[n-1].Name != t.Database {
			out.DatabaseList = append(out.DatabaseList, database{&t.Database, &s.account})
		}
	}
	from, to, next, err := in.page(len(out.DatabaseList))
	out.DatabaseList, out.NextToken = out.DatabaseList[from:to], next
	return out, err
}

type tableInput struct {
	CatalogId    *string
	DatabaseName *string `aws:"required,min=1,max=255"`
	Name         *string `aws:"required,min=1,max=255"`
}

type tableOutput struct{ Table *table }

func (s *service) getTable(_ *wire.Request, in *tableInput) (*tableOutput, error) {
	t, err := s.tables.Find(*in.DatabaseName, *in.Name)
	if err != nil {
		return nil, err
	}
	return &tableOutput{s.description(t)}, nil
}

type tablesInput struct {
	pageInput
	DatabaseName *string `aws:"required,min=1,max=255"`
	Expression   *string `aws:"max=2048"`
}

type tablesOutput struct {
	TableList []table
	NextToken *string
}

// getTables lists a database's tables, those whose names an expression matches as a
// whole.
func (s *service) getTables(_ *wire.Request, in *tablesInput) (*tablesOutput, error) {
	all := s.tables.List(*in.DatabaseName)
	if len(all) == 0 {
		return nil, fmt.Errorf("database %s: %w", *in.DatabaseName, catalogue.ErrNotFound)
	}
	out := &tablesOutput{TableList: []table{}}
	var only *regexp.Regexp
	if in.Expression != nil {
		var err error
		if only, err = regexp.Compile("^(?:" + *in.Expression + ")$"); err != nil {
			return nil, wire.Errorf(http.StatusBadRequest, "InvalidInputException", "Expression: %v", err)
		}
	}
	for _, t := range all {
		if only == nil || only.MatchString(t.Name) {
			out.TableList = append(out.TableList, *s.description(t))
		}
	}
	from, to, next, err := in.page(len(out.TableList))
	out.TableList, out.NextToken = out.TableList[from:to], next
	return out, err
}

// description is a table as the API tells it.
func (s *service) description(t *catalogue.Table) *table {
	g, d := t.Glue, &t.Glue.StorageDescriptor
	out := &table{Name: &t.Name, DatabaseName: &t.Database, CatalogId: &s.account, VersionId: &t.VersionID,
		Description: said(g.Description), Owner: said(g.Owner), TableType: said(cmp.Or(g.TableType, "EXTERNAL_TABLE")),
		CreateTime: t.Updated, UpdateTime: t.Updated, Retention: g.Retention, PartitionKeys: columns(g.PartitionKeys),
		ViewOriginalText: said(g.ViewOriginalText), ViewExpandedText: said(g.ViewExpandedText),
		Parameters: g.Parameters}
	out.StorageDescriptor = &descriptor{Columns: columns(d.Columns), Location: said(d.Location),
		InputFormat: said(d.InputFormat), OutputFormat: said(d.OutputFormat),
		AdditionalLocations: d.AdditionalLocations, BucketColumns: d.BucketColumns, Compressed: d.Compressed,
		StoredAsSubDirectories: d.StoredAsSubDirectories, NumberOfBuckets: d.NumberOfBuckets, Parameters: d.Parameters,
		SkewedInfo: d.SkewedInfo}
	if i := d.SerdeInfo; i != nil {
		out.StorageDescriptor.SerdeInfo = &serde{said(i.Name), said(i.SerializationLibrary), i.Parameters}
	}
	for _, c := range d.SortColumns {
		out.StorageDescriptor.SortColumns = append(out.StorageDescriptor.SortColumns, order(c))
	}
	return out
}

// columns are those of a list as the API tells them.
func columns(all []catalogue.Column) []column {
	out := []column{}
	for i := range all {
		c := &all[i]
		out = append(out, column{&c.Name, &c.Type, said(c.Comment), c.Parameters})
	}
	return out
}

// said is a text, nil for none.
func said(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
