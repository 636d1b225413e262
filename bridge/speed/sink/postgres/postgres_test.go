package postgres

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

func TestColumns(t *testing.T) {
	for object, want := range map[string]string{
		`{"b":1,"a":2}`:   `"a", "b", "id"`,
		`{"a\"; drop":1}`: `"a""; drop", "id"`,
		`{}`:              `"id"`,
		`[1]`:             "",
		`null`:            "",
		`7`:               "",
		`{"":1}`:          "",
		`{"` + strings.Repeat("x", 200) + `":true}`: "",
	} {
		if got, err := columnsOf(json.RawMessage(object), "id"); got != want || (err == nil) != (want != "") {
			t.Errorf("%.40s: %s, %v", object, got, err)
		}
	}
	if _, err := columnsOf(json.RawMessage(`{}`), ""); !Permanent(err) {
		t.Errorf("no columns at all: %v", err)
	}
}

func TestInsert(t *testing.T) {
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
	s, err := Open(t.Context(), c, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, sql := range []string{
		`CREATE TABLE readings (id uuid PRIMARY KEY, device text NOT NULL, temp numeric, at timestamptz DEFAULT now(),
		   tags jsonb, list int[])`,
		`CREATE SCHEMA plant`, `CREATE TABLE plant."Odd Name" (device text)`,
	} {
		if _, err := s.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	id := func(n byte) string { return "00000000-0000-8000-8000-00000000000" + string(n) }
	rows := []Row{
		{id('1'), json.RawMessage(`{"device":"pi-1","temp":21.123456789012345678901234567890}`)},
		{id('2'), json.RawMessage(`{"device":"pi-2","tags":{"a":[1]},"list":[1,2],"at":"2026-01-02T03:04:05Z"}`)},
		{id('3'), json.RawMessage(`{"device":null,"temp":1}`)},
		{id('4'), json.RawMessage(`{"device":"pi-4","temp":"warm"}`)},
		{id('5'), json.RawMessage(`{"device":"pi-5","colour":"red"}`)},
		{id('6'), json.RawMessage(`"text"`)},
		{id('7'), json.RawMessage(`{ "device":"pi-7","temp":7 } `)},
	}
	for range 2 { // the second time all is there
		for i, err := range s.Insert(t.Context(), "readings", "id", rows) {
			if bad := i >= 2 && i <= 5; (err != nil) != bad || bad && !Permanent(err) {
				t.Errorf("row %d: %v", i, err)
			}
		}
	}
	var got string
	err = s.pool.QueryRow(t.Context(), `SELECT string_agg(concat_ws(' ', device, temp, tags, list, at > '2026-01-03'), '; '
		ORDER BY id) FROM readings`).Scan(&got)
	const want = `pi-1 21.123456789012345678901234567890 t; pi-2 {"a": [1]} {1,2} f; pi-7 7 t`
	if err != nil || got != want {
		t.Errorf("the table has %q, %v, want %q", got, err, want)
	}
	one := rows[:1]
	odd := []Row{{Object: json.RawMessage(`{"device":"x"}`)}}
	if errs := s.Insert(t.Context(), "plant.Odd Name", "", odd); errs[0] != nil {
		t.Error(errs[0])
	}
	if errs := s.Insert(t.Context(), "none", "id", one); !Permanent(errs[0]) {
		t.Errorf("no such table: %v", errs[0])
	}
	if errs := s.Insert(t.Context(), "readings", "temp", one); !Permanent(errs[0]) {
		t.Errorf("a column that is not unique: %v", errs[0])
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if errs := s.Insert(ended, "readings", "id", one); errs[0] == nil || Permanent(errs[0]) {
		t.Errorf("not tried: %v", errs[0])
	}
}
