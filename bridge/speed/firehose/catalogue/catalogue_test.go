package catalogue

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func parsed(t *testing.T, database, name, version string) *Table {
	t.Helper()
	one, err := Parse(fmt.Appendf(nil, `{"Table":{"DatabaseName":%q,"Name":%q,"VersionId":%q,"Description":"of plants",
	  "StorageDescriptor":{"Columns":[{"Name":"ID","Type":"BIGINT","Comment":"c"},{"Name":"v","Type":"array<int>"}]}}}`,
		database, name, version))
	if err != nil {
		t.Fatal(err)
	}
	return one
}

func TestCatalogue(t *testing.T) {
	c := New()
	c.Put(parsed(t, "Lake", "Readings", "3"))
	c.Put(parsed(t, "lake", "alarms", ""))
	c.Put(parsed(t, "else", "x", ""))
	for _, q := range []struct {
		database, name, version string
		found                   bool
	}{
		{"lake", "readings", "LATEST", true}, {"LAKE", "READINGS", "3", true}, {"lake", "readings", "2", false},
		{"lake", "alarms", "0", true}, {"lake", "x", "LATEST", false}, {"none", "x", "LATEST", false},
	} {
		s, err := c.Schema(q.database, q.name, q.version)
		if (err == nil) != q.found || err != nil && !errors.Is(err, ErrNotFound) || err == nil && len(s.Columns) != 2 {
			t.Errorf("%+v: %+v, %v", q, s, err)
		}
	}
	one, err := c.Find("lake", "readings")
	if err != nil || one.Glue.Description != "of plants" ||
		!reflect.DeepEqual(one.Columns[0], Column{Name: "ID", Type: "BIGINT", Comment: "c"}) || one.Updated.IsZero() {
		t.Errorf("%+v, %v", one, err)
	}
	if all := c.List("lake"); len(all) != 2 || all[0].Name != "alarms" || len(c.List("")) != 3 {
		t.Errorf("%+v", all)
	}
	c.Keep(map[string]bool{"lake.alarms": true})
	if all := c.List(""); len(all) != 1 || all[0].Name != "alarms" {
		t.Errorf("%+v", all)
	}
	for _, bad := range []string{"a.b", "a/b", "a b", `a\\b`, strings.Repeat("n", 256)} {
		if _, err := Parse([]byte(`{"DatabaseName":"d","Name":"` + bad +
			`","StorageDescriptor":{"Columns":[{"Name":"a","Type":"int"}]}}`)); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

// The time of a table moves when the table changes, and not with each reload.
func TestUpdated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, began := New(), time.Now()
		for _, put := range []struct {
			version string
			want    time.Duration
		}{{"1", 0}, {"1", 0}, {"2", 2 * time.Hour}, {"2", 2 * time.Hour}} {
			c.Put(parsed(t, "lake", "readings", put.version))
			one, err := c.Find("lake", "readings")
			if err != nil || one.VersionID != put.version || one.Updated.Sub(began) != put.want {
				t.Errorf("version %s after %v: %+v, %v", put.version, time.Since(began), one, err)
			}
			time.Sleep(time.Hour)
		}
	})
}

// Whatever Parse takes is found by the name that it has, with as many columns as it says.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"Table":{"DatabaseName":"d","Name":"t","StorageDescriptor":{"Columns":[{"Name":"a","Type":"struct<b:int>"}]}}}`))
	f.Add([]byte(`{"TableInput":{"Name":"t","StorageDescriptor":{"Columns":[{"Name":"a","Type":"decimal(3,1)"}]}},"DatabaseName":"d"}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		one, err := Parse(doc)
		if err != nil {
			return
		}
		c := New()
		c.Put(one)
		s, err := c.Schema(one.Database, one.Name, one.VersionID)
		if err != nil || len(s.Columns) != len(one.Columns) {
			t.Fatalf("%s: %+v, %v", doc, s, err)
		}
	})
}
