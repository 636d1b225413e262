package gateway

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/mqtttest"
)

// serveEnv makes the test binary a server of its own, so that a benchmark can
// tell the server's CPU time from its own.
const serveEnv = "TIDEMILL_BENCH_SERVE"

// serveAlone runs a gateway until its standard input ends. kind is how its
// router is done: "now", or "1ms" for all messages of a millisecond together,
// like a log with group commit. Three more words are the files of the CA, the
// certificate and the key for mutual TLS.
func serveAlone(kind string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	addr := l.Addr()
	words := strings.Fields(kind)
	kind = words[0]
	if len(words) == 4 {
		ca, err := os.ReadFile(words[1])
		if err != nil {
			panic(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(ca)
		cert, err := tls.LoadX509KeyPair(words[2], words[3])
		if err != nil {
			panic(err)
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	}
	var s *Server
	var r Router = routerFunc(func(_ *Client, m *message.Message, done func(error)) { s.Deliver(m, nil); done(nil) })
	if kind == "1ms" {
		q := make(chan func(error), 1<<16)
		go func() {
			for {
				time.Sleep(time.Millisecond)
				for range len(q) {
					(<-q)(nil)
				}
			}
		}()
		r = routerFunc(func(_ *Client, m *message.Message, done func(error)) { s.Deliver(m, nil); q <- done })
	}
	s = newServer(Config{Log: quiet(), OutInFlight: 1000}, &policy{}, r)
	fmt.Println(addr)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		cancel()
	}()
	var ran sync.WaitGroup
	ran.Go(func() { s.Run(ctx) })
	s.Serve(ctx, l)
	ran.Wait()
}

// A peer is a server in a process of its own.
type peer struct {
	addr string
	pid  int
}

// cpu is the processor time that the peer used.
func (p peer) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// writes is how many write system calls the peer made.
func (p peer) writes() uint64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "syscw: ")
	line, _, _ := strings.Cut(rest, "\n")
	n, _ := strconv.ParseUint(line, 10, 64)
	return n
}

func startGateway(tb testing.TB, kind string) peer {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+kind)
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { in.Close(); cmd.Wait() })
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	return peer{strings.TrimSpace(addr), cmd.Process.Pid}
}

// startMosquitto runs mosquitto on a free port with a configuration of its own.
func startMosquitto(tb testing.TB, files ...string) peer {
	tb.Helper()
	path := installed(tb, "mosquitto", "mosquitto")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	conf := filepath.Join(tb.TempDir(), "mosquitto.conf")
	text := "listener " + port + " 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages 0\n" +
		"max_inflight_messages 1000\nlog_type none\n"
	if len(files) > 0 {
		text += fmt.Sprintf("cafile %s\ncertfile %s\nkeyfile %s\nrequire_certificate true\n", files[0], files[1],
			files[2])
		if os.Getuid() == 0 {
			text += "user root\n" // to read the files
		}
	}
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(path, "-c", conf)
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 200 {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return peer{addr, cmd.Process.Pid}
		}
		time.Sleep(20 * time.Millisecond)
	}
	tb.Fatal("mosquitto does not listen")
	return peer{}
}

// rss is the peer's resident memory in bytes.
func (p peer) rss() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.Fields(string(b))[1])
	return n * os.Getpagesize()
}

