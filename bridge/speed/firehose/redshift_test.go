package firehose

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/bridge/speed/sink/warehouse"
	"github.com/tidemill/tidemill/deploy/await"
	"github.com/tidemill/tidemill/deploy/counterpart"
)

func TestCopyOptions(t *testing.T) {
	for text, want := range map[string]copyOptions{
		"":                                {delimiter: '|'},
		"json 'auto' gzip":                {json: true, gzip: true, delimiter: '|'},
		"FORMAT AS CSV":                   {delimiter: ','},
		`CSV DELIMITER AS ';'`:            {delimiter: ';'},
		`delimiter '\t'`:                  {delimiter: '\t'},
		"JSON 's3://bucket/paths.json'":   {json: true, delimiter: '|', paths: "s3://bucket/paths.json"},
		"JSON AS 'auto ignorecase'":       {json: true, delimiter: '|', fold: true},
		"CSV QUOTE AS '%' IGNOREHEADER 1": {delimiter: ',', text: warehouse.Text{CSV: true, Quote: '%', Header: 1}},
		`DELIMITER '\001' NULL AS 'it''s' ESCAPE`: {delimiter: 1,
			text: warehouse.Text{Escape: true, Null: "it's"}},
		"removequotes acceptinvchars as '^' " +
			"fillrecord trimblanks blanksasnull ignoreblanklines": {delimiter: '|',
			text: warehouse.Text{RemoveQuotes: true, Invalid: '^', Fill: true, Trim: true, Blanks: true,
				SkipBlank: true, Backslash: true}},
		"EMPTYASNULL ROUNDEC EXPLICIT_IDS COMPUPDATE OFF STATUPDATE ON COMPROWS 1000 " +
			"TIMEFORMAT 'auto' DATEFORMAT AS 'YYYY-MM-DD' ENCODING UTF8": {
			delimiter: '|'},
		"CSV ESCAPE":                      {},
		"JSON ESCAPE":                     {},
		"JSON 'noshred'":                  {},
		"JSON 's3://bucket'":              {},
		"NULL 5":                          {},
		"IGNOREHEADER x":                  {},
		"CSV QUOTE ','":                   {},
		"DELIMITER":                       {},
		"DELIMITER ','; DROP TABLE x; --": {},
		"DELIMITER 'ab'":                  {},
	} {
		got, err := parseCopy(text)
		if want == (copyOptions{}) {
			if err == nil {
				t.Errorf("%q: %+v", text, got)
			}
		} else if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}

// All options that PostgreSQL does not have are told together, by name.
func TestCopyOptionsRefused(t *testing.T) {
	_, err := parseCopy("MAXERROR 5 TIMEFORMAT 'epochsecs' TRUNCATECOLUMNS BZIP2 FIXEDWIDTH '0:3' ENCODING UTF16 CSV")
	const want = "CopyCommand.CopyOptions: MAXERROR 5, TIMEFORMAT epochsecs, TRUNCATECOLUMNS, BZIP2, FIXEDWIDTH 0:3, " +
		"ENCODING UTF16: is not served by PostgreSQL"
	if !errors.Is(err, errNotServed) || err.Error() != want {
		t.Error(err)
	}
}

func FuzzCopyOptions(f *testing.F) {
	f.Add("CSV QUOTE AS '%' NULL AS 'it''s'")
	f.Add(`DELIMITER '\001' JSON 's3://b/k'`)
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseCopy(text)
		if err == nil && (o.delimiter == 0 || o.delimiter > '~' || o.delimiter == '\n' || o.delimiter == o.text.Quote) {
			t.Fatalf("%q: %+v", text, o)
		}
	})
}

