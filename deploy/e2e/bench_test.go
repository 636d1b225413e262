package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/mqtttest"
	"github.com/tidemill/tidemill/deploy/rig"
)

// BenchmarkDurablePublish measures QoS 1 from PUBLISH to PUBACK over mutual
// TLS, 50 clients, 200 bytes, for whole servers side by side, one second each
// an iteration: the bridge with every message synced to the ingest log and
// read by a rule soon after, the bridge with the log turned off, and mosquitto
// without persistence. behind-ms is how long the rules need, when the load is
// over, until they have seen all of it. disk-msgs/s is what 50 clients with one in
// flight would get if all took no time but the disk's: see diskBound.
//
//	go test ./deploy/e2e -run '^$' -bench DurablePublish -benchtime 3x
func BenchmarkDurablePublish(b *testing.B) {
	peers := benchPeers(b)
	stored := peers[0].bridge
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	var all uint64 // acknowledged by the bridge that stores
	for _, inFlight := range []int{1, 20} {
		b.Run(fmt.Sprintf("inflight=%d", inFlight), func(b *testing.B) {
			rate, n, behind, disk := map[string]float64{}, 0.0, time.Duration(0), 0.0
			for b.Loop() {
				disk += diskBound(b, filepath.Dir(stored.Dir), time.Second)
				for _, p := range peers {
					r, err := mqtttest.Run(b.Context(),
						mqtttest.Options{Addr: p.addr, TLS: p.tls, InFlight: inFlight, Duration: time.Second})
					if err != nil {
						b.Fatal(p.name, err)
					}
					rate[p.name] += r.PerSecond
					if p.name == "stored" {
						all += r.Acked
						began := time.Now()
						must(rig.Until(b.Context(), "the rule", func() (bool, error) {
							m, err := stored.Metrics(b.Context())
							return m[`tidemill_rule_matched_total{rule="hot"}`] >= float64(all), err
						}))
						behind = max(behind, time.Since(began))
					}
					b.Logf("%s: %.0f msgs/s, ack p50 %v p99 %v", p.name, r.PerSecond, r.P50, r.P99)
				}
				n++
			}
			b.ReportMetric(0, "ns/op")
			for _, p := range peers {
				b.ReportMetric(rate[p.name]/n, p.name+"-msgs/s")
			}
			b.ReportMetric(float64(behind.Microseconds())/1000, "behind-ms")
			b.ReportMetric(rate["stored"]/rate["mosquitto"], "stored/mosquitto")
			b.ReportMetric(rate["unstored"]/rate["mosquitto"], "unstored/mosquitto")
			if inFlight == 1 {
				b.ReportMetric(disk/n, "disk-msgs/s")
				b.ReportMetric(rate["stored"]/disk, "stored/disk")
			}
		})
	}
}

