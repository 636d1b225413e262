package search

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// BenchmarkBulk writes 20,000 documents of 90 bytes at a time to OpenSearch with 512 MiB
// of heap, in bulk requests as delivery streams make them, under ids of their own.
//
//	go test ./bridge/speed/sink/search -run '^$' -bench Bulk
func BenchmarkBulk(b *testing.B) {
	const rows = 20_000
	url := counterpart.OpenSearch(b)
	ask := func(method, path, body string) {
		r, err := http.NewRequestWithContext(b.Context(), method, url+path, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp, err)
		}
		resp.Body.Close()
	}
	ask(http.MethodGet, "/_cluster/health?wait_for_status=yellow&timeout=60s", "") // before it takes no index
	ask(http.MethodPut, "/readings", `{"settings":{"number_of_replicas":0,"number_of_shards":1}}`)
	c := New(Options{URL: url, HTTP: http.DefaultClient})
	n, bytes := 0, 0
	for b.Loop() {
		docs := make([]*Document, rows)
		for i := range docs {
			at := n*rows + i
			docs[i] = &Document{Index: "readings", ID: fmt.Sprintf("00008ca8-e8e6-5acc-943a-e8a62dcf1ee7.%d", at),
				Source: fmt.Appendf(nil, `{"device":"plant-7/line-%d","ts":%d,"temp":%d.25,"hum":%d.5,"site":"north"}`,
					i%100,
					1_790_000_000_000+at, 20+i%10, 40+i%20)}
			bytes += len(docs[i].Source)
		}
		if refused, err := c.Write(b.Context(), docs, StandardBulk); err != nil || len(refused) > 0 {
			b.Fatal(len(refused), err)
		}
		n++
	}
	b.ReportMetric(float64(n*rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(bytes)/1e6/b.Elapsed().Seconds(), "MB/s")
}
