package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/tidemill/tidemill/deploy/counterpart"
	"github.com/tidemill/tidemill/deploy/nightly"
)

const javaKeys = 120

var javaCount = nightly.Or(40, 150) // records of each key

// TestJava lets Kinesis's producer and consumer libraries work on a stream of
// four shards, one of which is split and two of which are merged meanwhile. The
// producer aggregates; two workers of one application share the shards, once
// polling and once subscribed, with their leases in moto.
func TestJava(t *testing.T) {
	need(t, "javac", "openjdk-17-jdk-headless")
	j := compileJava(t)
	f := sharedBridge(t, "")
	j.trust(t, f.aws().caFile)
	tables := counterpart.Moto(t)
	for _, retrieval := range []string{"polling", "fanout"} {
		t.Run(retrieval, func(t *testing.T) { j.follow(t, f, tables, retrieval) })
	}
}

// javaApps are the programs of java/ with their libraries, as a class path, and
// where the CAs are that they trust.
type javaApps struct{ classes, store string }

func compileJava(t *testing.T) javaApps {
	t.Helper()
	lib := filepath.Join(counterpart.Jars(t, "kinesis", "java/pom.xml"), "*")
	dir := t.TempDir()
	j := javaApps{filepath.Join(dir, "classes") + ":" + lib, filepath.Join(dir, "trust.p12")}
	cmd := exec.Command("javac", "--release", "17", "-d", filepath.Join(dir, "classes"), "-cp", lib,
		"java/Produce.java", "java/Consume.java")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("javac: %v\n%s", err, out)
	}
	return j
}

// trust makes the trust store that Java wants of a CA.
func (j javaApps) trust(t *testing.T, ca string) {
	t.Helper()
	out, err := exec.Command("keytool", "-importcert", "-noprompt", "-alias", "bridge", "-file", ca,
		"-keystore", j.store, "-storetype", "PKCS12", "-storepass", "public").CombinedOutput()
	if err != nil {
		t.Fatalf("keytool: %v\n%s", err, out)
	}
}

// command is a run of one of the programs against a bridge.
func (j javaApps) command(ctx context.Context, a awsAccess, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "java",
		append([]string{"-Xmx512m", "-Djavax.net.ssl.trustStore=" + j.store,
			"-Djavax.net.ssl.trustStorePassword=public", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
			"-cp", j.classes}, args...)...)
	cmd.Env = a.env()
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (j javaApps) follow(t *testing.T, f *fleet, tables, retrieval string) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*patience)
	defer cancel()
	s := newStream(t, ctx, f.aws().client(t, "http/1.1"), "java-"+retrieval, 4)
	c := j.consume(t, ctx, f, tables, s.name, retrieval)
	defer c.stop(t)
	c.wait(t, ctx, "all four shards are read", func() bool { return len(c.begun) >= 4 })
	// One has all four leases now. Two gets those that a split or a merge makes, if it is there by then.
	c.wait(t, ctx, "the other worker has started", func() bool { return c.up["two"] })

	host, port, _ := net.SplitHostPort(strings.TrimPrefix(f.aws().url, "https://"))
	produce := j.command(ctx, f.aws(), "Produce", host, port, f.aws().caFile, s.name, fmt.Sprint(javaKeys),
		fmt.Sprint(javaCount))
	var said strings.Builder
	produce.Stdout, produce.Stderr = &said, &said
	if err := produce.Start(); err != nil {
		t.Fatal(err)
	}
	c.ran.Go(func() {
		if err := produce.Wait(); err != nil {
			c.failed <- fmt.Errorf("producer: %w\n%s", err, &said)
		}
		close(c.produced)
	})
	total := javaKeys * javaCount
	c.wait(t, ctx, "a quarter has arrived", func() bool { return c.records > total/4 })
	if _, err := s.c.SplitShard(ctx, &kinesis.SplitShardInput{StreamName: &s.name,
		ShardToSplit:       aws.String("shardId-000000000000"),
		NewStartingHashKey: aws.String("42535295865117307932921825928971026432")}); err != nil {
		t.Fatal(err)
	}
	s.active()
	c.wait(t, ctx, "half has arrived", func() bool { return c.records > total/2 })
	if _, err := s.c.MergeShards(ctx, &kinesis.MergeShardsInput{StreamName: &s.name,
		ShardToMerge:         aws.String("shardId-000000000002"),
		AdjacentShardToMerge: aws.String("shardId-000000000003")}); err != nil {
		t.Fatal(err)
	}
	c.wait(t, ctx, "everything has arrived", func() bool { return len(c.seen) == total })
	c.wait(t, ctx, "the old shards have ended", func() bool {
		return c.ended[0] && c.ended[2] && c.ended[3] && len(c.begun) == 7
	})

	<-c.produced
	c.handOver(t, ctx, s)
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	t.Logf("producer: %s", lines[len(lines)-1])
	stored := j.stored(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.wrong {
		t.Error(w)
	}
	if c.aggregated == 0 || stored >= total {
		t.Errorf("%d user records in %d: want them aggregated", total, stored)
	}
	t.Logf("%s: %d records of %d keys in %d containers or single records, %d given twice, by %v; 7 shards, 3 of them to their end",
		retrieval, len(c.seen), javaKeys, stored, c.twice, c.workers)
}

