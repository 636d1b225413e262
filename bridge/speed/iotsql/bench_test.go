package iotsql

import (
	"bytes"
	"context"
	_ "embed"
	"strconv"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// The reference rule and document: 8 members, temp and hum the 3rd and 4th,
// 200 bytes. testdata/peers measures other engines with them.
var (
	//go:embed testdata/reference.sql
	refRule string
	//go:embed testdata/reference.json
	refDoc string
)

func refMessages() (hit, miss *Input) {
	hit = &Input{Message: message.Message{Topic: "dt/boiler-17/room", Payload: []byte(refDoc), Time: 1700000000000,
		ClientID: "boiler-17"}}
	cold := *hit
	cold.Payload = bytes.Replace(hit.Payload, []byte("31.5"), []byte("21.5"), 1)
	return hit, &cold
}

func TestReferenceRule(t *testing.T) {
	s, err := Compile(refRule, Version2016)
	if err != nil {
		t.Fatal(err)
	}
	hit, miss := refMessages()
	if len(hit.Payload) != 200 {
		t.Errorf("the document has %d bytes, want 200", len(hit.Payload))
	}
	out, fired, err := s.Eval(context.Background(), nil, hit)
	if want := `{"temp":31.5,"hum":48.2,"t":"dt/boiler-17/room"}`; string(out) != want || !fired || err != nil {
		t.Errorf("hit: %s, %v, %v; want %s", out, fired, err, want)
	}
	if out, fired, err := s.Eval(context.Background(), nil, miss); out != nil || fired || err != nil {
		t.Errorf("miss: %s, %v, %v", out, fired, err)
	}
	buf := make([]byte, 0, 256)
	for name, m := range map[string]*Input{"hit": hit, "miss": miss} {
		if n := testing.AllocsPerRun(100, func() { s.Eval(context.Background(), buf, m) }); n > 0 && !raceEnabled {
			t.Errorf("%s: %v allocations, want none", name, n)
		}
	}
}

func BenchmarkReferenceRule(b *testing.B) {
	s, err := Compile(refRule, Version2016)
	if err != nil {
		b.Fatal(err)
	}
	hit, miss := refMessages()
	run := func(name string, m *Input) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(m.Payload)))
			buf := make([]byte, 0, 256)
			for b.Loop() {
				if _, _, err := s.Eval(context.Background(), buf, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("match", hit)
	run("no-match", miss)
	b.Run("parallel-match", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			buf := make([]byte, 0, 256)
			for pb.Next() {
				s.Eval(context.Background(), buf, hit)
			}
		})
	})
}

// BenchmarkStatements times other kinds of work.
func BenchmarkStatements(b *testing.B) {
	hit, _ := refMessages()
	for i, sql := range []string{
		`SELECT * FROM 'dt/#'`,
		`SELECT *, topic(2) AS thing FROM 'dt/#'`,
		`SELECT (temp * 9 / 5) + 32 AS f FROM 'dt/#'`,
		`SELECT upper(status) AS s, concat(id, '/', topic(3)) AS k FROM 'dt/#' WHERE status IN ['ok', 'warn']`,
		`SELECT regexp_substr(id, '[0-9]+') AS n FROM 'dt/#'`,
	} {
		s, err := Compile(sql, Version2016)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(strconv.Itoa(i), func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 512)
			for b.Loop() {
				s.Eval(context.Background(), buf, hit)
			}
		})
	}
}

func TestTemplateText(t *testing.T) {
	hit, _ := refMessages()
	for text, c := range map[string]struct {
		want   string
		allocs float64
	}{"readings": {"readings", 0}, "${topic(2)}/${temp}": {"boiler-17/31.5", 1}} {
		tpl, err := CompileTemplate(text, Version2016)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tpl.Text(context.Background(), hit); got != c.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", text, got, err, c.want)
		}
		if n := testing.AllocsPerRun(100, func() {
			tpl.Text(context.Background(), hit)
		}); n > c.allocs && !raceEnabled {
			t.Errorf("%s: %v allocations, want %v", text, n, c.allocs)
		}
	}
}
