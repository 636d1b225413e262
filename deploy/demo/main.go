// Command demo runs a bridge and three agents on this machine, shows what
// goes through them, and tells where to look. `make demo` starts it.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/deploy/rig"
)

const alarmRule = `{
  "description": "Climate that books and instruments suffer from, into a stream and, as NDJSON, into objects",
  "sql": "SELECT ts, temperature, humidity, topic(2) AS thing FROM 'dt/#' WHERE temperature < 16 OR temperature > 26 OR humidity > 65",
  "awsIotSqlVersion": "2016-03-23",
  "actions": [
    {"kinesis": {"streamName": "alarms", "partitionKey": "${topic(2)}", "roleArn": "arn:aws:iam::000000000000:role/rules"}},
    {"firehose": {"deliveryStreamName": "archive", "separator": "\n", "roleArn": "arn:aws:iam::000000000000:role/rules"}}
  ]
}`

const allRule = `{
  "description": "Every reading of every device",
  "sql": "SELECT *, topic(2) AS thing, topic(3) AS sensor FROM 'dt/#'",
  "awsIotSqlVersion": "2016-03-23",
  "actions": [
    {"kinesis": {"streamName": "readings", "partitionKey": "${topic(2)}", "roleArn": "arn:aws:iam::000000000000:role/rules"}}
  ]
}`

const delivery = `{
  "DeliveryStreamName": "archive",
  "ExtendedS3DestinationConfiguration": {
    "BucketARN": "arn:aws:s3:::archive",
    "Prefix": "climate/!{timestamp:yyyy/MM/dd/HH}/",
    "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 5},
    "CompressionFormat": "GZIP"
  }
}`

const common = `
[spool]
flush_every = "1s"
`

const hostAgent = common + `
[[sensor]]
name = "vitals"
driver = "host"
every = "1s"
`

func simAgent(seed int) string {
	return common + fmt.Sprintf(`
[board]
kind = "sim"
seed = %d
[[sensor]]
name = "climate"
driver = "bme280"
every = "200ms"
[sensor.options]
bus = "/dev/i2c-1"
address = 0x76
`, seed)
}

func main() {
	bin := flag.String("bin", "bin", "`folder` of the two programs")
	dir := flag.String("dir", "demo-data",
		"`folder` for everything that the demonstration writes; what an earlier one left is removed")
	seconds := flag.Int("seconds", 0, "end after so many `seconds`; 0: at Ctrl-C")
	flag.Parse()
	if flag.NArg() > 0 || *seconds < 0 {
		fmt.Fprintln(os.Stderr, "demo: want no arguments, and -seconds not below 0")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends it at once, and with it the programs
	d := &demo{bin: *bin, dir: *dir, out: os.Stdout, every: 5 * time.Second}
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		d.terminal, d.every = true, time.Second
	}
	if err := d.run(ctx, time.Duration(*seconds)*time.Second); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run starts everything, shows it for length, or until ctx ends if that is 0,
// and stops it.
func (d *demo) run(ctx context.Context, length time.Duration) (err error) {
	bin, err := filepath.Abs(d.bin)
	if err != nil {
		return err
	}
	programs := rig.In(bin)
	for _, p := range []string{programs.Bridge, programs.Agent} {
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf("%w; make build makes it", err)
		}
	}
	release, err := d.prepare()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	fmt.Fprintf(d.out, "starting a bridge and three agents in %s; Ctrl-C ends\n", d.dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.start(ctx, programs); err != nil {
		if ctx.Err() != nil {
			return nil // interrupted
		}
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { d.tail(ctx) })
	if err := d.watch(ctx, length); err != nil {
		return err
	}
	d.summary(context.WithoutCancel(ctx))
	return nil
}

// prepare takes the folder for as long as release is not called, and empties
// it of what an earlier demonstration left there, and of nothing else.
func (d *demo) prepare() (release func() error, err error) {
	if d.root, err = filepath.Abs(d.dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.root, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(d.root)
	if err != nil {
		return nil, err
	}
	known := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == marker })
	if len(entries) > 0 && !known {
		return nil, fmt.Errorf(
			"%s is not known to be a demonstration's (it has no %s): remove it, or name another folder with -dir",
			d.dir, marker)
	}
	lock, err := os.OpenFile(filepath.Join(d.root, marker), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("a demonstration runs in %s (%w); -dir names another folder", d.dir, err),
			lock.Close())
	}
	for _, e := range entries {
		if e.Name() == marker {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.root, e.Name())); err != nil {
			return nil, errors.Join(err, lock.Close())
		}
	}
	return lock.Close, nil
}