// database returns a connection to PostgreSQL, and its URL.
func database(t *testing.T) (conn *pgx.Conn, u *url.URL) {
	t.Helper()
	address, passwordFile := counterpart.PostgreSQL(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	password, err := os.ReadFile(passwordFile)
	if err != nil {
		t.Fatal(err)
	}
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	config.Password = strings.TrimSpace(string(password))
	if conn, err = pgx.ConnectConfig(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn, u
}

// Objects are loaded into PostgreSQL, each once; what cannot be loaded is in a
// manifest, and is loaded when it is driven again.
func TestWarehouseDestination(t *testing.T) {
	conn, u := database(t)
	config := conn.Config()
	run := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	rows := func() (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM readings").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	run("CREATE TABLE readings (n int, device text)")
	k := &bucket{objects: map[string][]byte{}}
	k.fail = func(n int) error { // what was written is written again
		if n == 1 {
			return errors.New("the answer was lost")
		}
		return nil
	}
	b := newBench(t, fmt.Sprintf(`{"DeliveryStreamName": "d", "RedshiftDestinationConfiguration": {
	  "ClusterJDBCURL": "jdbc:postgresql://%s/%s?sslmode=disable", "Username": %q, "Password": %q,
	  "CopyCommand": {"DataTableName": "readings", "DataTableColumns": "n, device", "CopyOptions": "JSON 'auto' GZIP"},
	  "RetryOptions": {"DurationInSeconds": 1}, "S3Configuration": {"BucketARN": "arn:aws:s3:::load",
	    "CompressionFormat": "GZIP", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}}}}`, u.Host,
		strings.TrimPrefix(u.Path, "/"), u.User.Username(), config.Password), nil, k)
	defer b.stop()
	put(t, b.store, "d", `{"n":1,"device":"a"}`, `{"n":2,"device":"b"}`)
	await.True(t, "two rows", func() bool { return rows() == 2 })
	put(t, b.store, "d", `{"n":"none"}`, `{"n":3}`)
	await.True(t, "a manifest", func() bool { return len(b.failed(t)) == 1 })
	run("ALTER TABLE readings RENAME TO away")
	put(t, b.store, "d", `{"n":4}`)
	await.True(t, "another one", func() bool { return len(b.failed(t)) == 2 })
	run("ALTER TABLE away RENAME TO readings")
	all := b.failed(t)
	if all[1].Type != manifestType || !strings.HasPrefix(all[1].Key, "errors/manifests/") || all[1].Error == "" {
		t.Errorf("%+v", all[1])
	}
	if err := b.Redrive(t.Context(), "d", []string{all[1].ID}, func(Redriven) {}); err != nil || rows() != 3 {
		t.Errorf("driven again: %v, %d rows", err, rows())
	}
	run("ALTER TABLE readings ALTER n TYPE text")
	if err := b.Redrive(t.Context(), "d", nil, func(Redriven) {}); err != nil || rows() != 5 || len(b.failed(t)) != 0 {
		t.Errorf("driven again: %v, %d rows, %+v", err, rows(), b.failed(t))
	}
	var files []string
	found, err := conn.Query(t.Context(), "SELECT file_name FROM tidemill_files")
	if err == nil {
		files, err = pgx.CollectRows(found, pgx.RowTo[string])
	}
	if err != nil || len(files) != 3 || len(slices.Compact(files)) != 3 {
		t.Errorf("%q, %v", files, err)
	}
}

// Options of COPY do at PostgreSQL what they do at Redshift.
func TestCopyOptionsAtPostgreSQL(t *testing.T) {
	conn, u := database(t)
	config := conn.Config()
	for name, c := range map[string]struct{ options, columns, in, want string }{
		"escape": {`DELIMITER ';' ESCAPE IGNOREHEADER 1 ACCEPTINVCHARS FILLRECORD`, "n, a, b",
			"n;a;b\n1;x\\;\\\\\xff;\\N\n2\n", `(1,"x;\\?",)(2,,)`},
		"csv":   {"CSV NULL AS '-' BLANKSASNULL TRIMBLANKS", "", "1,\"\"\"q\"\"\", \n2,-,b  \n", `(1,"""q""",)(2,,b)`},
		"paths": {"JSON 's3://load/paths.json'", "", `{"in":{"n":1},"l":["x","y"]}{"in":{"n":2}}`, `(1,y,)(2,,)`},
		"fold":  {"JSON 'auto ignorecase'", "n, a", `{"N":1,"A":"x"}`, `(1,x,)`},
	} {
		t.Run(name, func(t *testing.T) {
			table := "options_" + name
			if _, err := conn.Exec(t.Context(), "CREATE TABLE "+table+" (n int, a text, b text)"); err != nil {
				t.Fatal(err)
			}
			k := &bucket{objects: map[string][]byte{
				"load/paths.json": []byte(`{"jsonpaths":["$.in.n","$['l'][1]","$.none"]}`)}}
			b := newBench(t, fmt.Sprintf(`{"DeliveryStreamName": "d", "RedshiftDestinationConfiguration": {
			  "ClusterJDBCURL": "jdbc:postgresql://%s/%s?sslmode=disable", "Username": %q, "Password": %q,
			  "CopyCommand": {"DataTableName": %q, "DataTableColumns": %q, "CopyOptions": %q},
			  "S3Configuration": {"BucketARN": "arn:aws:s3:::load", "Prefix": "%s/",
			    "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}}}}`, u.Host, strings.TrimPrefix(u.Path, "/"),
				u.User.Username(), config.Password, table, c.columns, c.options, name), nil, k)
			defer b.stop()
			put(t, b.store, "d", c.in)
			got := ""
			await.True(t, "the rows", func() bool {
				if all := b.failed(t); len(all) > 0 {
					t.Fatalf("%+v", all)
				}
				if i, err := b.Info("d"); err != nil || i.LastError != "" {
					t.Fatalf("%s, %v", i.LastError, err)
				}
				found, err := conn.Query(t.Context(), "SELECT t::text FROM "+table+" t ORDER BY n")
				if err != nil {
					t.Fatal(err)
				}
				lines, err := pgx.CollectRows(found, pgx.RowTo[string])
				got = strings.Join(lines, "")
				return err == nil && got != ""
			})
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// Redshift is told to COPY what a manifest names, in the words of the delivery stream;
// what it does not load in the window is skipped and in a manifest under errors/, and
// loaded when that is driven again. A stand-in takes its place.
func TestRedshift(t *testing.T) {
	k := &bucket{objects: map[string][]byte{}}
	r := &redshiftStandIn{t: t, objects: k, files: map[string]bool{}}
	r.fail = func(n int) string {
		switch n {
		case 1:
			return "S3ServiceException: slow down"
		case 3:
			return "Load into table 'readings' failed. Check 'stl_load_errors' system table for details."
		}
		return ""
	}
	b := newBench(t, fmt.Sprintf(`{"DeliveryStreamName": "d", "RedshiftDestinationConfiguration": {
	  "RoleARN": "arn:aws:iam::123456789012:role/load", "ClusterJDBCURL": "jdbc:redshift://%s/dev?sslmode=disable",
	  "Username": "u", "Password": "hidden-pw", "CopyCommand": {"DataTableName": "public.readings",
	  "DataTableColumns": "n, device", "CopyOptions": "JSON 's3://paths/p.json' MAXERROR 3 DATEFORMAT 'auto'"},
	  "RetryOptions": {"DurationInSeconds": 7200}, "S3Configuration": {"BucketARN": "arn:aws:s3:::load",
	    "Prefix": "in/", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0}}}}`, r.listen()), nil, k)
	defer b.stop()
	loaded := func() int {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.loaded)
	}
	put(t, b.store, "d", `{"n":1,"device":"a"}`)
	await.True(t, "an object that is loaded", func() bool { return loaded() == 1 })
	put(t, b.store, "d", `{"n":"none"}`)
	await.True(t, "a manifest", func() bool { return len(b.failed(t)) == 1 })
	f := b.failed(t)[0]
	if f.Type != manifestType || !strings.HasPrefix(f.Key, "errors/manifests/") || f.Records != 1 ||
		!strings.Contains(f.Error, "stl_load_errors") {
		t.Errorf("%+v", f)
	}
	err := b.Redrive(t.Context(), "d", nil, func(Redriven) {})
	if err != nil || loaded() != 2 || len(b.failed(t)) != 0 {
		t.Errorf("driven again: %v, %d loaded", err, loaded())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, sql := range r.copies {
		before, rest, _ := strings.Cut(sql, "'s3://load/manifests/")
		_, after, _ := strings.Cut(rest, "'")
		if before != `COPY "public"."readings" ("n", "device") FROM ` || after !=
			` CREDENTIALS 'aws_iam_role=arn:aws:iam::123456789012:role/load' MANIFEST `+
				`JSON 's3://paths/p.json' MAXERROR 3 DATEFORMAT 'auto'` {
			t.Errorf("%s", sql)
		}
	}
	if len(r.copies) != 4 || len(r.files) != 2 || r.loaded[0] == r.loaded[1] {
		t.Errorf("%q, %q", r.copies, r.loaded)
	}
}

// Options that Redshift gets as they are end no statement.
func TestRedshiftOptions(t *testing.T) {
	for text, want := range map[string]bool{"MAXERROR 3": true, "NULL AS ';'": true, "x; DROP TABLE t": false,
		"x --": false, "/* x": false, "'open": false, `"x"`: false, "a\x00": false,
		`NULL AS '\'; DROP TABLE t --'`: false, `'a\''; x '`: false, `NULL AS '\N'`: true, `'it''s'`: true} {
		if err := checkCopy(text); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}