// diskBound returns how many messages a second 50 clients with one in flight get
// acknowledged at the most where all of them share each sync of the disk: a file in
// dir gets 50 records of 300 bytes in one write and is synced, again and again for d.
func diskBound(b *testing.B, dir string, d time.Duration) float64 {
	b.Helper()
	f, err := os.CreateTemp(dir, "bound")
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const messages = 50
	group, rounds, began := make([]byte, messages*300), 0, time.Now()
	for ; time.Since(began) < d; rounds++ {
		if _, err := f.Write(group); err != nil {
			b.Fatal(err)
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return float64(messages*rounds) / time.Since(began).Seconds()
}

// BenchmarkDurableRate measures what a message costs at a fixed rate, far below
// what the servers could take: processor time of the whole server and the time
// from when a publish was due to its PUBACK. 50 clients, QoS 1, 200 bytes,
// mutual TLS, two seconds each an iteration: the bridge as in DurablePublish,
// stored and not stored, and mosquitto without persistence. rss-MB is the
// bridge's after the load.
//
//	go test ./deploy/e2e -run '^$' -bench DurableRate -benchtime 4x
func BenchmarkDurableRate(b *testing.B) {
	peers := benchPeers(b)
	for _, rate := range []float64{500, 5000} {
		b.Run(fmt.Sprintf("rate=%v", rate), func(b *testing.B) {
			cpu, p99 := map[string][]float64{}, map[string][]float64{}
			for b.Loop() {
				for _, p := range peers {
					before, _ := used(b, p.pid)
					r, err := mqtttest.Run(b.Context(), mqtttest.Options{Addr: p.addr, TLS: p.tls, Rate: rate,
						InFlight: 20, Duration: 2 * time.Second})
					if err != nil {
						b.Fatal(p.name, err)
					}
					after, _ := used(b, p.pid)
					cpu[p.name] = append(cpu[p.name], float64((after-before).Microseconds())/float64(r.Acked))
					p99[p.name] = append(p99[p.name], float64(r.P99.Microseconds())/1000)
					b.Logf("%s: %.0f msgs/s, ack p50 %v p99 %v", p.name, r.PerSecond, r.P50, r.P99)
				}
			}
			b.ReportMetric(0, "ns/op")
			for _, p := range peers {
				b.ReportMetric(median(cpu[p.name]), p.name+"-cpu-us/msg")
				b.ReportMetric(median(p99[p.name]), p.name+"-p99-ms")
			}
			b.ReportMetric(median(cpu["stored"])/median(cpu["mosquitto"]), "stored/mosquitto")
			b.ReportMetric(median(cpu["unstored"])/median(cpu["mosquitto"]), "unstored/mosquitto")
			b.ReportMetric(resident(b, peers[0].pid), "rss-MB")
		})
	}
}

// BenchmarkIdleBridge measures what 3,000 clients with a certificate and a
// subscription each cost a whole bridge while nothing happens, in resident
// memory fifteen seconds after the last came, beside mosquitto.
//
//	go test ./deploy/e2e -run '^$' -bench IdleBridge -benchtime 1x
func BenchmarkIdleBridge(b *testing.B) {
	const clients = 3000
	for b.Loop() {
		for _, p := range benchPeers(b) {
			if p.name == "unstored" {
				continue
			}
			crowd := mqtttest.NewCrowd(p.addr, clients, p.tls)
			before := resident(b, p.pid)
			if _, err := crowd.Connect(); err != nil {
				b.Fatal(p.name, err)
			}
			time.Sleep(15 * time.Second)
			b.ReportMetric((resident(b, p.pid)-before)*1e6/1024/clients, p.name+"-KiB/connection")
			crowd.Cut()
		}
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkSlowReader measures by how much subscribers that take nothing raise
// the bridge's resident memory: ten of them, of all messages of a load of
// 5,000/s, each as long as the bridge bears with it, and back at once. The load
// runs for six seconds without them and for six with them; the highest of each
// is taken.
//
//	go test ./deploy/e2e -run '^$' -bench SlowReader -benchtime 3x
func BenchmarkSlowReader(b *testing.B) {
	p := benchPeers(b)[0]
	run := func() (most float64) {
		b.Helper()
		done := make(chan error, 1)
		go func() {
			_, err := mqtttest.Run(b.Context(),
				mqtttest.Options{Addr: p.addr, TLS: p.tls, Rate: 5000, InFlight: 20, Duration: 6 * time.Second})
			done <- err
		}()
		for {
			select {
			case err := <-done:
				if err != nil {
					b.Fatal(err)
				}
				return most
			case <-time.After(50 * time.Millisecond):
				most = max(most, resident(b, p.pid))
			}
		}
	}
	var without, with []float64
	for b.Loop() {
		without = append(without, run())
		ctx, stop := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				for ctx.Err() == nil {
					if err := mqtttest.Sleep(ctx, p.addr, fmt.Sprint("slow-", i), "load/#", p.tls); err != nil &&
						ctx.Err() == nil {
						b.Error(err)
						return
					}
				}
			})
		}
		with = append(with, run())
		stop()
		wg.Wait()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(without), "without-MB")
	b.ReportMetric(median(with)-median(without), "raised-MB")
}

// median of xs, which are not empty.
func median(xs []float64) float64 {
	xs = slices.Sorted(slices.Values(xs))
	return (xs[(len(xs)-1)/2] + xs[len(xs)/2]) / 2
}

// resident is the resident memory of a process, in MB.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / 1e6
}