// marker is a file that says what its folder is; who runs there has locked it.
const marker = ".tidemill-demo"

// A demo is what runs, and what was measured.
type demo struct {
	bin, dir string // as given
	root     string // dir, absolute
	out      io.Writer
	every    time.Duration // between two states
	terminal bool          // out is one: each state replaces the last
	lines    int           // of the last state on a terminal

	bridge *rig.Bridge
	agents []*rig.Agent
	links  []*rig.Proxy
	carry  sync.WaitGroup // the links' goroutines, until cut is called
	cut    func()
	began  time.Time

	mu      sync.Mutex      // guards latency
	latency []time.Duration // of the newest records, reading to stream
}

func (d *demo) start(ctx context.Context, bin rig.Bin) error {
	b, err := rig.NewBridge(bin, d.root, "")
	if err != nil {
		return err
	}
	for name, doc := range map[string]string{
		"rules/alarm.json": alarmRule, "rules/all.json": allRule, "delivery-streams/archive.json": delivery,
		"streams/alarms.json":   `{"StreamName": "alarms", "ShardCount": 2}`,
		"streams/readings.json": `{"StreamName": "readings", "ShardCount": 2}`,
	} {
		if err := b.Declare(name, doc); err != nil {
			return err
		}
	}
	if err := b.Start(); err != nil {
		return err
	}
	d.bridge = b
	if err := b.Ready(ctx); err != nil {
		return err
	}
	// The links outlast Ctrl-C: the last readings go through them.
	carry, cut := context.WithCancel(context.WithoutCancel(ctx))
	d.cut = cut
	for _, t := range []struct{ name, config string }{
		{"this-host", hostAgent}, {"sim-pi-1", simAgent(1)}, {"sim-pi-2", simAgent(2)},
	} {
		link, err := rig.NewProxy(b.MQTT) // counts the bytes on the wire
		if err != nil {
			return err
		}
		d.carry.Go(func() { _ = link.Run(carry) })
		a, err := rig.NewAgent(ctx, b, t.name, d.root, link.Addr(), t.config)
		if err != nil {
			return err
		}
		if err := a.Start(); err != nil {
			return err
		}
		d.links, d.agents = append(d.links, link), append(d.agents, a)
	}
	d.began = time.Now()
	return nil
}

func (d *demo) stop() error {
	var errs []error
	for _, a := range d.agents {
		errs = append(errs, a.Stop(10*time.Second))
	}
	if d.bridge != nil {
		errs = append(errs, d.bridge.Stop(20*time.Second))
	}
	if d.cut != nil {
		d.cut()
		d.carry.Wait()
	}
	return errors.Join(errs...)
}

// keep bounds the records that the latency figures are of.
const keep = 2000

// tail follows the stream and notes how old each record's reading is when it
// can be read from there.
func (d *demo) tail(ctx context.Context) {
	body, err := d.bridge.Open(ctx, "/v1/streams/records",
		url.Values{"name": {"readings"}, "from": {"oldest"}, "follow": {"true"}})
	if err != nil {
		return
	}
	defer body.Close()
	stop := context.AfterFunc(ctx, func() { body.Close() })
	defer stop()
	dec := json.NewDecoder(bufio.NewReader(body))
	for {
		var line admin.StreamRecord
		if dec.Decode(&line) != nil {
			return
		}
		var r struct{ TS int64 }
		if json.Unmarshal(line.JSON, &r) != nil {
			continue
		}
		d.mu.Lock()
		d.latency = append(d.latency, time.Since(time.UnixMilli(r.TS)))
		if len(d.latency) > 2*keep {
			d.latency = append(d.latency[:0], d.latency[len(d.latency)-keep:]...)
		}
		d.mu.Unlock()
	}
}

