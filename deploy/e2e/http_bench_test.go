package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/mqtttest"
	"github.com/tidemill/tidemill/deploy/rig"
)

// BenchmarkRuleToHTTP publishes 1,000 messages of 200 bytes a second for two seconds,
// QoS 1 over mutual TLS. Each is synced, acknowledged, matched by a rule, put into an
// outbox, and posted to a receiver on this machine: alone, or ten in a request. It
// reports the processor time of the bridge for all that per message.
//
//	go test ./deploy/e2e -run '^$' -bench RuleToHTTP -benchtime 3x
func BenchmarkRuleToHTTP(b *testing.B) {
	bin, err := buildOnce()
	if err != nil {
		b.Fatal(err)
	}
	batches := map[string]string{"alone": "",
		"ten": `,"enableBatching":true,"batchConfig":{"maxBatchOpenMs":100,"batchAcrossTopics":true}`}
	for name, batch := range batches {
		b.Run(name, func(b *testing.B) {
			var requests atomic.Int64
			to := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				requests.Add(1)
			}))
			defer to.Close()
			rule := fmt.Sprintf(`{"sql":"SELECT * FROM '#'","awsIotSqlVersion":"2016-03-23",`+
				`"actions":[{"http":{"url":"%s/in"%s}}]}`, to.URL, batch)
			br := benchBridge(b, bin, filepath.Join(b.TempDir(), "bridge"),
				"[egress]\nallow = [\"127.0.0.1\"]\n[log]\nlevel = \"warn\"\n",
				map[string]string{"rules/http.json": rule})
			conf := benchIdentity(b, br)
			var acked uint64
			var cpu []float64
			for b.Loop() {
				before, _ := used(b, br.PID())
				r, err := mqtttest.Run(b.Context(),
					mqtttest.Options{Addr: br.MQTT, TLS: conf, Rate: 1000, InFlight: 20, Duration: 2 * time.Second})
				if err != nil {
					b.Fatal(err)
				}
				acked += r.Acked
				ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
				err = rig.Until(ctx, "all posted", func() (bool, error) {
					m, err := br.Metrics(ctx)
					return m[`tidemill_action_delivered_total{kind="http"}`] >= float64(acked), err
				})
				cancel()
				if err != nil {
					b.Fatal(err)
				}
				after, _ := used(b, br.PID())
				cpu = append(cpu, float64((after-before).Microseconds())/float64(r.Acked))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(cpu), "cpu-us/msg")
			b.ReportMetric(float64(acked)/float64(requests.Load()), "msgs/request")
		})
	}
}
