// Package postgres inserts JSON objects as rows of tables of PostgreSQL, each object
// once where its table has a column for what tells it from others.
package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tidemill/tidemill/bridge/speed/sink/warehouse"
)

// timeout is how long an insert may take, with the wait for a connection.
const timeout = 30 * time.Second

// errObject says that a row is not a JSON object with names that columns may have.
var errObject = errors.New("no row")

// A Row is one to insert.
type Row struct {
	ID     string          // a UUID that is the same as often as the row is inserted
	Object json.RawMessage // columns and values; those that it does not name have their default
}

// A Store is a database. Several goroutines may use it.
type Store struct{ pool *pgxpool.Pool }

// Open returns the database of a configuration, with at most so many connections.
// They are made when there is something to insert.
func Open(ctx context.Context, c *pgx.ConnConfig, connections int) (*Store, error) {
	p, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, err
	}
	p.ConnConfig, p.MaxConns, p.MinConns = c, int32(connections), 0
	p.MaxConnIdleTime = time.Minute
	pool, err := pgxpool.NewWithConfig(ctx, p)
	if err != nil {
		return nil, err
	}
	return &Store{pool}, nil
}

// Close ends the connections.
func (s *Store) Close() { s.pool.Close() }

// Insert inserts rows into a table, SCHEMA.TABLE or TABLE, and returns one error for
// each: nil, the database has it. Where idColumn is not "" it is the name of a column
// of type uuid or text, which is unique: a row whose id is there is not inserted
// again. PostgreSQL reads the values by the columns' types, so that a number keeps
// its digits in a numeric and an object becomes a jsonb. All rows go in one
// transaction; where one is refused, the others go in without it.
func (s *Store) Insert(ctx context.Context, table, idColumn string, rows []Row) []error {
	errs := make([]error, len(rows))
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	groups, order := map[string][]int{}, []string{} // rows by their columns
	for i := range rows {
		columns, err := columnsOf(rows[i].Object, idColumn)
		if err != nil {
			errs[i] = err
			continue
		}
		if groups[columns] == nil {
			order = append(order, columns)
		}
		groups[columns] = append(groups[columns], i)
	}
	for _, columns := range order {
		s.insert(ctx, statement(table, columns, idColumn), idColumn, rows, groups[columns], errs)
	}
	return errs
}

// insert inserts those rows of all that of names. If they are refused together each
// is tried alone.
func (s *Store) insert(ctx context.Context, sql, idColumn string, all []Row, of []int, errs []error) {
	err := s.exec(ctx, sql, idColumn, all, of)
	if err == nil {
		return
	}
	if len(of) == 1 || !refused(err) {
		for _, i := range of {
			errs[i] = err
		}
		return
	}
	half := len(of) / 2
	s.insert(ctx, sql, idColumn, all, of[:half], errs)
	s.insert(ctx, sql, idColumn, all, of[half:], errs)
}

func (s *Store) exec(ctx context.Context, sql, idColumn string, all []Row, of []int) error {
	doc := []byte{'['}
	for n, i := range of {
		if n > 0 {
			doc = append(doc, ',')
		}
		object := slices.Clone(all[i].Object)
		if idColumn != "" { // the last of two members of one name counts
			name, _ := json.Marshal(idColumn)
			id, _ := json.Marshal(all[i].ID)
			end := strings.LastIndexByte(string(object), '}')
			comma := ","
			if strings.TrimSpace(string(object[:end])) == "{" {
				comma = ""
			}
			object = fmt.Appendf(object[:end], "%s%s:%s}", comma, name, id)
		}
		doc = append(doc, object...)
	}
	_, err := s.pool.Exec(ctx, sql, string(append(doc, ']')))
	return err
}

// columnsOf returns the columns of an object, quoted, with commas between.
func columnsOf(object json.RawMessage, idColumn string) (string, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil || members == nil {
		return "", fmt.Errorf("%w: want a JSON object", errObject)
	}
	if idColumn != "" {
		members[idColumn] = nil
	}
	if len(members) == 0 {
		return "", fmt.Errorf("%w: the object has no members", errObject)
	}
	names := slices.Sorted(maps.Keys(members))
	for i, name := range names {
		if err := warehouse.CheckName(name); err != nil {
			return "", fmt.Errorf("%w: column %w", errObject, err)
		}
		names[i] = pgx.Identifier{name}.Sanitize()
	}
	return strings.Join(names, ", "), nil
}

// statement inserts into table what its one parameter, a JSON array, has.
func statement(table, columns, idColumn string) string {
	name := pgx.Identifier(strings.Split(table, ".")).Sanitize()
	sql := fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM jsonb_populate_recordset(NULL::%s, $1::jsonb)",
		name, columns, columns, name)
	if idColumn != "" {
		sql += fmt.Sprintf(" ON CONFLICT (%s) DO NOTHING", pgx.Identifier{idColumn}.Sanitize())
	}
	return sql
}

// refused says whether the database would not have what it was sent: a wrong value
// (class 22), a broken constraint (23), or no such table, column, index or right
// (42; PostgreSQL, appendix A).
func refused(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (strings.HasPrefix(e.Code, "22") || strings.HasPrefix(e.Code, "23") || strings.HasPrefix(e.Code, "42"))
}

// Missing says whether a table or its schema is not there.
func Missing(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (e.Code == "42P01" || e.Code == "3F000")
}

// Make makes a table SCHEMA.TABLE, and its schema, with such columns, unless they are
// there.
func (s *Store) Make(ctx context.Context, table, columns string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	name := pgx.Identifier(strings.Split(table, "."))
	if len(name) > 1 {
		if _, err := s.pool.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+name[:1].Sanitize()); err != nil {
			return err
		}
	}
	_, err := s.pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS "+name.Sanitize()+" ("+columns+")")
	return err
}

// Permanent says whether an error of Insert comes again with the same row.
func Permanent(err error) bool { return errors.Is(err, errObject) || refused(err) }
