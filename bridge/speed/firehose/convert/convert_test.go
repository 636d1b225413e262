package convert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

var openX = JSON{OpenX: true, CaseInsensitive: true}

var standard = Parquet{Block: 64 << 20, Page: 1 << 20, Compression: "SNAPPY"}

// table makes one of columns such as "a int".
func table(t testing.TB, columns ...string) *Table {
	t.Helper()
	tb := &Table{Database: "d", Name: "t"}
	for _, c := range columns {
		name, typ, _ := strings.Cut(c, " ")
		p, err := parseType(typ)
		if err != nil {
			t.Fatal(err)
		}
		tb.Columns = append(tb.Columns, Column{name, p})
	}
	return tb
}

// written converts records and returns the file and each record's failure.
func written(t testing.TB, tb *Table, j JSON, p Parquet, records ...string) ([]byte, []*Failure) {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, tb, j, p)
	var failures []*Failure
	for _, r := range records {
		f, err := w.Add([]byte(r))
		if err != nil {
			t.Fatal(err)
		}
		failures = append(failures, f)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), failures
}

// read returns the rows of a file as JSON, by parquet-go's reader.
func read(t testing.TB, file []byte) (rows []string) {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	r := parquet.NewGenericReader[any](f)
	defer r.Close()
	for {
		row := make([]any, 1)
		n, err := r.Read(row)
		if n == 1 {
			raw, err := json.Marshal(row[0])
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, string(raw))
		}
		if err == io.EOF {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Each case is one record; want is the row, or - and a part of the failure.
func TestValues(t *testing.T) {
	hive := JSON{CaseInsensitive: true}
	for _, c := range []struct {
		j             JSON
		typ, in, want string
	}{
		{openX, "string", `"x"`, `"x"`},
		{openX, "string", `"\u00e4\n\"\ud83d\ude00\ud800"`, `"ä\n\"😀` + "\ufffd" + `"`},
		{openX, "string", `12.50`, `"12.50"`},
		{openX, "string", `{"a": [1]}`, `"{\"a\": [1]}"`},
		{openX, "string", `true`, `"true"`},
		{openX, "string", "\"\xff\"", "-ParseError"},
		{openX, "string", `"\x"`, "-ParseError"},
		{openX, "string", "\"a\tb\"", "-ParseError"},
		{openX, "varchar(3)", `"äöü"`, `"äöü"`},
		{openX, "varchar(3)", `"abcd"`, "-at most 3"},
		{openX, "boolean", `true`, `true`},
		{openX, "boolean", `"false"`, `false`},
		{hive, "boolean", `"false"`, "-true or false"},
		{openX, "boolean", `1`, "-true or false"},
		{openX, "int", `-12`, `-12`},
		{openX, "int", `"12"`, `12`},
		{hive, "int", `"12"`, "-whole number"},
		{openX, "int", `1.5`, "-whole number"},
		{openX, "int", `1e3`, `1000`},
		{openX, "int", `2147483648`, "-32 bits"},
		{openX, "tinyint", `-128`, `-128`},
		{openX, "tinyint", `128`, "-8 bits"},
		{openX, "smallint", `32767`, `32767`},
		{openX, "bigint", `9223372036854775807`, `9223372036854775807`},
		{openX, "bigint", `-9223372036854775808`, `-9223372036854775808`},
		{openX, "bigint", `9223372036854775808`, "-64 bits"},
		{openX, "int", `01`, "-ParseError"},
		{openX, "double", `0.1`, `0.1`},
		{openX, "double", `123456789012345678`, `123456789012345680`},
		{openX, "double", `-1.5e-3`, `-0.0015`},
		{openX, "double", `1e400`, "-a number"},
		{openX, "double", `"NaN"`, "-a number"},
		{openX, "double", `"."`, "-a number"},
		{openX, "float", `0.5`, `0.5`},
		{openX, "decimal(5,2)", `123.455`, `123.46`},
		{openX, "decimal(5,2)", `-0.005`, `-0.01`},
		{openX, "decimal(5,2)", `1000`, "-5 digits"},
		{openX, "decimal(15,3)", `"123456789012.345"`, `123456789012.345`},
		{openX, "decimal(5,2)", `1e-999999999`, "-5 digits"},
		{openX, "date", `"2026-03-01"`, `20513`},
		{openX, "date", `"2026-02-30"`, "-date"},
		{openX, "date", `20513`, "-date"},
		{openX, "timestamp", `"2026-03-01T00:00:00.123456Z"`, `1772323200123456`},
		{openX, "timestamp", `"2026-03-01T01:00:00+01:00"`, `1772323200000000`},
		{openX, "timestamp", `"2026-03-01 00:00:00.5"`, `1772323200500000`},
		{openX, "timestamp", `1772323200`, `1772323200000000`},
		{openX, "timestamp", `1772323200123`, `1772323200123000`},
		{openX, "timestamp", `1772323200.5`, `1772323200500000`},
		{openX, "timestamp", `"soon"`, "-a time"},
		{hive, "timestamp", `"2026-03-01 00:00:00"`, `1772323200000000`},
		{hive, "timestamp", `1772323200123`, "-a time"},
		{JSON{Timestamps: []string{"dd.MM.yyyy HH:mm", "millis"}}, "timestamp", `"01.03.2026 00:00"`, `1772323200000000`},
		{JSON{Timestamps: []string{"dd.MM.yyyy HH:mm", "millis"}}, "timestamp", `1772323200123`, `1772323200123000`},
		{openX, "binary", `"QUI="`, `"AB"`},
		{openX, "binary", `"!"`, "-base64"},
		{openX, "array<int>", `[1,null,3]`, `[1,null,3]`},
		{openX, "array<int>", `[]`, `[]`},
		{openX, "array<int>", `{}`, "-a list"},
		{openX, "array<array<string>>", `[["a"],[],null,["b","c"]]`, `[["a"],[],null,["b","c"]]`},
		{openX, "map<string,int>", `{"a":1,"b":null}`, `{"a":1,"b":null}`},
		{openX, "map<string,int>", `{}`, `{}`},
		{openX, "struct<a:int,b:struct<c:string>>", `{"B":{"c":"x"},"z":[{}]}`, `{"a":null,"b":{"c":"x"}}`},
		{openX, "struct<a:int>", `[]`, "-an object"},
		{openX, "array<struct<a:int,b:array<int>>>", `[{"b":[1,2]},{"a":3}]`, `[{"a":null,"b":[1,2]},{"a":3,"b":null}]`},
		{openX, "int", `null`, `null`},
		{openX, "int", `nul`, "-ParseError"},
		{openX, "int", `1,"c":2`, "-twice"},
		{openX, "int", `1,"x":` + strings.Repeat("[", 600) + strings.Repeat("]", 600), "-ParseError"},
		{openX, "int", `1,"x":[1,2`, "-ParseError"},
		{openX, "int", `1,"x":{"a":tru}`, "-ParseError"},
	} {
		record := `{"c":` + c.in + `}`
		file, failures := written(t, table(t, "c "+c.typ), c.j, standard, record)
		if f := failures[0]; f != nil {
			if part, ok := strings.CutPrefix(c.want, "-"); !ok || !strings.Contains(f.Code+" "+f.Message, part) {
				t.Errorf("%s of %.60s: %+v, want %s", c.typ, c.in, f, c.want)
			}
			continue
		}
		rows := read(t, file)
		if want := `{"c":` + c.want + `}`; len(rows) != 1 || !sameJSON(rows[0], want) {
			t.Errorf("%s of %s: %s, want %s", c.typ, c.in, rows, want)
		}
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

func TestNames(t *testing.T) {
	for name, c := range map[string]struct {
		j    JSON
		in   string
		want string
	}{
		"case":      {openX, `{"A_B":1,"ÄÖ":2}`, `{"a_b":1,"äö":2}`},
		"case kept": {JSON{OpenX: true}, `{"A_B":1,"äö":2}`, `{"a_b":null,"äö":2}`},
		"dots":      {JSON{OpenX: true, Dots: true, CaseInsensitive: true}, `{"A.b":1,"ÄÖ":2}`, `{"a_b":1,"äö":2}`},
		"no dots":   {openX, `{"a.b":1}`, `{"a_b":null,"äö":null}`},
		"mapped": {JSON{OpenX: true, CaseInsensitive: true, Keys: map[string]string{"a_b": "Time"}},
			`{"TIME":1,"a_b":9}`, `{"a_b":1,"äö":null}`},
		"escaped":    {openX, `{"\u0041_b":1}`, `{"a_b":1,"äö":null}`},
		"of several": {openX, "{\"a_b\":1} \n", `{"a_b":1,"äö":null}`},
	} {
		file, failures := written(t, table(t, "a_b int", "äö int"), c.j, standard, c.in)
		if rows := read(t, file); failures[0] != nil || len(rows) != 1 || !sameJSON(rows[0], c.want) {
			t.Errorf("%s: %s, %+v, want %s", name, rows, failures[0], c.want)
		}
	}
}

// A record that fails leaves nothing of itself, whatever came of it before.
func TestRecordsFailWhole(t *testing.T) {
	tb := table(t, "a int", "b array<string>")
	file, failures := written(t, tb, openX, standard, `{"a":1,"b":["x"]}{"a":2}`, `{"a":3,"b":["y","z"]}{"a":"no"}`, `[1]`, "", " ",
		`{"a":4} x`, `{"b":["w"]}`)
	var codes []string
	for _, f := range failures {
		code := "ok"
		if f != nil {
			code = strings.TrimPrefix(f.Code, "DataFormatConversion.")
		}
		codes = append(codes, code)
	}
	if got, want := strings.Join(codes, " "),
		"ok MalformedData MalformedData ParseError ParseError MalformedData ok"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := strings.Join(read(t, file), ""),
		`{"a":1,"b":["x"]}{"a":2,"b":null}{"a":null,"b":["w"]}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// The order of columns is the table's, and the bytes depend on nothing else.
func TestFile(t *testing.T) {
	tb := table(t, "z int", "a string", "m struct<y:int,b:int>")
	for _, p := range []Parquet{standard, {1, 64 << 10, "GZIP", true, true}, {1 << 30, 64 << 10, "UNCOMPRESSED", true,
		false}} {
		var records []string
		for i := range 30_000 {
			records = append(records, fmt.Sprintf(`{"z":%d,"a":"name %d","m":{"b":%d}}`, i, i%100, i))
		}
		file, _ := written(t, tb, openX, p, records...)
		again, _ := written(t, tb, openX, p, records...)
		if !bytes.Equal(file, again) {
			t.Errorf("%+v: other bytes the second time", p)
		}
		f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range f.Schema().Columns() {
			names = append(names, strings.Join(c, "."))
		}
		if got := strings.Join(names, " "); got != "z a m.y m.b" {
			t.Errorf("columns %s", got)
		}
		blocks := len(f.RowGroups())
		if f.NumRows() != 30_000 || (blocks > 1) != (p.Block == 1) {
			t.Errorf("%+v: %d rows in %d blocks", p, f.NumRows(), blocks)
		}
	}
}

func TestTable(t *testing.T) {
	tb, err := ParseTable([]byte(`{"Table":{"Name":"t","DatabaseName":"d","VersionId":"3","CreateTime":1,"StorageDescriptor":{
	  "Columns":[{"Name":"ID","Type":"bigint","Comment":"x"},{"Name":"v","Type":"array<struct<a:decimal(20,2), b:map<string,double>>>"}],
	  "Location":"s3://x"}}}`))
	if err != nil || tb.Database != "d" || tb.Name != "t" || tb.VersionID != "3" || len(tb.Columns) != 2 ||
		tb.Columns[0].Name != "id" || tb.Columns[1].Type.Elem.Fields[1].Type.Elem.Kind != Double {
		t.Fatalf("%+v, %v", tb, err)
	}
	for _, bad := range []string{``, `{}`, `{"Name":"t","DatabaseName":"d"}`, `{"Name":"t","DatabaseName":"d",` +
		`"StorageDescriptor":{"Columns":[{"Name":"a","Type":"uniontype<int>"}]}}`,
		`{"Name":"t","DatabaseName":"d","StorageDescriptor":{"Columns":[{"Name":"a","Type":"int"},{"Name":"A","Type":"int"}]}}`} {
		if _, err := ParseTable([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
	for _, bad := range []string{"", "interval", "array", "array<", "array<int", "array<int>>", "map<int>",
		"map<array<int>,int>", "struct<>",
		"struct<a>", "struct<a:int,a:int>", "decimal(39,1)", "decimal(3,4)", "decimal(x)", "varchar", "char(0)", "int(3)",
		strings.Repeat("array<", 30) + "int" + strings.Repeat(">", 30)} {
		if _, err := parseType(bad); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

// Another reader makes the same of all types.
func TestOtherReader(t *testing.T) {
	python := counterpart.DuckDB(t)
	tb := table(t, "b boolean", "i8 tinyint", "i64 bigint", "f float", "d double", "n decimal(20,3)", "m decimal(9,2)", "s string",
		"x binary", "day date", "at timestamp", "l array<int>", "o map<int,int>", "r struct<a:int,b:array<string>>")
	file, failures := written(t, tb, openX, standard, `{"b":true,"i8":-5,"i64":9007199254740993,"f":0.5,"d":0.1,"n":-12345678901234567.891,
	  "m":1.25,"s":"Grüße","x":"AQI=","day":"2026-03-01","at":"2026-03-01T00:00:00.5Z","l":[1,null,3],"o":{"5":7},"r":{"b":["p","q"]}}`,
		`{}`)
	if failures[0] != nil || failures[1] != nil {
		t.Fatalf("%+v", failures)
	}
	path := filepath.Join(t.TempDir(), "t.parquet")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(python, "-c", `
import duckdb, sys
for row in duckdb.sql("select * from read_parquet('%s')" % sys.argv[1]).fetchall(): print(row)
print([t for _, t,
	*_ in duckdb.sql("describe select * from read_parquet('%s')" % sys.argv[1]).fetchall()])`, path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := `(True, -5, 9007199254740993, 0.5, 0.1, Decimal('-12345678901234567.891'), Decimal('1.25'), 'Grüße', b'\x01\x02', ` +
		`datetime.date(2026, 3, 1), datetime.datetime(2026, 3, 1, 0, 0, 0, 500000), [1, None, 3], {5: 7}, {'a': None, 'b': ['p', 'q']})
(None, None, None, None, None, None, None, None, None, None, None, None, None, None)
['BOOLEAN', 'TINYINT', 'BIGINT', 'FLOAT', 'DOUBLE', 'DECIMAL(20,3)', 'DECIMAL(9,2)', 'VARCHAR', 'BLOB', 'DATE', 'TIMESTAMP', ` +
		`'INTEGER[]', 'MAP(INTEGER, INTEGER)', 'STRUCT(a INTEGER, b VARCHAR[])']
`
	if string(out) != want {
		t.Errorf("%s\nwant\n%s", out, want)
	}
}

// Whatever is added, the file can be read and has its rows.
func FuzzAdd(f *testing.F) {
	f.Add([]byte(`{"a":1,"s":"x","l":[{"m":{"k":1.5}}],"at":"2026-03-01T00:00:00Z"}{"a":2}`))
	f.Add([]byte(`{"A":"1","S":null,"l":[null,{}]}`))
	tb := table(f, "a int", "s string", "l array<struct<m:map<string,double>,n:decimal(30,4)>>", "at timestamp", "b binary")
	f.Fuzz(func(t *testing.T, record []byte) {
		var b bytes.Buffer
		w := NewWriter(&b, tb, openX, standard)
		fail, err := w.Add(record)
		if err != nil {
			t.Fatal(err)
		}
		if fail != nil && (w.Rows() != 0 || fail.Code == "" || fail.Message == "") {
			t.Fatalf("%+v with %d rows", fail, w.Rows())
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if rows := read(t, b.Bytes()); int64(len(rows)) != w.Rows() {
			t.Fatalf("%d rows of %d", len(rows), w.Rows())
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	var records [][]byte
	size := 0
	for i := 0; size < 8<<20; i++ {
		rec := fmt.Appendf(nil, `{"thing":"pi-%04d","ts":%d,"temp":%.2f,"hum":%.1f,"state":"ok"}`+"\n", r.IntN(2000),
			1772366400000+int64(i)*137, 15+r.Float64()*20, 30+r.Float64()*40)
		records = append(records, rec)
		size += len(rec)
	}
	tb := table(b, "thing string", "ts bigint", "temp double", "hum double", "state string")
	run := func(name string, add func(*Writer) error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				w := NewWriter(io.Discard, tb, openX, standard)
				if err := errors.Join(add(w), w.Close()); err != nil || w.Rows() != int64(len(records)) {
					b.Fatal(err)
				}
			}
		})
	}
	run("one by one", func(w *Writer) error {
		for _, rec := range records {
			if f, err := w.Add(rec); f != nil || err != nil {
				return fmt.Errorf("%v, %w", f, err)
			}
		}
		return nil
	})
	run("all", func(w *Writer) error {
		return w.AddAll(len(records), func(i int) []byte { return records[i] }, func(int, *Failure) {})
	})
}

// All at once is one by one: the same rows, the same failures, and the same bytes
// each time.
func TestAddAll(t *testing.T) {
	tb := table(t, "n int", "s string")
	var records []string
	for i := range 40_000 {
		rec := fmt.Sprintf(`{"n":%d,"s":"%s"}`, i, strings.Repeat("x", i%50))
		if i%1000 == 7 {
			rec = `{"n":"none"}`
		}
		records = append(records, rec)
	}
	file, failures := written(t, tb, openX, standard, records...)
	var first []byte
	for range 3 {
		var b bytes.Buffer
		w := NewWriter(&b, tb, openX, standard)
		last, failed := -1, 0
		err := w.AddAll(len(records), func(i int) []byte { return []byte(records[i]) }, func(i int, f *Failure) {
			if failed++; failures[i] == nil || *failures[i] != *f || i <= last {
				t.Errorf("record %d: %+v", i, f)
			}
			last = i
		})
		if err := errors.Join(err, w.Close()); err != nil || failed != 40 || w.Rows() != 40_000-40 {
			t.Fatalf("%v, %d failed, %d rows", err, failed, w.Rows())
		}
		if first == nil {
			first = b.Bytes()
		} else if !bytes.Equal(first, b.Bytes()) {
			t.Error("other bytes the second time")
		}
	}
	if a, b := read(t, file), read(t, first); !slices.Equal(a, b) {
		t.Errorf("%d rows, want %d", len(b), len(a))
	}
}

// Rows is how many rows there are.
func (w *Writer) Rows() int64 { return w.rows + w.parser.rows }