// A benchPeer is a server that a benchmark loads.
type benchPeer struct {
	name, addr string
	tls        *tls.Config
	pid        int
	bridge     *rig.Bridge // nil: another broker
}

// benchPeers starts a bridge that stores every message and has a rule read it,
// one that stores nothing, and mosquitto, in this order.
func benchPeers(b *testing.B) []benchPeer {
	b.Helper()
	need(b, "/usr/sbin/mosquitto", "mosquitto")
	bin, err := buildOnce()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	rule := map[string]string{"streams/hot.json": `{"StreamName": "hot"}`, "rules/hot.json": hotStreamRule}
	stored := benchBridge(b, bin, filepath.Join(dir, "stored"), "[log]\nlevel = \"warn\"\n", rule)
	passing := benchBridge(b, bin, filepath.Join(dir, "passing"), "[ingest]\nstore = []\n[log]\nlevel = \"warn\"\n",
		rule)
	mosquitto := startMosquitto(b, dir, filepath.Join(stored.Dir, "pki"))
	conf := benchIdentity(b, stored)
	return []benchPeer{
		{"stored", stored.MQTT, conf, stored.PID(), stored},
		{"unstored", passing.MQTT, benchIdentity(b, passing), passing.PID(), passing},
		{"mosquitto", mosquitto.addr, conf, mosquitto.pid, nil},
	}
}

// benchBridge starts a bridge under dir.
func benchBridge(b *testing.B, bin rig.Bin, dir, extra string, declared map[string]string) *rig.Bridge {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	must(os.MkdirAll(dir, 0o700))
	br, err := rig.NewBridge(bin, dir, extra)
	must(err)
	for name, doc := range declared {
		must(br.Declare(name, doc))
	}
	must(br.Start())
	b.Cleanup(br.Kill)
	must(br.Ready(b.Context()))
	return br
}

// benchIdentity makes a certificate that may do everything under any client id.
func benchIdentity(b *testing.B, br *rig.Bridge) *tls.Config {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	things := filepath.Join(filepath.Dir(br.Dir), "load")
	_, err := br.Command(b.Context(), "thing", "create", "load", "-out", things, "-endpoint", br.MQTT)
	must(err)
	_, err = br.Command(b.Context(), "policy", "put", "load", "-document", allowAll)
	must(err)
	pair, err := tls.LoadX509KeyPair(filepath.Join(things, "cert.pem"), filepath.Join(things, "key.pem"))
	must(err)
	_, err = br.Command(b.Context(), "policy", "attach", "load", fingerprint(pair.Leaf))
	must(err)
	ca, err := os.ReadFile(filepath.Join(things, "ca.pem"))
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, ServerName: "localhost"}
}

const hotStreamRule = `{
  "sql": "SELECT temp, hum, topic() AS t FROM 'load/#' WHERE temp > 1000",
  "awsIotSqlVersion": "2016-03-23",
  "actions": [{"kinesis": {"streamName": "hot", "partitionKey": "k"}}]
}`

// startMosquitto runs mosquitto with the bridge's certificates.
func startMosquitto(b *testing.B, dir, pki string) peerServer {
	b.Helper()
	addr, err := rig.FreePort()
	if err != nil {
		b.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(dir, "mosquitto.conf")
	text := fmt.Sprintf("user root\nlistener %s 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n"+
		"max_inflight_messages 1000\nlog_type none\ncafile %[2]s/ca.pem\ncertfile %[2]s/server.pem\nkeyfile %[2]s/server-key.pem\n"+
		"require_certificate true\n", port, pki)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
	return startPeer(b, addr, "/usr/sbin/mosquitto", "-c", conf)
}

// A peerServer is another broker's process.
type peerServer struct {
	addr string
	pid  int
}

// startPeer runs another broker until the benchmark ends.
func startPeer(b *testing.B, addr, program string, args ...string) peerServer {
	b.Helper()
	cmd := exec.Command(program, args...)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	err := rig.Until(b.Context(), program, func() (bool, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return false, err
		}
		return true, c.Close()
	})
	if err != nil {
		b.Fatal(err)
	}
	return peerServer{addr, cmd.Process.Pid}
}
