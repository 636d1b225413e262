package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/mqtttest"
	"github.com/tidemill/tidemill/deploy/rig"
)

// natsModule is a release of nats-server that knows sync_interval, which
// Debian's 2.9 does not.
const natsModule = "github.com/nats-io/nats-server/v2@v2.10.29"

// BenchmarkDurableDelivery measures QoS 1 from PUBLISH to PUBACK with a
// subscriber of QoS 1, beside nats-server told to sync each message: both
// acknowledge what is on disk. 50 publishers, 200 bytes, mutual TLS.
//
//	go test ./deploy/e2e -run '^$' -bench DurableDelivery -benchtime 3x
func BenchmarkDurableDelivery(b *testing.B) {
	bin, err := buildOnce()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	br := benchBridge(b, bin, filepath.Join(dir, "bridge"), "[log]\nlevel = \"warn\"\n", map[string]string{
		"streams/hot.json": `{"StreamName": "hot"}`, "rules/hot.json": hotStreamRule})
	conf := benchIdentity(b, br)
	nats := startNATS(b, dir, filepath.Join(br.Dir, "pki"))
	for _, inFlight := range []int{1, 20} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			rate, n := map[string]float64{}, 0.0
			for b.Loop() {
				for _, p := range []struct {
					name, addr string
				}{{"bridge", br.MQTT}, {"nats", nats.addr}} {
					r, err := mqtttest.Run(b.Context(), mqtttest.Options{Addr: p.addr, TLS: conf, InFlight: inFlight,
						Duration: 2 * time.Second, Subscribers: 1, QoS: 1,
						Topic: fmt.Sprint("load/", inFlight)})
					if err != nil {
						b.Fatal(p.name, err)
					}
					rate[p.name] += r.PerSecond
					b.Logf("%s: %.0f msgs/s, ack p50 %v p99 %v, delivered %d of %d", p.name, r.PerSecond, r.P50, r.P99,
						r.Delivered, r.Acked)
				}
				n++
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(rate["bridge"]/n, "bridge-msgs/s")
			b.ReportMetric(rate["nats"]/n, "nats-msgs/s")
			b.ReportMetric(rate["bridge"]/rate["nats"], "bridge/nats")
		})
	}
}

// startNATS builds nats-server and runs it with the bridge's certificates.
func startNATS(b *testing.B, dir, pki string) peerServer {
	b.Helper()
	build := exec.CommandContext(b.Context(), "go", "install", natsModule)
	build.Dir = dir // outside the module
	build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-mod=mod")
	if out, err := build.CombinedOutput(); err != nil {
		b.Skipf("nats-server could not be built: %v\n%s", err, out)
	}
	mqtt, err := rig.FreePort()
	if err != nil {
		b.Fatal(err)
	}
	client, err := rig.FreePort()
	if err != nil {
		b.Fatal(err)
	}
	conf := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf(`server_name: peer
listen: %q
jetstream { store_dir: %q, sync_interval: always }
mqtt { listen: %q, max_ack_pending: 1000, tls { cert_file: "%[4]s/server.pem", key_file: "%[4]s/server-key.pem", ca_file: "%[4]s/ca.pem", verify: true } }
`, client, filepath.Join(dir, "nats"), mqtt, pki)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return startPeer(b, mqtt, filepath.Join(dir, "nats-server"), "-c", conf)
}

const fileRule = `{
  "sql": "SELECT temp, hum, topic() AS topic FROM 'load/#' WHERE temp > 20",
  "awsIotSqlVersion": "2016-03-23",
  "actions": [{"firehose": {"deliveryStreamName": "file", "separator": "\n"}}]
}`

const fileDelivery = `{
  "DeliveryStreamName": "file",
  "ExtendedS3DestinationConfiguration": {"BucketARN": "arn:aws:s3:::file", "Prefix": "o/", "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 1}}
}`

