package faults

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// rows starts the targets and returns the rows of the table.
func rows(t *testing.T, ctx context.Context, c *cloud, nightly bool) (all []*row) {
	all = append(all, cloudRows(t, c)...)
	all = append(all, postgresRows(t, ctx)...)
	all = append(all, webRows(t)...)
	all = append(all, eventRows(t)...)
	all = append(all, alarmRow(t))
	if nightly {
		all = append(all, searchRows(t, ctx)...)
	}
	all = append(all, kafkaRow(t, ctx))
	return all
}

// whole is of targets that do not answer for the parts of a request.
var whole = map[string]string{halfTaken: "a request is taken whole or not"}

// buffering has a delivery stream deliver at once.
const buffering = `"BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":0}`

// keeps is where a delivery stream keeps what it cannot deliver.
func keeps(name string) string {
	return fmt.Sprintf(`"S3Configuration":{"BucketARN":"arn:aws:s3:::kept","ErrorOutputPrefix":"%s/"}`, name)
}

// postgresRows are those at PostgreSQL: a delivery stream that loads by COPY, and
// actions that insert.
func postgresRows(t *testing.T, ctx context.Context) []*row {
	address, passwordFile := counterpart.PostgreSQL(t)
	c, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	password, err := os.ReadFile(passwordFile)
	if err != nil {
		t.Fatal(err)
	}
	c.Password = strings.TrimSpace(string(password))
	db, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.WithoutCancel(ctx)) })
	_, err = db.Exec(ctx, "CREATE TABLE loaded (id int); CREATE TABLE inserted (rid uuid UNIQUE, id int)")
	if err != nil {
		t.Fatal(err)
	}
	has := func(sql string) func() []int {
		return func() []int {
			found, err := db.Query(ctx, sql)
			if err != nil {
				t.Fatal(err)
			}
			all, err := pgx.CollectRows(found, pgx.RowTo[int])
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
	}
	to := fmt.Sprintf("%s:%d", c.Host, c.Port)
	loads, inserts, measures := &meter{}, &meter{}, &meter{}
	copied := newLineGate(t, to, func() protocol { return &postgres{writing: 'Q', text: "commit"} }, loads)
	// The bridge has one database: the gate tells the rows apart by what is written.
	of := map[string]*meter{"inserted": inserts, "measures": measures}
	inserted := newLineGate(t, to, func() protocol { return &postgres{writing: 'E', meters: of} }, inserts, measures)
	return []*row{
		{name: "redshift", once: true, meter: loads, got: has("SELECT id FROM loaded"),
			skip: map[string]string{halfTaken: "COPY takes all or nothing", noAnswer: "an attempt may take 15 minutes"},
			stream: fmt.Sprintf(`"RedshiftDestinationConfiguration":{"ClusterJDBCURL":"jdbc:postgresql://%s/%s?sslmode=disable",
			  "Username":%q,"Password":%q,"CopyCommand":{"DataTableName":"loaded","DataTableColumns":"id",
			  "CopyOptions":"JSON 'auto'"},"RetryOptions":{"DurationInSeconds":WINDOW},
			  "S3Configuration":{"BucketARN":"arn:aws:s3:::load",%s}}`, copied, c.Database, c.User,
				c.Password, buffering)},
		{name: "postgres", once: true, meter: inserts, got: has("SELECT id FROM inserted"),
			skip:   whole,
			action: `{"postgres":{"tableName":"inserted","idColumn":"rid"}}`,
			settings: fmt.Sprintf("[postgres]\nurl = %q\npassword_file = %q\n",
				strings.Replace(address, to, inserted, 1), passwordFile)},
		{name: "timestream", once: true, meter: measures,
			got:    has("SELECT bigint_value FROM plant.measures WHERE measure_name = 'id'"),
			skip:   whole,
			action: `{"timestream":{"databaseName":"plant","tableName":"measures","dimensions":[{"name":"d","value":"x"}]}}`},
	}
}

// gated serves h behind a gate of its own and returns the gate's URL.
func gated(t *testing.T, h http.Handler, m *meter) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return newWebGate(t, s.URL, &lane{meter: m})
}

// webRows are the receivers of HTTP, for which there is no server but what somebody
// writes; Splunk is a strict stand-in.
func webRows(t *testing.T) []*row {
	hook, in, hec := &receiver{}, &receiver{}, &collector{}
	hooks, ins, hecs := &meter{}, &meter{}, &meter{}
	serve := func(h http.Handler, m *meter) string { return gated(t, h, m) }
	return []*row{
		{name: "http", meter: hooks, got: hook.got, skip: whole,
			action: fmt.Sprintf(`{"http":{"url":"%s/hook","enableBatching":true}}`,
				serve(http.HandlerFunc(hook.hook), hooks))},
		{name: "http-endpoint", meter: ins, got: in.got, skip: whole,
			stream: fmt.Sprintf(`"HttpEndpointDestinationConfiguration":{"EndpointConfiguration":{"Url":"%s/in","AccessKey":"k"},
			  "BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":0},"RetryOptions":{"DurationInSeconds":WINDOW},%s}`,
				serve(http.HandlerFunc(in.endpoint), ins), keeps("http-endpoint"))},
		{name: "splunk", meter: hecs, got: hec.got, skip: whole,
			stream: fmt.Sprintf(`"SplunkDestinationConfiguration":{"HECEndpoint":%q,"HECEndpointType":"Raw","HECToken":"token",
			  "HECAcknowledgmentTimeoutInSeconds":180,"BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":0},
			  "RetryOptions":{"DurationInSeconds":WINDOW},%s}`, serve(hec, hecs), keeps("splunk"))},
	}
}
