package emit

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

func TestWarehouse(t *testing.T) {
	bucket, objects := s3Server(t)
	url, password := counterpart.PostgreSQL(t)
	db := connect(t, url, password)
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(`CREATE SCHEMA "Plant ""7"""; CREATE TABLE "Plant ""7""".r ("Device" text NOT NULL, c double precision, more jsonb);
		CREATE TABLE files (file_name varchar(1024) PRIMARY KEY, at timestamptz DEFAULT now())`)
	put := func(key, content string) {
		t.Helper()
		if err := objects.Put(t.Context(), "archive", key, func(w io.Writer) error {
			_, err := io.WriteString(w, content)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	rows := func(sql string) (all []string) {
		t.Helper()
		r, err := db.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for r.Next() {
			v, err := r.Values()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprint(v...))
		}
		return all
	}
	table, err := json.Marshal(`Plant "7".r`)
	if err != nil {
		t.Fatal(err)
	}
	common := fmt.Sprintf(`"URL":%q,"Password":{"File":%q},"Table":%s,"FilesTable":"files","Bucket":"archive","EndpointURL":%q`,
		url, password, table, bucket)
	e := newEmitter(t, "Warehouse", Env{}, `{"Dialect":"postgres","Format":"json","Columns":["Device","c","more"],%s}`,
		common)

	put("a", `{"Device":"x, \"y\"\n","c":1.50,"more":{"k":["v"]},"other":1}{"Device":"","c":null}`+"\n")
	put("b", `{"Device":"b","c":-2e3}`)
	same(t, "outcome", outcome(t, e, batch("a", "b", "a")), []string{"", "", ""})
	loaded := []string{`"" <nil> <nil>`, `"b" -2000 <nil>`, `"x, \"y\"\n" 1.5 {"k": ["v"]}`}
	query := `SELECT to_json("Device")::text, c::text, more::text FROM "Plant ""7""".r ORDER BY "Device"`
	check := func() {
		t.Helper()
		got := rows(query)
		same(t, "rows", len(got), len(loaded))
		same(t, "rows", strings.ReplaceAll(strings.Join(got, "|"), " ", ""),
			strings.ReplaceAll(strings.Join(loaded, "|"), " ", ""))
	}
	check()
	same(t, "again", outcome(t, e, batch("a", "b")), []string{"", ""})
	check()

	// One that is wrong, in the middle, and one that is not there.
	put("c", `{"Device":"c"}`)
	put("bad", `{"Device":"d"}{"Device":"d","c":"warm"}`)
	put("torn", `{"Device":"d"}{"Dev`)
	put("e", `{"Device":"e"}`)
	same(t, "some", outcome(t, e, batch("c", "bad", "e", "missing", "torn", "")),
		[]string{"", "never", "", "again", "never", "never"})
	loaded = append(loaded[:2:2], `"c" <nil> <nil>`, `"e" <nil> <nil>`, loaded[2])
	check()
	same(t, "files", rows(`SELECT file_name FROM files ORDER BY 1`), []string{"a", "b", "c", "e"})

	// CSV, in the order of the table, by two at the same time.
	csv := newEmitter(t, "Warehouse", Env{}, `{"Dialect":"postgres","Format":"csv","Delimiter":"|",%s}`, common)
	put("f", "f|1|\n\"g|\"|2|{}\n")
	done := make(chan error, 2)
	for range 2 {
		go func() {
			failed, err := csv.Emit(t.Context(), batch("f"))
			if len(failed) > 0 {
				err = failed[0].Err
			}
			done <- err
		}()
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	same(t, "once", len(rows(`SELECT 1 FROM "Plant ""7""".r`)), 7)

	// PostgreSQL is no Redshift: the manifest is there and nothing else is.
	red := newEmitter(t, "Warehouse", Env{}, `{"Dialect":"redshift","Format":"csv","IAMRole":"default",%s}`, common)
	put("h", "h,1,\n")
	if failed, err := red.Emit(t.Context(), batch("h", "f")); err == nil {
		t.Errorf("COPY MANIFEST was taken: %v", failed)
	}
	same(t, "files", len(rows(`SELECT 1 FROM files WHERE file_name = 'h'`)), 0)
	got, _, err := objects.Get(t.Context(), "archive", "manifests/100-101", 1000)
	same(t, "manifest", string(got), `{"entries":[{"url":"s3://archive/h","mandatory":true}]}`+"\n")
	if err != nil {
		t.Error(err)
	}

	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("hidden"), 0o600); err != nil {
		t.Fatal(err)
	}
	e = newEmitter(t, "Warehouse", Env{},
		`{"Dialect":"postgres","Format":"csv","FilesTable":"files","Table":"r","Bucket":"archive",`+
			`"EndpointURL":%q,"URL":%q,"Password":{"File":%q}}`,
		bucket, url, wrong)
	if _, err := e.Emit(t.Context(), batch("a")); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("a wrong password: %v", err)
	}
}
