package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/kinesis/kpl"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A tail reads a shard before what it was split into, and the records of a
// container by themselves.
func TestTailFollowsShards(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/s.json": `{"StreamName":"s"}`})
	b := start(t, cfg)
	put := func(data []byte) {
		t.Helper()
		batch := b.store.NewBatch()
		batch.Put("s", streams.HashOf("k"), streams.Record{Key: "k", Data: data})
		if err := b.store.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	put([]byte(`1`))
	put(kpl.Pack([]kpl.Record{{Key: "k", Data: []byte(`2`)}, {Key: "k", Data: []byte(`3`)}}))
	if _, err := b.store.Reshard("s", streams.Change{Parents: []int{0}, Ranges: streams.Even(2)}); err != nil {
		t.Fatal(err)
	}
	put([]byte(`4`))
	var got string
	_, text := b.do("GET", "/v1/streams/records?name=s&from=oldest", "")
	for line := range strings.Lines(text) {
		var r admin.StreamRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		got += fmt.Sprintf("%d/%d.%d=%s ", min(r.Shard, 1), r.Offset, r.Sub, r.JSON)
	}
	if want := "0/0.0=1 0/1.0=2 0/1.1=3 1/0.0=4 "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if info, err := admin.DescribeStream(b.store, "s"); err != nil || info.Shards != 2 || info.Records != 3 {
		t.Errorf("%+v, %v", info, err)
	}
}

// A tail that comes to damage in the log says so after what it could read.
func TestTailTellsOfDamage(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/s.json": `{"StreamName":"s","ShardCount":1}`})
	b := start(t, cfg)
	rnd := rand.NewChaCha8([32]byte{1})
	const records = 4000
	for range records / 100 {
		batch := b.store.NewBatch()
		for range 100 {
			data := make([]byte, 1000) // none of it can be packed
			_, _ = rnd.Read(data)
			batch.Put("s", streams.HashOf("k"), streams.Record{Key: "k", Data: data})
		}
		if err := b.store.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	b = b.again(cfg) // which moves the records out of the WAL
	if err := errors.Join(b.stop(), b.Close()); err != nil {
		t.Fatal(err)
	}
	largest, size := "", int64(0)
	for _, kind := range []string{"*.sst", "*.blob"} {
		paths, _ := filepath.Glob(filepath.Join(cfg.DataDir, "log", kind))
		for _, p := range paths {
			if info, err := os.Stat(p); err == nil && info.Size() > size {
				largest, size = p, info.Size()
			}
		}
	}
	raw, err := os.ReadFile(largest)
	if err != nil || size < 1<<20 {
		t.Fatal(largest, size, err)
	}
	clear(raw[size/2 : size/2+size/8])
	if err := os.WriteFile(largest, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(idle(t, cfg).Handler())
	defer web.Close()
	resp, err := http.Get(web.URL + "/v1/streams/records?name=s&from=oldest")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.Status, err)
	}
	if n := strings.Count(string(body), "\n"); n == 0 || n == records {
		t.Errorf("%d of %d records", n, records)
	}
	if why := resp.Trailer.Get(admin.ErrorTrailer); !strings.Contains(why, "stream s: ") ||
		!strings.Contains(why, filepath.Base(largest)) {
		t.Errorf("%s is damaged, told is %q", largest, why)
	}
}
