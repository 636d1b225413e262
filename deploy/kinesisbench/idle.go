package main

import (
	"context"
	"fmt"
	"math/big"
	"os"
	"strings"
	"time"
)

// idle shows what a stream of 1,000 shards costs in memory, each of which got
// a record and was read once.
func idle(ctx context.Context, p *peer) error {
	const n, quiet = 1000, 5 * time.Second
	before, err := p.rss(quiet)
	if err != nil {
		return err
	}
	if err := p.createStream("idle", n); err != nil {
		return err
	}
	made, err := p.rss(0)
	if err != nil {
		return err
	}
	c, err := p.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	call := func(operation string, input any) ([]byte, error) {
		request, err := p.prepare(operation, asCBOR, input)
		if err != nil {
			return nil, err
		}
		return c.send(request)
	}
	step := new(big.Int).Rsh(new(big.Int).Lsh(big.NewInt(1), 128), 10) // a little less than a shard's part
	seen := map[string]bool{}
	for i := range n * 1024 / 1000 {
		body, err := call("PutRecord", map[string]any{"StreamName": "idle", "PartitionKey": "k",
			"Data":            make([]byte, 200),
			"ExplicitHashKey": new(big.Int).Mul(step, big.NewInt(int64(i))).String()})
		if err != nil {
			return err
		}
		shard, err := asCBOR.text(body, "ShardId")
		if err != nil {
			return err
		}
		if seen[shard] {
			continue
		}
		seen[shard] = true
		body, err = call("GetShardIterator",
			map[string]any{"StreamName": "idle", "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"})
		if err != nil {
			return err
		}
		it, err := asCBOR.text(body, "ShardIterator")
		if err != nil {
			return err
		}
		if body, err = call("GetRecords", map[string]any{"ShardIterator": it}); err != nil {
			return err
		}
		if !strings.Contains(string(body), "SequenceNumber") {
			return fmt.Errorf("no record in %s", shard)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(seen) != n {
		return fmt.Errorf("records in %d shards of %d", len(seen), n)
	}
	after, err := p.rss(quiet)
	if err != nil {
		return err
	}
	fmt.Printf("\nA stream of %d shards: resident %.1f MB before it, %.1f made, %.1f when all are read: %.1f for it\n",
		n, before, made, after, after-before)
	return nil
}

// rss is the resident memory of the server's process in MB, a while from now.
func (p *peer) rss(in time.Duration) (float64, error) {
	time.Sleep(in)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		var kb float64
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kb); err == nil {
			return kb * 1024 / 1e6, nil
		}
	}
	return 0, fmt.Errorf("no VmRSS of process %d", p.PID())
}
