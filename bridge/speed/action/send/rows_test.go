package send

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/postgres"
	"github.com/tidemill/tidemill/deploy/counterpart"
)

// Rows go in once, however often they are sent; the table of measures is made.
func TestRows(t *testing.T) {
	if errs := New(Options{}).Senders()["postgres"].Send(t.Context(), []*action.Delivery{{}}); !permanent(errs[0]) {
		t.Errorf("without a database: %v", errs)
	}
	url, passwordFile := counterpart.PostgreSQL(t)
	c, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	password, err := os.ReadFile(passwordFile)
	if err != nil {
		t.Fatal(err)
	}
	c.Password = strings.TrimSuffix(string(password), "\n")
	store, err := postgres.Open(t.Context(), c, 2)
	if err != nil {
		t.Fatal(err)
	}
	set := New(Options{Postgres: store})
	defer set.Close()
	conn, err := pgx.ConnectConfig(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "CREATE TABLE rows (id text UNIQUE, n int)"); err != nil {
		t.Fatal(err)
	}
	id := func(i int) string { return fmt.Sprintf("00000000-0000-8000-8000-%012d", i) }
	var rows []*action.Delivery
	for i, doc := range []string{`{"n":1}`, `{"n":"x"}`, `{"n":3}`} {
		rows = append(rows, &action.Delivery{ID: id(i), Data: []byte(doc),
			Parameters: []action.Parameter{{Name: "tableName", Value: "rows"}, {Name: "idColumn", Value: "id"}}})
	}
	measures := []*action.Delivery{{ID: id(9), Data: []byte(`{"t":21.5,"n":7,"ok":true,"s":"warm","o":{"a":[1]},"x":null}`),
		Parameters: []action.Parameter{{Name: "databaseName", Value: "plant"}, {Name: "tableName", Value: "readings"},
			{Name: "dimensions/site", Value: "north"}, {Name: "timestamp/value", Value: "1700000000"},
			{Name: "timestamp/unit", Value: "SECONDS"}}}}
	for range 2 {
		errs := set.Senders()["postgres"].Send(t.Context(), rows)
		if errs[0] != nil || !permanent(errs[1]) || errs[2] != nil {
			t.Error(errs)
		}
		if errs := set.Senders()["timestream"].Send(t.Context(), measures); errs[0] != nil {
			t.Error(errs)
		}
	}
	for query, want := range map[string]string{
		"SELECT string_agg(n::text, ' ' ORDER BY n) FROM rows": "1 3",
		`SELECT string_agg(concat_ws(' ', measure_name, bigint_value, double_value, boolean_value, varchar_value), '; '
		   ORDER BY measure_name) FROM plant.readings`: `n 7; o {"a":[1]}; ok t; s warm; t 21.5`,
		"SELECT DISTINCT dimensions->>'site' || extract(epoch FROM time)::bigint FROM plant.readings": "north1700000000",
	} {
		var got string
		if err := conn.QueryRow(t.Context(), query).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", query, got, err, want)
		}
	}
}