// BenchmarkPublishAck measures QoS 1 from PUBLISH to PUBACK, 50 clients, 200
// bytes, beside mosquitto: each iteration loads one after the other for a second.
// msgs/s depends on what else the machine does; cpu-us/msg of the server process
// depends on it less.
//
//	go test ./bridge/speed/gateway -run '^$' -bench PublishAck -benchtime 3x
func BenchmarkPublishAck(b *testing.B) {
	for _, c := range []struct {
		name, kind string
		inFlight   int
		subs       int
		mosquitto  bool
		tls        bool
	}{
		{"inflight=1", "now", 1, 0, true, false},
		{"inflight=20", "now", 20, 0, true, false},
		{"inflight=1,subscribers=1", "now", 1, 1, true, false},
		{"inflight=20,subscribers=1", "now", 20, 1, true, false},
		{"inflight=1,mtls", "now", 1, 0, true, true},
		{"inflight=20,mtls", "now", 20, 0, true, true},
		{"inflight=1,commit=1ms", "1ms", 1, 0, false, false},
		{"inflight=20,commit=1ms", "1ms", 20, 0, false, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			var conf *tls.Config
			var files []string
			if c.tls {
				a := newAuthority(b)
				ca, cert, key := a.files(a.leaf("server"))
				files = []string{ca, cert, key}
				conf = &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.leaf("load")}}
			}
			peers := map[string]peer{"gateway": startGateway(b, strings.Join(append([]string{c.kind}, files...), " "))}
			names := []string{"gateway"}
			if c.mosquitto {
				peers["mosquitto"] = startMosquitto(b, files...)
				names = append(names, "mosquitto")
			}
			rate, cpu, n := map[string]float64{}, map[string]float64{}, 0.0
			acked, writes := map[string]uint64{}, map[string]uint64{}
			for b.Loop() {
				for _, name := range names {
					p := peers[name]
					before, wrote := p.cpu(), p.writes()
					r, err := mqtttest.Run(b.Context(), mqtttest.Options{Addr: p.addr, TLS: conf, InFlight: c.inFlight,
						Duration: time.Second, Subscribers: c.subs})
					if err != nil {
						b.Fatal(name, err)
					}
					rate[name] += r.PerSecond
					cpu[name] += float64((p.cpu() - before).Microseconds()) / float64(r.Acked)
					acked[name] += r.Acked
					writes[name] += p.writes() - wrote
					b.Logf("%s: %.0f msgs/s, ack p50 %v p99 %v, delivered %d of %d", name, r.PerSecond, r.P50, r.P99,
						r.Delivered, uint64(c.subs)*r.Acked)
				}
				n++
			}
			b.ReportMetric(0, "ns/op")
			for _, name := range names {
				b.ReportMetric(rate[name]/n, name+"-msgs/s")
				b.ReportMetric(cpu[name]/n, name+"-cpu-us/msg")
				if c.subs == 0 {
					b.ReportMetric(float64(acked[name])/float64(writes[name]), name+"-acks/write")
				}
			}
			if c.mosquitto {
				b.ReportMetric(rate["gateway"]/rate["mosquitto"], "ratio")
			}
		})
	}
}

// BenchmarkLowRate measures what a message costs the server, and its latency,
// at a fixed rate far below what it could take, QoS 1, 50 clients, beside
// mosquitto: each iteration loads one after the other for two seconds.
//
//	go test ./bridge/speed/gateway -run '^$' -bench LowRate -benchtime 3x
func BenchmarkLowRate(b *testing.B) {
	for _, rate := range []float64{500, 5000} {
		b.Run(fmt.Sprintf("rate=%v", rate), func(b *testing.B) {
			peers := map[string]peer{"gateway": startGateway(b, "now"), "mosquitto": startMosquitto(b)}
			cpu, acked := map[string]time.Duration{}, map[string]uint64{}
			for b.Loop() {
				for name, p := range peers {
					before := p.cpu()
					r, err := mqtttest.Run(b.Context(),
						mqtttest.Options{Addr: p.addr, Rate: rate, InFlight: 20, Duration: 2 * time.Second})
					if err != nil {
						b.Fatal(name, err)
					}
					cpu[name] += p.cpu() - before
					acked[name] += r.Acked
					b.Logf("%s: %.0f msgs/s, ack p50 %v p99 %v", name, r.PerSecond, r.P50, r.P99)
				}
			}
			b.ReportMetric(0, "ns/op")
			for name := range peers {
				b.ReportMetric(float64(cpu[name].Microseconds())/float64(acked[name]), name+"-cpu-us/msg")
			}
		})
	}
}
