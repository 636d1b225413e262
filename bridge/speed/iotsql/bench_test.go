package iotsql

import (
	"bytes"
	"context"
	"encoding/json"
	"strconv"
	"testing"
)

// The reference rule and document: 8 members, temp and hum the 3rd and 4th, 200 bytes.
const (
	refRule = `SELECT temp, hum, topic() AS t FROM 'dt/#' WHERE temp > 30`
	refDoc  = `{"ts":1700000000000,"id":"boiler-room-0017","temp":31.5,"hum":48.2,"pressure":101325,` +
		`"firmware":"2026.04.1-rc3+build.5512","location":"building 7, floor 2, room 214, rack 3, slot 19 L3","status":"ok"}`
)

func refMessages() (hit, miss *Message) {
	hit = &Message{Topic: "dt/boiler-17/room", Payload: []byte(refDoc), Time: 1700000000000, ClientID: "boiler-17"}
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
	for name, m := range map[string]*Message{"hit": hit, "miss": miss} {
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
	run := func(name string, m *Message) {
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

// BenchmarkMap is the same rule by hand over encoding/json's maps.
func BenchmarkMap(b *testing.B) {
	hit, miss := refMessages()
	for name, m := range map[string]*Message{"match": hit, "no-match": miss} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(m.Payload)))
			for b.Loop() {
				var doc map[string]any
				if err := json.Unmarshal(m.Payload, &doc); err != nil {
					b.Fatal(err)
				}
				if temp, ok := doc["temp"].(float64); ok && temp > 30 {
					if _, err := json.Marshal(map[string]any{"temp": temp, "hum": doc["hum"], "t": m.Topic}); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
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
