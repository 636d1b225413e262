// Package catalogue has the tables that delivery streams convert records by, as AWS
// Glue's data catalogue has them for AWS's. Files of bridge.d/tables declare them.
package catalogue

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/firehose/convert"
)

// ErrNotFound says that there is no such database, table or version.
var ErrNotFound = errors.New("not in the catalogue of tables")

// A Table is one of the catalogue. It does not change.
type Table struct {
	*convert.Table
	Columns []Column      // of Table, as they were declared
	Glue    *convert.Glue // all that was declared
	Updated time.Time     // when it came into force in this form, or the bridge started
}

// A Column is one of a Table.
type Column = convert.GlueColumn

// Key is the name of the table with its database: DATABASE.TABLE.
func (t *Table) Key() string { return key(t.Database, t.Name) }

func key(database, name string) string {
	return strings.ToLower(database) + "." + strings.ToLower(name)
}

// nameForm is what a database and a table may be called.
var nameForm = regexp.MustCompile(`^[^\x00-\x20./\\]{1,255}$`)

// firstVersion is that of a table that says none (AWS Glue counts from 0).
const firstVersion = "0"

// Parse reads a table in the form of AWS Glue, as convert.ParseGlue does. The table
// of the version that it says is in force, "0" where it says none.
func Parse(doc []byte) (*Table, error) {
	g, err := convert.ParseGlue(doc)
	if err != nil {
		return nil, err
	}
	t, err := g.Table()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{t.Database, t.Name} {
		if !nameForm.MatchString(name) {
			return nil, fmt.Errorf("table %.100q: want 1 to 255 characters without spaces, dots and slashes", name)
		}
	}
	t.Database, t.Name = strings.ToLower(t.Database), strings.ToLower(t.Name) // as Glue does
	t.VersionID = cmp.Or(t.VersionID, firstVersion)
	return &Table{Table: t, Columns: g.StorageDescriptor.Columns, Glue: g}, nil
}

// A Catalogue is the tables that are in force. Several goroutines may use it.
type Catalogue struct {
	mu     sync.Mutex
	tables map[string]*Table // by Key
}

// New returns a catalogue without tables.
func New() *Catalogue { return &Catalogue{tables: map[string]*Table{}} }

// Put has a table in force, in the place of one of the same name. Of one that is the
// same already the time stays.
func (c *Catalogue) Put(t *Table) {
	now := *t
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.tables[t.Key()]; old != nil {
		if now.Updated = old.Updated; reflect.DeepEqual(*old, now) {
			return
		}
	}
	now.Updated = time.Now()
	c.tables[t.Key()] = &now
}

// Keep removes the tables that are not among keys.
func (c *Catalogue) Keep(keys map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.tables {
		if !keys[k] {
			delete(c.tables, k)
		}
	}
}

// Schema finds what a delivery stream's SchemaConfiguration names. version is LATEST,
// or the table's own.
func (c *Catalogue) Schema(database, name, version string) (*convert.Table, error) {
	t, err := c.Find(database, name)
	if err != nil {
		return nil, err
	}
	if version != "LATEST" && version != t.VersionID {
		return nil, fmt.Errorf("table %s.%s: version %.100q: %w: there is %s", database, name, version, ErrNotFound,
			t.VersionID)
	}
	return t.Table, nil
}

// Find returns a table.
func (c *Catalogue) Find(database, name string) (*Table, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.tables[key(database, name)]; t != nil {
		return t, nil
	}
	return nil, fmt.Errorf("table %.300s.%.300s: %w", database, name, ErrNotFound)
}

// List returns the tables of a database, by name, or all of them for "".
func (c *Catalogue) List(database string) (all []*Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.tables {
		if database == "" || t.Database == strings.ToLower(database) {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *Table) int { return strings.Compare(a.Key(), b.Key()) })
	return all
}
