package declare

import (
	"fmt"
	"testing"
)

// BenchmarkRules is what it takes to have 10,000 rules: to read them from as
// many files, to read those again of which one has changed, and to replace one
// through the API, which is a sync of the registry and the engine's new table.
//
//	go test ./bridge/declare -run '^$' -bench Rules -benchtime 10x
func BenchmarkRules(b *testing.B) {
	const n = 10_000
	doc := func(i, above int) string {
		return payload(fmt.Sprintf("SELECT temp, hum, topic() AS t FROM 'dt/thing-%d/+' WHERE temp > %d", i, above),
			"out")
	}
	data := b.TempDir()
	docs := map[string]string{}
	for i := range n {
		docs[fmt.Sprintf("rules/rule_%d.json", i)] = doc(i, 30)
	}
	write(b, data, docs)
	s := open(b, data)
	load := func(b *testing.B) {
		if _, err := s.dir.Apply(true); err != nil {
			b.Fatal(err)
		}
		if got := len(s.engine.Rules()); got < n {
			b.Fatalf("%d rules are in force, want %d", got, n)
		}
	}
	b.Run("files", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			s.rules.files = nil // as at the start
			b.StartTimer()
			load(b)
		}
	})
	b.Run("one-file", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			write(b, data, map[string]string{"rules/rule_0.json": doc(0, 100+i)})
			load(b)
		}
	})
	b.Run("replace", func(b *testing.B) {
		if err := s.rules.Create(b.Context(), "made", []byte(doc(n, 30))); err != nil {
			b.Fatal(err)
		}
		for i := 0; b.Loop(); i++ {
			if err := s.rules.Replace(b.Context(), "made", []byte(doc(n, 100+i))); err != nil {
				b.Fatal(err)
			}
		}
	})
}
