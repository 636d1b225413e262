package warehouse

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

func TestCopyStatements(t *testing.T) {
	o := Options{Table: `s.t"x`, Columns: []string{"a", `b"; DROP`}, Delimiter: '\'', Bucket: "archive",
		IAMRole: "arn:aws:iam::123456789012:role/load"}
	csv, auto := New(o), o
	auto.JSON, auto.Gzip, auto.Region, auto.IAMRole, auto.Columns = true, true, "eu-west-1", "default", nil
	for _, c := range []struct{ got, want string }{
		{csv.copyIn(), `COPY "s"."t""x" ("a", "b""; DROP") FROM STDIN WITH (FORMAT csv, DELIMITER '''')`},
		{csv.copyStatement("manifests/1-2"),
			`COPY "s"."t""x" ("a", "b""; DROP") FROM 's3://archive/manifests/1-2' IAM_ROLE ` +
				`'arn:aws:iam::123456789012:role/load' FORMAT AS CSV DELIMITER '''' TIMEFORMAT 'auto' MANIFEST`},
		{New(auto).copyStatement("manifests/1-2"),
			`COPY "s"."t""x" FROM 's3://archive/manifests/1-2' IAM_ROLE default FORMAT AS JSON 'auto' REGION ` +
				`'eu-west-1' GZIP TIMEFORMAT 'auto' MANIFEST`},
		{New(Options{Files: "f"}).query(2), `SELECT "file_name" FROM "f" WHERE "file_name" IN ($1, $2)`},
		{New(Options{Files: "s.f"}).insert(2), `INSERT INTO "s"."f" ("file_name") VALUES ($1), ($2)`},
	} {
		if c.got != c.want {
			t.Errorf("got  %s\nwant %s", c.got, c.want)
		}
	}
}

func TestBad(t *testing.T) {
	for _, c := range []struct {
		err       error
		bad, ever bool
	}{
		{nil, false, false},
		{errors.New("connection reset"), false, false},
		{fmt.Errorf("x: %w", sink.ErrNotFound), true, false},
		{fmt.Errorf("x: %w", errContent), true, true},
		{&pgconn.PgError{Code: "22P02"}, true, true},
		{&pgconn.PgError{Code: "23502"}, true, true},
		{&pgconn.PgError{Code: "42P01", Message: "no such table"}, false, false},
		{&pgconn.PgError{Code: "XX000", Message: "Load into table 'r' failed. Check 'stl_load_errors' system table for details."},
			true, true},
		{&pgconn.PgError{Code: "XX000", Message: "S3ServiceException: Access Denied"}, false, false},
	} {
		if bad, ever := Bad(c.err); bad != c.bad || ever != c.ever {
			t.Errorf("%v: %v, %v", c.err, bad, ever)
		}
	}
}

func TestRows(t *testing.T) {
	for _, c := range []struct{ in, want, err string }{
		{"", "", ""},
		{`{"a":1.50,"b":"x"}{"b":null}` + "\n" + `{"a":true,"b":"say \"hi\"\n","c":0}`,
			"1.50,\"x\"\n,\ntrue,\"say \"\"hi\"\"\n\"\n", ""},
		{`{"a":{"k": [1, "é"]},"b":""}`, `"{""k"":[1,""é""]}",""` + "\n", ""},
		{`{"a":1}[2]`, "1,\n", "object 1: want a JSON object"},
		{`{"a":1`, "", "object 0"},
	} {
		r := newRows(io.NopCloser(strings.NewReader(c.in)), []string{"a", "b"})
		got, err := io.ReadAll(iotest.OneByteReader(r))
		if string(got) != c.want || (err == nil) != (c.err == "") || err != nil &&
			(!strings.Contains(err.Error(), c.err) || !errors.Is(err, errContent)) {
			t.Errorf("%s: %q, %v", c.in, got, err)
		}
	}
}

// FuzzRows: a reader of CSV finds the strings of each object, field by field.
func FuzzRows(f *testing.F) {
	f.Add([]byte(`{"a":"x,\n\"","b":1}{"a":"\\."}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var lines bytes.Buffer
		if _, err := io.Copy(&lines, newRows(io.NopCloser(bytes.NewReader(in)), []string{"a", "b"})); err != nil {
			return
		}
		// encoding/csv passes over a return before a line break, within quotes too.
		if bytes.ContainsRune(lines.Bytes(), '\r') {
			return
		}
		records, err := csv.NewReader(&lines).ReadAll()
		if err != nil {
			t.Fatalf("%q: %v", in, err)
		}
		dec := json.NewDecoder(bytes.NewReader(in))
		for _, r := range records {
			var object map[string]any
			if err := dec.Decode(&object); err != nil || len(r) != 2 {
				t.Fatalf("%q: %q, %v", in, r, err)
			}
			if s, ok := object["a"].(string); ok && s != r[0] {
				t.Fatalf("%q: %q, want %q", in, r[0], s)
			}
		}
		if err := dec.Decode(new(any)); err != io.EOF {
			t.Fatalf("%q: %d records, and then %v", in, len(records), err)
		}
	})
}

func TestCheckNames(t *testing.T) {
	for name, want := range map[string]bool{"t": true, "s.t": true, `we"ird name`: true, "": false, "a.b.c": false,
		"a.": false, "a\x00": false, strings.Repeat("n", 128): false} {
		if err := CheckTable(name); (err == nil) != want {
			t.Errorf("%q: %v", name, err)
		}
	}
}
