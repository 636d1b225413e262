// Kinesisbench measures data streams over HTTP: ours, each PutRecords synced
// before its answer, beside kinesalite 3.3.3 with its store in memory. Both
// get the same prepared requests from the same client, one after the other.
//
//	kinesisbench -bin bin -kinesalite DIR [-for 5s] [-latency]
//
// DIR is where `npm install kinesalite@3.3.3` was run; without it ours is
// measured alone. With -latency nothing but the time that a PutRecord takes is
// measured.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/tidemill/tidemill/deploy/rig"
)

const (
	shards      = 4
	connections = 8
)

func main() {
	bin := flag.String("bin", "bin", "where make build wrote the programs")
	kinesalite := flag.String("kinesalite", "", "the directory kinesalite is installed in")
	each := flag.Duration("for", 5*time.Second, "the length of each measurement")
	only := flag.Bool("latency", false, "measure nothing but how long a PutRecord takes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, rig.In(*bin), *kinesalite, *each, *only); err != nil {
		fmt.Fprintln(os.Stderr, "kinesisbench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, bin rig.Bin, kinesalite string, each time.Duration, onlyLatency bool) error {
	dir, err := os.MkdirTemp("", "kinesisbench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ours, err := startBridge(ctx, bin, dir)
	if err != nil {
		return err
	}
	defer ours.Kill()
	plain := ours.peer("bridge", nil)
	// In the order in which they run; ratios are to the first.
	peers := []*peer{plain, ours.peer("bridge, TLS", ours.roots)}
	if kinesalite != "" {
		theirs, err := startKinesalite(ctx, kinesalite, dir)
		if err != nil {
			return err
		}
		defer theirs.Kill()
		peers = append([]*peer{theirs}, peers...)
	}

	if !onlyLatency {
		if err := idle(ctx, plain); err != nil {
			return err
		}
	}
	// Now, while no compaction of earlier loads goes on.
	if err := latency(ctx, plain, dir, each); err != nil || onlyLatency {
		return err
	}
	if err := comparePuts(ctx, peers, each); err != nil {
		return err
	}
	return reads(ctx, plain, each)
}

// comparePuts is PutRecords as fast as it is answered. What the bridge
// answered for is read back and counted.
func comparePuts(ctx context.Context, peers []*peer, each time.Duration) error {
	fmt.Printf("\nPutRecords, JSON, %d connections, records of 200 B, %d shards, %v each\n", connections, shards, each)
	fmt.Printf("%-10s %-12s %12s %16s %14s %12s\n", "a request", "", "records/s", "CPU µs/record", "rate", "per CPU")
	for _, batch := range []int{500, 25} {
		stream := fmt.Sprint("put", batch)
		var first puts
		var ours int64
		for i, p := range peers {
			if p.tls == nil {
				if err := p.createStream(stream, shards); err != nil {
					return err
				}
			}
			got, err := p.put(ctx, stream, batch, 200, each)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if i == 0 {
				first = got
			}
			if p.name != "kinesalite" {
				ours += got.records
			}
			fmt.Printf("%-10d %-12s %12.0f %16.2f %13.1fx %11.1fx\n", batch, p.name, got.rate(),
				got.perRecord().Seconds()*1e6,
				got.rate()/first.rate(), float64(first.perRecord())/float64(got.perRecord()))
		}
		kept, err := peers[len(peers)-1].count(ctx, stream)
		if err != nil {
			return err
		}
		if kept != ours {
			return fmt.Errorf("%s holds %d records, %d were acknowledged", stream, kept, ours)
		}
	}
	return nil
}

// reads is GetRecords from memory, in both encodings.
func reads(ctx context.Context, plain *peer, each time.Duration) error {
	fmt.Printf("\nGetRecords of 64 MB read before, %d shards at once, %v each\n", shards, each)
	fmt.Printf("%-10s %-12s %12s %16s\n", "record", "", "payload MB/s", "CPU ms/MB")
	for _, size := range []int{200, 4096} {
		stream := fmt.Sprint("get", size)
		if err := plain.createStream(stream, shards); err != nil {
			return err
		}
		if err := plain.fill(ctx, stream, size, 64<<20); err != nil {
			return err
		}
		for _, enc := range []encoding{asJSON, asCBOR} {
			if _, err := plain.get(ctx, stream, enc, size, time.Second); err != nil { // warm
				return err
			}
			got, err := plain.get(ctx, stream, enc, size, each)
			if err != nil {
				return err
			}
			mb := float64(got.records) * float64(size) / 1e6
			fmt.Printf("%-10d %-12s %12.0f %16.2f\n", size, enc.name, mb/got.wall.Seconds(), got.cpu.Seconds()*1e3/mb)
		}
	}
	return nil
}

// latency puts 1,000 single records a second and shows what an answer takes
// beside what a sync of the disk takes, what answers would take that wait for
// nothing but syncs, and what an answer takes without any: that is the machine's
// and the client's part.
func latency(ctx context.Context, p *peer, dir string, each time.Duration) error {
	if err := p.createStream("single", shards); err != nil {
		return err
	}
	put, err := p.prepare("PutRecord", asJSON,
		map[string]any{"StreamName": "single", "PartitionKey": "pump-017", "Data": make([]byte, 200)})
	if err != nil {
		return err
	}
	ask, err := p.prepare("DescribeStreamSummary", asJSON, map[string]any{"StreamName": "single"})
	if err != nil {
		return err
	}
	conns, err := p.dialAll(64)
	if err != nil {
		return err
	}
	defer conns.close()
	const (
		turn      = 100 * time.Millisecond
		perSecond = 1000
	)
	var took [4][]time.Duration
	// In short turns: a machine's moods, and who else uses its disk, change
	// within seconds. The first, in which all wake up, does not count.
	for i := range max(2, int(each/turn)) {
		var d [4][]time.Duration
		if d[0], d[1], err = disk(dir, turn, perSecond); err == nil {
			d[2], err = conns.steady(ctx, ask, perSecond, turn)
		}
		if err == nil {
			d[3], err = conns.steady(ctx, put, perSecond, 2*turn)
		}
		if err != nil {
			return err
		}
		for what := range d {
			if i > 0 {
				took[what] = append(took[what], d[what]...)
			}
		}
	}
	fmt.Printf("PutRecord, 1,000/s, %v, from when it was due, beside others in turns\n%-33s %10s %10s %9s %7s\n",
		2*each, "", "p50", "p99", "of disk", "p99")
	first := percentiles(took[0])
	for i, what := range []string{"disk: write, fdatasync", "disk alone, from when it was due",
		"DescribeStreamSummary, no disk", "PutRecord, durable"} {
		now := percentiles(took[i])
		fmt.Printf("%-33s %10v %10v %8.1fx %6.1fx\n", what, now[0].Round(time.Microsecond),
			now[1].Round(time.Microsecond),
			float64(now[0])/float64(first[0]), float64(now[1])/float64(first[1]))
	}
	return nil
}

// A peer is a server that is measured.
type peer struct {
	*rig.Process
	name string
	addr string
	tls  *tls.Config // nil: plain HTTP
	keys keys
}
