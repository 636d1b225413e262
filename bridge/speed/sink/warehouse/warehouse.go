// Package warehouse loads objects into a table of PostgreSQL or Redshift, each
// object once: their names go into a table of files in the same transaction.
package warehouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// A Store has the objects, and takes manifests.
type Store interface {
	sink.Objects
	sink.Getter
}

// Options of a Warehouse.
type Options struct {
	Conn      *pgx.ConnConfig
	Redshift  bool   // else PostgreSQL
	Ask       bool   // whether it is Redshift, the database says
	Table     string // SCHEMA.TABLE or TABLE, as are all names of tables
	Columns   []string
	Files     string // table of files: a column fileColumn of text
	MakeFiles bool   // it is made where it is not there
	JSON      bool   // objects are JSON objects one after the other, else CSV
	Delimiter byte   // of CSV
	Text      Text   // PostgreSQL: how lines are read; zero: as PostgreSQL reads CSV
	Paths     string // PostgreSQL: s3://BUCKET/KEY of a JSONPaths file; "": Columns are members' names
	FoldNames bool   // PostgreSQL: Columns are, in upper or lower case
	Gzip      bool

	Objects Store // PostgreSQL: where the objects are read; Redshift: takes manifests
	Bucket  string

	CopyOptions string // Redshift: as they were given, of COPY; "": those of JSON, Delimiter and Gzip
	Unloadable  error  // PostgreSQL: why it cannot load such objects, where it cannot

	IAMRole string // Redshift: by which it reads the bucket
	Region  string // Redshift: of the bucket; "": its own
}

// fileColumn is the column of the table of files that has an object's key.
const fileColumn = "file_name"

// A Warehouse loads objects. Several goroutines may use it; what they load is
// loaded one after the other.
type Warehouse struct{ Options }

// New returns a warehouse. Nothing is asked.
func New(o Options) *Warehouse { return &Warehouse{o} }

// closeTime is how long a connection may take to end.
const closeTime = 5 * time.Second

// Load loads the objects of keys that are not in the table of files, in one
// transaction. name tells the load from others of the same connector.
func (w *Warehouse) Load(ctx context.Context, name string, keys []string) (err error) {
	conn, err := pgx.ConnectConfig(ctx, w.Conn)
	if err != nil {
		return fmt.Errorf("warehouse: %w", err)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		// Whatever was not committed is rolled back with the connection.
		_ = conn.Close(end)
	}()
	if err := w.load(ctx, conn, name, keys); err != nil {
		return fmt.Errorf("warehouse %s: %w", w.Table, err)
	}
	return nil
}

func (w *Warehouse) load(ctx context.Context, conn *pgx.Conn, name string, keys []string) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	if w.Ask {
		if w, err = w.asked(ctx, tx); err != nil {
			return err
		}
	}
	if !w.Redshift && w.Unloadable != nil {
		return fmt.Errorf("%w: %w", errContent, w.Unloadable)
	}
	if w.MakeFiles {
		err = w.makeFiles(ctx, tx)
	}
	if err == nil {
		err = w.lock(ctx, tx)
	}
	if err != nil {
		return err
	}
	keys, err = w.unknown(ctx, tx, keys)
	if err != nil || len(keys) == 0 {
		return err
	}
	if w.Redshift {
		err = w.copyManifest(ctx, tx, name, keys)
	} else {
		for i := 0; i < len(keys) && err == nil; i++ {
			err = w.copyObject(ctx, conn.PgConn(), keys[i])
		}
	}
	if err != nil {
		return err
	}
	for part := range parts(keys) {
		if _, err := tx.Exec(ctx, w.insert(len(part)), anys(part)...); err != nil {
			return err
		}
	}
	return tx.Commit(ctx)
}

// asked is the warehouse as its database says what it is.
func (w *Warehouse) asked(ctx context.Context, tx pgx.Tx) (*Warehouse, error) {
	var version string
	if err := tx.QueryRow(ctx, "SELECT version()").Scan(&version); err != nil {
		return nil, err
	}
	is := *w
	is.Redshift = strings.Contains(version, "Redshift")
	return &is, nil
}

// makeFiles makes the table of files. Who may not make tables can have it made.
func (w *Warehouse) makeFiles(ctx context.Context, tx pgx.Tx) error {
	create := "CREATE TABLE IF NOT EXISTS " + quoteTable(w.Files) + " (" + quote(fileColumn) +
		" varchar(1024) PRIMARY KEY)"
	if w.Redshift { // which has no to_regclass
		_, err := tx.Exec(ctx, create)
		return err
	}
	var there bool
	err := tx.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", quoteTable(w.Files)).Scan(&there)
	if err == nil && !there {
		_, err = tx.Exec(ctx, create)
	}
	return err
}

// lock lets one load at a time into the table of files, for Redshift keeps no
// column unique.
func (w *Warehouse) lock(ctx context.Context, tx pgx.Tx) (err error) {
	if w.Redshift {
		_, err = tx.Exec(ctx, "LOCK TABLE "+quoteTable(w.Files))
	} else {
		_, err = tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "tidemill "+w.Files)
	}
	return err
}