// BenchmarkRuleToFile overloads the bridge for two seconds with 50 publishers,
// 20 messages of 200 bytes in flight each, mutual TLS. Each message is synced,
// acknowledged, matched by a rule and written to a file. It fails if one that
// was acknowledged is not in a file in the end, and reports the processor time
// of all that per message, beside that of mosquitto, which only acknowledges.
// writes/msg are all write system calls of the bridge: to clients, log and files.
//
//	go test ./deploy/e2e -run '^$' -bench RuleToFile -benchtime 3x
func BenchmarkRuleToFile(b *testing.B) {
	need(b, "/usr/sbin/mosquitto", "mosquitto")
	bin, err := buildOnce()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	br := benchBridge(b, bin, filepath.Join(dir, "bridge"), "[log]\nlevel = \"warn\"\n", map[string]string{
		"delivery-streams/file.json": fileDelivery, "rules/file.json": fileRule})
	conf := benchIdentity(b, br)
	mosquitto := startMosquitto(b, dir, filepath.Join(br.Dir, "pki"))
	run := func(addr string) mqtttest.Result {
		b.Helper()
		r, err := mqtttest.Run(b.Context(),
			mqtttest.Options{Addr: addr, TLS: conf, InFlight: 20, Duration: 2 * time.Second})
		if err != nil {
			b.Fatal(err)
		}
		return r
	}
	var acked uint64
	var rate, cpu, peer, writes, n float64
	for b.Loop() {
		c, w := used(b, br.PID())
		r := run(br.MQTT)
		acked += r.Acked
		var written float64
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		err := rig.Until(ctx, "all in files", func() (bool, error) {
			m, err := br.Metrics(ctx)
			written = m[`tidemill_delivery_records_total{delivery_stream="file"}`]
			return written >= float64(acked), err
		})
		cancel()
		if err != nil || written != float64(acked) {
			b.Fatalf("%d messages were acknowledged, %.0f are in files: %v", acked, written, err)
		}
		c2, w2 := used(b, br.PID())
		rate += r.PerSecond
		cpu += float64((c2 - c).Microseconds()) / float64(r.Acked)
		writes += float64(w2-w) / float64(r.Acked)
		b.Logf("bridge: %.0f msgs/s, ack p50 %v p99 %v, %d lines in files", r.PerSecond, r.P50, r.P99, acked)

		c, _ = used(b, mosquitto.pid)
		r = run(mosquitto.addr)
		c2, _ = used(b, mosquitto.pid)
		peer += float64((c2 - c).Microseconds()) / float64(r.Acked)
		b.Logf("mosquitto: %.0f msgs/s, ack p50 %v p99 %v", r.PerSecond, r.P50, r.P99)
		n++
	}
	if got := lines(b, filepath.Join(br.Dir, "objects", "file")); got != acked {
		b.Fatalf("%d messages were acknowledged, %d lines are in files", acked, got)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(rate/n, "msgs/s")
	b.ReportMetric(cpu/n, "cpu-us/msg")
	b.ReportMetric(peer/n, "mosquitto-cpu-us/msg")
	b.ReportMetric(cpu/peer, "bridge/mosquitto")
	b.ReportMetric(writes/n, "writes/msg")
}

// used is the processor time of a process and its write system calls.
func used(b *testing.B, pid int) (cpu time.Duration, writes uint64) {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, ticks := range f[11:13] { // USER_HZ is 100
		n, err := strconv.Atoi(ticks)
		if err != nil {
			b.Fatal(err)
		}
		cpu += time.Duration(n) * 10 * time.Millisecond
	}
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(io)) {
		if n, ok := strings.CutPrefix(line, "syscw: "); ok {
			if writes, err = strconv.ParseUint(strings.TrimSpace(n), 10, 64); err != nil {
				b.Fatal(err)
			}
		}
	}
	return cpu, writes
}

// lines counts those of all files below dir.
func lines(b *testing.B, dir string) (n uint64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		n += uint64(strings.Count(string(text), "\n"))
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}
