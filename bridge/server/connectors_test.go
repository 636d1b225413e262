package server

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

const aConnector = `{"ConnectorName":"hot","Source":{"StreamName":"in"},
	"Filter":{"JSON":"fail"},"Transform":{"SQL":"SELECT n, k FROM 'x' WHERE temp > 10"},
	"Buffer":{"Records":7,"Seconds":0.05},"DeadLetter":{"StreamName":"dead"},"Emit":{"Stream":{"StreamName":"out"}}}`

// put commits numbered records of some keys to the stream; every third is cold,
// and one is no JSON.
func (b *bridge) put(from, to int) {
	b.t.Helper()
	for n := from; n < to; n++ {
		key, temp := fmt.Sprintf("k%d", n%5), 20
		if n%3 == 0 {
			temp = 5
		}
		data := fmt.Sprintf(`{"n":%d,"k":%q,"temp":%d}`, n, key, temp)
		if n%50 == 1 {
			data = fmt.Sprintf("bad %d", n)
		}
		batch := b.store.NewBatch()
		batch.Put("in", streams.HashOf(key), streams.Record{Key: key, Data: []byte(data)})
		if err := b.store.Commit(b.t.Context(), batch); err != nil {
			b.t.Fatal(err)
		}
	}
}

func (b *bridge) records(stream string) []streams.Record {
	b.t.Helper()
	all, err := b.store.Read(stream, 0, 0, 0, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// A connector of a file copies what is hot into another stream: each record
// once and in the order of its key, through a split, a merge, changes of the
// file and starts of the bridge.
func TestConnector(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{
		"streams/in.json":     `{"StreamName":"in","ShardCount":2}`,
		"streams/out.json":    `{"StreamName":"out"}`,
		"streams/dead.json":   `{"StreamName":"dead"}`,
		"connectors/hot.json": aConnector,
	})
	b := start(t, cfg)
	reshard := func(c streams.Change) {
		t.Helper()
		if _, err := b.store.Reshard("in", c); err != nil {
			t.Fatal(err)
		}
	}
	b.put(0, 100)
	halves := streams.Even(2)
	quarters := streams.Even(4)
	reshard(streams.Change{Parents: []int{0}, Ranges: quarters[:2]}) // 2 and 3
	b.put(100, 200)
	b = b.again(cfg)
	// 4
	reshard(streams.Change{Parents: []int{3, 1},
		Ranges: []streams.Range{{Start: quarters[1].Start, End: halves[1].End}}})
	b.put(200, 300)
	declareFiles(t, cfg, map[string]string{"connectors/hot.json": strings.Replace(aConnector, `"Records":7`,
		`"Records":3`, 1)})
	b.must("POST", "/v1/reload", "", nil)
	b.put(300, 400)
	b = b.again(cfg)
	b.put(400, 500)

	var hot, bad int
	for n := range 500 {
		switch {
		case n%50 == 1:
			bad++
		case n%3 != 0:
			hot++
		}
	}
	b.eventually("all in the other stream", func() bool {
		return len(b.records("out")) >= hot && len(b.records("dead")) >= bad
	})
	last, seen := map[string]int{}, map[int]bool{}
	for _, r := range b.records("out") {
		var doc struct {
			N    int
			K    string
			Temp *int
		}
		if err := json.Unmarshal(r.Data, &doc); err != nil || doc.Temp != nil || doc.K != r.Key {
			t.Fatalf("%s under key %s: %v", r.Data, r.Key, err)
		}
		if was, ok := last[doc.K]; seen[doc.N] || ok && was > doc.N {
			t.Errorf("%s came after %d of its key", r.Data, was)
		}
		last[doc.K], seen[doc.N] = doc.N, true
	}
	if len(seen) != hot || len(b.records("dead")) != bad {
		t.Errorf("%d hot and %d bad records, want %d and %d", len(seen), len(b.records("dead")), hot, bad)
	}
	var letter struct {
		ConnectorName, Stage, ErrorMessage string
		RawData                            []byte
	}
	if err := json.Unmarshal(b.records("dead")[0].Data, &letter); err != nil ||
		letter.ConnectorName != "hot" || letter.Stage != "transform" ||
		!strings.HasPrefix(string(letter.RawData), "bad ") {
		t.Errorf("dead letter %s: %v", b.records("dead")[0].Data, err)
	}
}

// What is wrong with files is told, and what they declared before stays.
func TestConnectorFiles(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{
		"streams/in.json":   `{"StreamName":"in"}`,
		"streams/out.json":  `{"StreamName":"out"}`,
		"connectors/a.json": aConnector,
	})
	b := start(t, cfg)
	names := func() string {
		var all []connector.Info
		b.must("GET", "/v1/connectors", "", &all)
		var s []string
		for _, c := range all {
			s = append(s, c.Name+" of "+filepath.Base(c.File))
		}
		return strings.Join(s, ", ")
	}
	reload := func(want string) {
		t.Helper()
		if code, text := b.do("POST", "/v1/reload", ""); want == "" && code != 200 || !strings.Contains(text, want) {
			t.Errorf("reload: %d %s, want %q", code, text, want)
		}
	}
	if got := names(); got != "hot of a.json" {
		t.Errorf("connectors: %s", got)
	}
	declareFiles(t, cfg, map[string]string{"connectors/b.json": aConnector})
	reload("connector hot is in")
	declareFiles(t, cfg, map[string]string{"connectors/b.json": strings.Replace(aConnector, `"hot"`, `"cold"`, 1),
		"connectors/a.json": "{}"})
	reload("ConnectorName")
	if got := names(); got != "cold of b.json, hot of a.json" {
		t.Errorf("connectors: %s", got)
	}
	if err := os.Remove(filepath.Join(cfg.BridgeD.Dir, "connectors/a.json")); err != nil {
		t.Fatal(err)
	}
	reload("")
	if got := names(); got != "cold of b.json" {
		t.Errorf("connectors: %s", got)
	}
	if code, text := b.do("GET", "/metrics", ""); code != 200 ||
		!strings.Contains(text, `tidemill_connector_records_total{connector="cold"}`) {
		t.Errorf("metrics: %d, and no counts of the connector", code)
	}
}