func (d *demo) percentiles() (p50, p99 time.Duration) {
	d.mu.Lock()
	all := slices.Clone(d.latency)
	d.mu.Unlock()
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}

// watch shows the state until length is over or ctx ends, or a program does.
func (d *demo) watch(ctx context.Context, length time.Duration) error {
	if length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, length)
		defer cancel()
	}
	tick := time.NewTicker(d.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if ended, err := d.bridge.Exited(); ended {
			return fmt.Errorf("the bridge ended: %v; see %s", err, d.bridge.Log)
		}
		for _, a := range d.agents {
			if ended, err := a.Exited(); ended {
				return fmt.Errorf("the agent %s ended: %v; see %s", a.Thing, err, a.Log)
			}
		}
		if text, err := d.state(ctx); err == nil {
			d.show(text)
		}
	}
}

// show prints a state, on a terminal in place of the one before.
func (d *demo) show(text string) {
	if d.lines > 0 {
		text = fmt.Sprintf("\x1b[%dA\r\x1b[J%s", d.lines, text)
	}
	if d.terminal {
		d.lines = strings.Count(text, "\n")
	}
	_, _ = io.WriteString(d.out, text)
}

// state is the summary as text.
func (d *demo) state(ctx context.Context) (string, error) {
	m, err := d.bridge.Metrics(ctx)
	if err != nil {
		return "", err
	}
	var wire int64
	for _, l := range d.links {
		up, _ := l.Bytes()
		wire += up
	}
	secs := time.Since(d.began).Seconds()
	readings := m["tidemill_ingest_readings_total"]
	p50, p99 := d.percentiles()
	var b strings.Builder
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-22s %s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "tidemill demo, %.0f s\n", secs)
	row("connected things", "%.0f", m["tidemill_gateway_connections"])
	row("readings in", "%.0f (%.1f/s)", readings, readings/secs)
	row("rule matches", "alarm %.0f of %.0f, all %.0f", m[`tidemill_rule_fired_total{rule="alarm"}`],
		m[`tidemill_rule_matched_total{rule="alarm"}`], m[`tidemill_rule_fired_total{rule="all"}`])
	row("stream records", "readings %.0f, alarms %.0f", m[`tidemill_stream_records_total{stream="readings"}`],
		m[`tidemill_stream_records_total{stream="alarms"}`])
	row("objects written", "%.0f with %.0f records", m[`tidemill_delivery_objects_total{delivery_stream="archive"}`],
		m[`tidemill_delivery_records_total{delivery_stream="archive"}`])
	row("reading to stream", "p50 %d ms, p99 %d ms (flush interval 1 s)", p50.Milliseconds(), p99.Milliseconds())
	if readings > 0 {
		row("bytes per reading", "%.1f in batches, %.1f with MQTT, TLS and shadow",
			m["tidemill_ingest_batch_bytes_total"]/readings,
			float64(wire)/readings)
	}
	return b.String(), nil
}

func (d *demo) summary(ctx context.Context) {
	text, err := d.state(ctx)
	if err != nil {
		text = err.Error() + "\n"
	}
	d.show(text)
	fmt.Fprintln(d.out, "where to look")
	bridge, data := filepath.Join(d.bin, "tidemill-bridge"), filepath.Join(d.dir, "bridge")
	for _, l := range [][2]string{
		{"data and logs", d.dir},
		{"objects", filepath.Join(data, "objects", "archive")},
		{"streams", bridge + " stream tail alarms -from oldest -data " + data},
		{"a rule", bridge + ` rule test -sql "SELECT temperature FROM 'dt/#' WHERE temperature > 26" -topic dt/x/climate -payload '{"temperature":27.5}'`},
	} {
		fmt.Fprintf(d.out, "  %-14s %s\n", l[0], l[1])
	}
}