// handOver ends one worker and waits until the other has gone on with its shards, whatever KCL gave it before.
func (c *consumption) handOver(t *testing.T, ctx context.Context, s *stream) {
	t.Helper()
	if _, err := c.in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	c.wait(t, ctx, "one worker has ended", func() bool { return !c.up["one"] })
	if _, err := s.c.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: &s.name, PartitionKey: aws.String("after"),
		Data: []byte("after/1")}); err != nil {
		t.Fatal(err)
	}
	c.wait(t, ctx, "the other worker goes on alone", func() bool { return c.seen["after/1"] })
}

// stored counts the records that the stream itself has.
func (j javaApps) stored(s *stream) (n int) {
	for _, shard := range s.shards() {
		it, err := s.iterator(*shard.ShardId, "")
		if err != nil {
			s.t.Fatal(err)
		}
		all, _ := s.drain(it)
		n += len(all)
	}
	return n
}

// A consumption is a run of Consume and what it has printed.
type consumption struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	log    strings.Builder
	ran    sync.WaitGroup
	news   chan struct{} // of cap 1
	exited chan struct{}

	produced chan struct{} // closed when the producer has ended
	failed   chan error    // of the producer; cap 1

	mu         sync.Mutex
	records    int
	twice      int
	aggregated int
	seen       map[string]bool
	last       map[string]int  // of each key
	up         map[string]bool // workers that have started
	begun      map[int]bool
	ended      map[int]bool
	workers    map[string]int // records of each
	wrong      []string
}

func (j javaApps) consume(t *testing.T, ctx context.Context, f *fleet, tables, stream, retrieval string) *consumption {
	t.Helper()
	c := &consumption{news: make(chan struct{}, 1), exited: make(chan struct{}), produced: make(chan struct{}),
		failed: make(chan error, 1), seen: map[string]bool{}, last: map[string]int{},
		up: map[string]bool{}, begun: map[int]bool{}, ended: map[int]bool{}, workers: map[string]int{}}
	c.cmd = j.command(ctx, f.aws(), "Consume", f.aws().url, tables, stream, "follow-"+retrieval, retrieval)
	c.cmd.Stderr = &c.log
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.ran.Go(func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.take(strings.Fields(lines.Text()))
			select {
			case c.news <- struct{}{}:
			default:
			}
		}
		close(c.exited)
	})
	return c
}

// take notes a line. Of each key records come in order, but for those that
// come again after a lease changed hands.
func (c *consumption) take(line []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(line) == 2 {
		c.up[line[1]] = line[0] == "up" // or "down"
	}
	if len(line) < 3 || line[0] == "lost" { // of a shard that was not begun it has no name
		return
	}
	worker := line[1]
	var shard int
	if _, err := fmt.Sscanf(line[2], "shardId-%d", &shard); err != nil {
		c.wrong = append(c.wrong, fmt.Sprint(line))
		return
	}
	switch line[0] {
	case "begin":
		c.begun[shard] = true
	case "end":
		c.ended[shard] = true
	case "record":
		key, data := line[5], line[6]
		if line[4] != "0" {
			c.aggregated++
		}
		var n int
		if _, err := fmt.Sscanf(data, key+"/%d", &n); err != nil {
			c.wrong = append(c.wrong, fmt.Sprint(line))
		}
		c.records++
		c.workers[worker]++
		switch {
		case c.seen[data]:
			c.twice++
		case n != c.last[key]+1:
			c.wrong = append(c.wrong, fmt.Sprintf("%v: after %d of %s", line, c.last[key], key))
			fallthrough
		default:
			c.seen[data] = true
			c.last[key] = n
		}
	}
}

// wait waits until done, which is asked with the lock held.
func (c *consumption) wait(t *testing.T, ctx context.Context, what string, done func() bool) {
	t.Helper()
	for {
		c.mu.Lock()
		ok := done()
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-c.news:
		case err := <-c.failed:
			t.Fatalf("waiting until %s: %v", what, err)
		case <-c.exited:
			t.Fatalf("waiting until %s: the consumer ended with %s\n%s", what, c.state(), &c.log)
		case <-ctx.Done():
			t.Fatalf("waiting until %s: %v with %s\n%s", what, ctx.Err(), c.state(), c.tail())
		}
	}
}

// state is what there is so far, and of which keys something is missing.
func (c *consumption) state() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var behind []string
	for key, n := range c.last {
		if n < javaCount {
			behind = append(behind, fmt.Sprintf("%s after %d", key, n))
		}
	}
	stored := "not all stored yet"
	select {
	case <-c.produced:
		stored = "all stored"
	default:
	}
	return fmt.Sprintf("%d records, %d twice, %s; shards begun %v, ended %v; behind: %.500q; wrong: %.500q",
		c.records, c.twice, stored, c.begun, c.ended, behind, c.wrong)
}

// tail is the end of what the consumer logged; it is stopped for that.
func (c *consumption) tail() string {
	_ = c.cmd.Process.Kill()
	c.ran.Wait()
	_ = c.cmd.Wait()
	text := c.log.String()
	return text[max(0, len(text)-4000):]
}

func (c *consumption) stop(t *testing.T) {
	c.in.Close()
	c.ran.Wait()
	if err := c.cmd.Wait(); err != nil && !t.Failed() {
		t.Errorf("consumer: %v\n%s", err, &c.log)
	}
	if text := c.log.String(); strings.Contains(text, " ERROR ") {
		t.Logf("the consumer logged errors:\n%.2000s", text)
	}
}