// maxParams is how many keys are in one statement; the protocol has 65,535
// parameters, Redshift 32,767.
const maxParams = 1000

func parts(keys []string) func(func([]string) bool) {
	return func(yield func([]string) bool) {
		for len(keys) > 0 {
			n := min(len(keys), maxParams)
			if !yield(keys[:n]) {
				return
			}
			keys = keys[n:]
		}
	}
}

func anys(keys []string) []any {
	all := make([]any, len(keys))
	for i, k := range keys {
		all[i] = k
	}
	return all
}

// unknown returns the keys, each once, that are not in the table of files.
func (w *Warehouse) unknown(ctx context.Context, tx pgx.Tx, keys []string) ([]string, error) {
	known := map[string]bool{}
	for part := range parts(keys) {
		rows, err := tx.Query(ctx, w.query(len(part)), anys(part)...)
		if err != nil {
			return nil, err
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, err
		}
		for _, k := range found {
			known[k] = true
		}
	}
	var left []string
	for _, k := range keys {
		if !known[k] {
			known[k] = true
			left = append(left, k)
		}
	}
	return left, nil
}

func (w *Warehouse) query(n int) string {
	return "SELECT " + quote(fileColumn) + " FROM " + quoteTable(w.Files) + " WHERE " + quote(fileColumn) + " IN (" +
		params("$%d", n) + ")"
}

func (w *Warehouse) insert(n int) string {
	return "INSERT INTO " + quoteTable(w.Files) + " (" + quote(fileColumn) + ") VALUES " + params("($%d)", n)
}

func params(form string, n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(form, i+1)
	}
	return strings.Join(all, ", ")
}

// copyObject loads one object within the transaction of conn.
func (w *Warehouse) copyObject(ctx context.Context, conn *pgconn.PgConn, key string) error {
	data, _, err := w.Objects.Get(ctx, w.Bucket, key, maxObject)
	if err != nil {
		return err
	}
	from, err := w.rows(ctx, data)
	if err == nil {
		r := &faulty{Reader: from}
		_, err = conn.CopyFrom(ctx, r, w.copyIn())
		// The server tells only that the client gave up.
		err = errors.Join(r.err, err, from.Close())
	}
	if err != nil {
		return fmt.Errorf("object %s: %w", key, err)
	}
	return nil
}

// A faulty reader keeps the error that ended it.
type faulty struct {
	io.Reader
	err error
}

func (f *faulty) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// maxObject bounds what is in memory: twice the largest buffer of a connector.
const maxObject = 256 << 20

func (w *Warehouse) copyIn() string {
	delimiter := w.Delimiter
	if w.JSON || w.Text != (Text{}) {
		delimiter = ','
	}
	return "COPY " + quoteTable(w.Table) + w.columns() + " FROM STDIN WITH (FORMAT csv, DELIMITER " +
		literal(string(delimiter)) + ")"
}

func (w *Warehouse) columns() string {
	if len(w.Columns) == 0 {
		return ""
	}
	all := make([]string, len(w.Columns))
	for i, c := range w.Columns {
		all[i] = quote(c)
	}
	return " (" + strings.Join(all, ", ") + ")"
}

// Bad tells whether an error is an object's fault, so that others could be
// loaded without it, and whether it will be so for ever.
func Bad(err error) (bad, ever bool) {
	if errors.Is(err, sink.ErrNotFound) {
		return true, false
	}
	if errors.Is(err, errContent) || errors.Is(err, sink.ErrName) {
		return true, true
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false, false
	}
	// 22 are wrong values, 23 are broken constraints (PostgreSQL, appendix A).
	// Redshift points to a table of load errors.
	load := strings.Contains(e.Message, "stl_load_errors") || strings.Contains(e.Message, "sys_load_error_detail")
	bad = strings.HasPrefix(e.Code, "22") || strings.HasPrefix(e.Code, "23") || load
	return bad, bad
}

// rows reads an object as CSV.
func (w *Warehouse) rows(ctx context.Context, data []byte) (io.ReadCloser, error) {
	r, err := plain(data, w.Gzip)
	switch {
	case err != nil:
		return nil, err
	case !w.JSON && w.Text != (Text{}):
		return newTexts(r, w.Text, w.Delimiter, len(w.Columns)), nil
	case !w.JSON:
		return r, nil
	}
	rows := newRows(r, w.Columns)
	rows.fold = w.FoldNames
	if w.Paths != "" {
		rows.paths, err = w.paths(ctx)
	}
	return rows, err
}

// maxPathsFile bounds a JSONPaths file, in bytes.
const maxPathsFile = 1 << 20

// paths reads the JSONPaths file. Without a file there the load waits, as for a table.
func (w *Warehouse) paths(ctx context.Context) ([]path, error) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(w.Paths, "s3://"), "/")
	doc, _, err := w.Objects.Get(ctx, bucket, key, maxPathsFile)
	if err != nil {
		return nil, fmt.Errorf("JSONPaths %s: %v", w.Paths, err)
	}
	all, err := parsePaths(doc)
	if n := len(w.Columns); err == nil && n > 0 && n != len(all) {
		err = fmt.Errorf("JSONPaths %s: %d for %d columns", w.Paths, len(all), n)
	}
	return all, err
}
