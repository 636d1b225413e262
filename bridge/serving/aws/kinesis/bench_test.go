package kinesis

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

const (
	benchRecord = 200 // bytes of a record
	benchCall   = 500 // records a call
	benchConns  = 8
)

// A load is the handler over a log on disk, behind plain HTTP/1.1 on loopback,
// and what to send. Clients share the process and its processors.
type load struct {
	addr    string
	client  *http.Client
	handler http.Handler
}

func newLoad(b *testing.B) *load {
	b.Helper()
	store, err := pebble.Open(b.TempDir(), pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	if err := store.Create("s", streams.Config{Shards: 4, Retention: 24 * time.Hour}); err != nil {
		b.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	service, err := kinesis.Open(store, kinesis.Options{Account: account, Region: "eu-test-7", Log: log, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: wire.New(wiretest.Options(Service(service)))}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: benchConns, DisableCompression: true}}
	b.Cleanup(func() {
		client.CloseIdleConnections()
		srv.Close()
		<-served
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			b.Error(err)
		}
	})
	return &load{l.Addr().String(), client, srv.Handler}
}

// prepared is a signed request that can be sent again.
func (l *load) prepared(op, kind string, body []byte) *http.Request {
	r, _ := http.NewRequest("POST", "http://"+l.addr+"/", bytes.NewReader(body))
	r.Header.Set("Content-Type", kind)
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	r.Host = r.URL.Host
	sigv4test.Sign(r, body, wiretest.Key, "eu-test-7", "kinesis", time.Now())
	return r
}

// send sends r with body and returns how many bytes the answer has.
func (l *load) send(r *http.Request, body []byte) (int64, error) {
	q := *r
	q.Body = io.NopCloser(bytes.NewReader(body))
	resp, err := l.client.Do(&q)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		text, _ := io.ReadAll(resp.Body)
		return 0, fmt.Errorf("%s %.300s", resp.Status, text)
	}
	return io.Copy(io.Discard, resp.Body)
}

// each runs f b.N times on benchConns connections.
func each(b *testing.B, f func(i int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range benchConns {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := f(int(i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// cpu is the processor time that the process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// putBodies are requests of PutRecords with keys that spread.
func putBodies(record, n int) (all [][]byte) {
	for i := range benchConns {
		var text strings.Builder
		text.WriteString(`{"StreamName":"s","Records":[`)
		data := make([]byte, record)
		for j := range n {
			_, _ = rand.Read(data)
			if j > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, `{"Data":"%s","PartitionKey":"key-%d-%d"}`, base64.StdEncoding.EncodeToString(data), i,
				j)
		}
		text.WriteString("]}")
		all = append(all, []byte(text.String()))
	}
	return all
}

// BenchmarkPutRecords is 500 records of 200 bytes a call, in JSON, on 8
// connections; durable, through real HTTP.
func BenchmarkPutRecords(b *testing.B) {
	l := newLoad(b)
	bodies := putBodies(benchRecord, benchCall)
	var ready []*http.Request
	for _, body := range bodies {
		ready = append(ready, l.prepared("PutRecords", jsonType, body))
	}
	b.SetBytes(benchRecord * benchCall)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	each(b, func(i int) error {
		i %= benchConns
		_, err := l.send(ready[i], bodies[i])
		return err
	})
	b.StopTimer()
	records := float64(b.N * benchCall)
	b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric((cpu()-before).Seconds()*1e6/records, "cpu-µs/record")
}

// BenchmarkPutRecord is one record of 200 bytes a call, in JSON and in CBOR,
// durable; the handler alone, without a connection.
func BenchmarkPutRecord(b *testing.B) {
	l := newLoad(b)
	data := bytes.Repeat([]byte("x"), benchRecord)
	asCBOR, err := cbor.Marshal(map[string]any{"StreamName": "s", "PartitionKey": "k", "Data": data})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name, kind string
		body       []byte
	}{
		{"json", jsonType, []byte(`{"StreamName":"s","PartitionKey":"k","Data":"` +
			base64.StdEncoding.EncodeToString(data) + `"}`)},
		{"cbor", cborType, asCBOR},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := l.prepared("PutRecord", c.kind, c.body)
			r.RemoteAddr, r.URL, r.RequestURI = "192.0.2.1:1234", &url.URL{Path: "/"}, "/"
			body := bytes.NewReader(c.body)
			w := httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(c.body)
				r.Body = io.NopCloser(body)
				clear(w.Header())
				w.Body.Reset()
				if l.handler.ServeHTTP(w, r); w.Code != 200 {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}

// BenchmarkGetRecords reads pages of 10,000 records, in JSON and in CBOR.
func BenchmarkGetRecords(b *testing.B) {
	for name, kind := range map[string]string{"json": jsonType, "cbor": cborType} {
		for _, record := range []int{benchRecord, 1000} {
			b.Run(fmt.Sprintf("%s/%d", name, record), func(b *testing.B) { benchGet(b, kind, record) })
		}
	}
}

func benchGet(b *testing.B, kind string, record int) {
	l := newLoad(b)
	for range 10 {
		for _, body := range putBodies(record, benchCall) {
			if _, err := l.send(l.prepared("PutRecords", jsonType, body), body); err != nil {
				b.Fatal(err)
			}
		}
	}
	body := []byte(`{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"TRIM_HORIZON"}`)
	resp, err := l.client.Do(l.prepared("GetShardIterator", jsonType, body))
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	var from struct{ ShardIterator string }
	if err := json.NewDecoder(resp.Body).Decode(&from); err != nil {
		b.Fatal(err)
	}
	ask := []byte(`{"ShardIterator":"` + from.ShardIterator + `","Limit":10000}`)
	if kind == cborType {
		ask = append(append([]byte("\xa1\x6dShardIterator\x79"), byte(len(from.ShardIterator)>>8),
			byte(len(from.ShardIterator))), from.ShardIterator...)
	}
	r := l.prepared("GetRecords", kind, ask)
	var out bytes.Buffer
	q := *r
	q.Body = io.NopCloser(bytes.NewReader(ask))
	first, err := l.client.Do(&q)
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.Copy(&out, first.Body)
	first.Body.Close()
	n := bytes.Count(out.Bytes(), []byte("PartitionKey"))
	if n < 4000 {
		b.Fatalf("%d records: %.300s", n, out.Bytes())
	}
	b.SetBytes(int64(n * record))
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	each(b, func(int) error {
		_, err := l.send(r, ask)
		return err
	})
	b.StopTimer()
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric((cpu()-before).Seconds()*1e6/float64(n*b.N), "cpu-µs/record")
}
