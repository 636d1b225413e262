package send

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/postgres"
)

// rowsTogether and rowBytes bound one insert.
const (
	rowsTogether = 1000
	rowBytes     = 4 << 20
)

var errNoDatabase = action.Permanent(errors.New("no database is configured: [postgres] url says where it is"))

func addRows(o *Options, add adding) {
	add("postgres", rowsTogether, rowBytes, func(ctx context.Context, ds deliveries) []error {
		if o.Postgres == nil {
			return each(len(ds), errNoDatabase)
		}
		return runs(ds, param("tableName"), rowsTogether, rowBytes, func(run deliveries) []error {
			rows := make([]postgres.Row, len(run))
			for i, d := range run {
				rows[i] = postgres.Row{ID: d.ID, Object: d.Data}
			}
			return o.Postgres.Insert(ctx, run[0].Parameter("tableName"), run[0].Parameter("idColumn"), rows)
		})
	})
	add("timestream", 16, rowBytes, inOrder(func(ctx context.Context, d *action.Delivery) error {
		all, err := action.Measures(d)
		if err != nil {
			return action.Permanent(err)
		}
		database, table := d.Parameter("databaseName"), d.Parameter("tableName")
		switch {
		case o.Measures != nil:
			return o.Measures(ctx, database, table, all)
		case o.Postgres == nil:
			return errNoDatabase
		}
		return writeMeasures(ctx, o.Postgres, database, table, d.ID, all)
	}))
}

// measures are the columns of a table of measures. It is made when the first ones come.
const measures = `id uuid PRIMARY KEY, time timestamptz NOT NULL, dimensions jsonb NOT NULL, measure_name text NOT NULL,
	bigint_value bigint, double_value double precision, boolean_value boolean, varchar_value text`

// columnOf is the column of a measure's type.
var columnOf = map[string]string{"BIGINT": "bigint_value", "DOUBLE": "double_value", "BOOLEAN": "boolean_value",
	"VARCHAR": "varchar_value"}

// writeMeasures inserts measures, each once.
func writeMeasures(ctx context.Context, s *postgres.Store, database, table, id string, all []action.Measure) error {
	name := database + "." + table
	rows := make([]postgres.Row, len(all))
	for i, m := range all {
		dimensions := map[string]string{}
		for _, p := range m.Dimensions {
			dimensions[p.Name] = p.Value
		}
		value := json.RawMessage(m.Value)
		if m.Type == "VARCHAR" {
			value, _ = json.Marshal(m.Value) // of a text
		}
		object, err := json.Marshal(map[string]any{"time": m.At().UTC().Format(time.RFC3339Nano),
			"dimensions": dimensions, "measure_name": m.Name, columnOf[m.Type]: value})
		if err != nil {
			return action.Permanent(err)
		}
		rows[i] = postgres.Row{ID: uuid.NewSHA1(uuid.NameSpaceOID, []byte(id+"/"+m.Name)).String(), Object: object}
	}
	errs := s.Insert(ctx, name, "id", rows)
	if postgres.Missing(errors.Join(errs...)) {
		if err := s.Make(ctx, name, measures); err != nil {
			return err
		}
		errs = s.Insert(ctx, name, "id", rows)
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
