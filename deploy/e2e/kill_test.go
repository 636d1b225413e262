package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/deploy/nightly"
	"github.com/tidemill/tidemill/deploy/rig"
)

// agents is how many devices the test runs.
const agents = 5

const countRule = `{
  "sql": "SELECT n, life, topic(2) AS thing FROM 'dt/+/counter'",
  "awsIotSqlVersion": "2016-03-23",
  "actions": [
    {"kinesis": {"streamName": "readings", "partitionKey": "${topic(2)}", "roleArn": "arn:aws:iam::000000000000:role/rules"}},
    {"firehose": {"deliveryStreamName": "archive", "separator": "\n", "roleArn": "arn:aws:iam::000000000000:role/rules"}}
  ]
}`

const countStream = `{"StreamName": "readings", "ShardCount": 3, "RetentionPeriodHours": 24}`

const countDelivery = `{
  "DeliveryStreamName": "archive",
  "ExtendedS3DestinationConfiguration": {
    "BucketARN": "arn:aws:s3:::archive",
    "Prefix": "readings/!{timestamp:yyyy/MM/dd}/",
    "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 1},
    "CompressionFormat": "GZIP"
  }
}`

// countSensor makes one numbered reading every 10 ms; the spool is flushed
// five times a second so that there is always something in every place.
const countSensor = countPause + `
[[sensor]]
name = "counter"
driver = "count"
every = "10ms"
`

// countPause is the same agent without sensors.
const countPause = `
backoff_min = "100ms"
backoff_max = "1s"
[spool]
flush_every = "200ms"
`

// A reading is what the rule makes of one counted reading. Life is new with
// each start of an agent, and N counts from 1 within it.
type reading struct {
	Thing string `json:"thing"`
	Life  int64  `json:"life"`
	N     int64  `json:"n"`
}

// TestKillEverything kills agents and the bridge and cuts links at random and
// then accounts for every reading that reached an agent's disk.
//
// TIDEMILL_TORTURE sets the number of events (default 20); SEED repeats a run.
func TestKillEverything(t *testing.T) {
	events, seed := torture(t, 20)
	rnd := rand.New(rand.NewPCG(seed, 0))
	f := newFleet(t, agents, countSensor, map[string]string{
		"rules/count.json": countRule, "streams/readings.json": countStream,
		"delivery-streams/archive.json": countDelivery,
	})
	ctx := f.ctx

	var killedAgents, killedBridge, cuts int
	for i := range events {
		time.Sleep(time.Duration(50+rnd.IntN(400)) * time.Millisecond)
		n := rnd.IntN(agents)
		switch kind := rnd.IntN(10); {
		case kind < 4:
			f.agents[n].Kill()
			time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
			f.must(f.agents[n].Start())
			killedAgents++
		case kind < 7:
			f.bridge.Kill()
			time.Sleep(time.Duration(rnd.IntN(300)) * time.Millisecond)
			f.must(f.bridge.Start())
			if rnd.IntN(3) > 0 { // else it is killed again while it starts
				f.must(f.bridge.Ready(ctx))
			}
			killedBridge++
		default:
			f.links[n].Cut()
			time.Sleep(time.Duration(rnd.IntN(600)) * time.Millisecond)
			f.links[n].Mend()
			cuts++
		}
		if i%20 == 19 {
			t.Logf("%d events", i+1)
		}
	}
	f.must(f.bridge.Ready(ctx))
	enough, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	f.must(rig.Until(enough, "enough readings", func() (bool, error) {
		return len(f.streamReadings("readings")) >= events, nil
	}))

	// No new readings; then everything must arrive by itself.
	perThing := f.finished()
	var durable uint64
	for _, a := range f.agents {
		if aside, _ := filepath.Glob(a.SpoolFile() + "*corrupt*"); len(aside) > 0 {
			t.Errorf("%s: a spool was set aside: %v", a.Thing, aside)
		}
		durable += perThing[a.Thing]
	}
	f.must(rig.Until(ctx, "the last object", func() (bool, error) {
		var s []admin.DeliveryInfo
		if err := f.bridge.Get(ctx, "/v1/delivery-streams", nil, &s); err != nil || len(s) != 1 {
			return false, err
		}
		return s[0].Waiting == 0, nil
	}))

	inStream := f.streamReadings("readings")
	inObjects := f.objectReadings("archive")
	missS, dupS := account(t, "stream", inStream, perThing, true)
	missO, dupO := account(t, "objects", inObjects, perThing, true)
	t.Logf("kills: %d of agents, %d of the bridge; link cuts: %d", killedAgents, killedBridge, cuts)
	t.Logf("readings: %d durable in spools, %d in the stream, %d in objects", durable, len(inStream), len(inObjects))
	t.Logf("missing: %d in the stream, %d in objects; duplicates: %d in the stream, %d in objects", missS, missO, dupS,
		dupO)
	f.must(f.bridge.Stop(patience))
}

// account compares what arrived with what was durable: each thing's readings
// are there once each, and each life is a whole run 1, 2, 3, … in order.
func account(t *testing.T, where string, got []reading, durable map[string]uint64, ordered bool) (missing,
	duplicates int64) {
	type life struct {
		thing string
		id    int64
	}
	seen := map[reading]bool{}
	last := map[life]int64{}
	current := map[string]int64{}
	ended := map[life]bool{}
	distinct := map[string]uint64{}
	bad := 0
	complain := func(format string, args ...any) {
		if bad++; bad <= 10 {
			t.Errorf(where+": "+format, args...)
		}
	}
	for _, r := range got {
		if seen[r] {
			duplicates++
			complain("twice: %+v", r)
			continue
		}
		seen[r] = true
		distinct[r.Thing]++
		l := life{r.Thing, r.Life}
		if ordered {
			if c := current[r.Thing]; c != r.Life {
				ended[life{r.Thing, c}] = true
				current[r.Thing] = r.Life
			}
			if ended[l] {
				complain("%+v comes after a later life of its agent", r)
			}
			if r.N != last[l]+1 {
				complain("%+v comes after n=%d", r, last[l])
			}
		}
		last[l] = r.N
	}
	for thing, want := range durable {
		if d := int64(want) - int64(distinct[thing]); d != 0 {
			missing += max(d, 0)
			complain("%s: %d distinct readings, want the %d that its spool had", thing, distinct[thing], want)
		}
	}
	return missing, duplicates
}

// A fleet is a bridge with agents behind links.
type fleet struct {
	t      testing.TB
	ctx    context.Context
	dir    string
	bridge *rig.Bridge
	agents []*rig.Agent
	links  []*rig.Proxy

	shared  bool           // the bridge is also that of other tests
	running sync.WaitGroup // the links
}

var buildOnce = sync.OnceValues(func() (rig.Bin, error) {
	dir, err := os.MkdirTemp("", "tidemill-bin-")
	if err != nil {
		return rig.Bin{}, err
	}
	return rig.Build(context.Background(), "../..", dir)
})

// torture is how much of it there shall be: TIDEMILL_TORTURE, or usual, or ten
// times as much in nightly runs (TIDEMILL_NIGHTLY); and the seed of its chance,
// SEED or a new one.
func torture(t *testing.T, usual int) (events int, seed uint64) {
	t.Helper()
	events, seed = nightly.Or(usual, 10*usual), rand.Uint64()
	var err error
	if v := os.Getenv("TIDEMILL_TORTURE"); v != "" {
		if events, err = strconv.Atoi(v); err != nil || events < 1 {
			t.Fatalf("TIDEMILL_TORTURE=%q: want a number", v)
		}
	}
	if v := os.Getenv("SEED"); v != "" {
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("SEED=%q: want a number", v)
		}
	}
	t.Logf("seed %d, %d kills", seed, events)
	return events, seed
}

// newBridge starts a bridge with the declared files; config is appended to its
// configuration.
func newBridge(t *testing.T, config string, declared map[string]string) *fleet {
	t.Helper()
	return newBridgeOn(t, func(string) {}, config, declared)
}

// newBridgeOn is newBridge whose folder is first given to mount.
func newBridgeOn(t *testing.T, mount func(dir string), config string, declared map[string]string) *fleet {
	t.Helper()
	bin, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	f := emptyFleet(t, mount)
	f.bridge, err = rig.NewBridge(bin, f.dir, config)
	f.must(err)
	for name, doc := range declared {
		f.must(f.bridge.Declare(name, doc))
	}
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	return f
}

// emptyFleet has no bridge yet. What it gets ends with the test, but for a
// bridge that is shared.
func emptyFleet(t *testing.T, mount func(dir string)) *fleet {
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Minute)
	f := &fleet{t: t, ctx: ctx, dir: t.TempDir()}
	mount(f.dir)
	t.Cleanup(func() {
		for _, a := range f.agents {
			a.Kill()
		}
		if f.bridge != nil && !f.shared {
			f.bridge.Kill()
		}
		cancel()
		f.running.Wait()
		if t.Failed() {
			f.showLogs()
		}
	})
	return f
}

// newFleet starts a bridge with the declared files and n agents that each
// connect through a link of their own.
func newFleet(t *testing.T, n int, agentConfig string, declared map[string]string) *fleet {
	t.Helper()
	f := newBridge(t, "", declared)
	for i := range n {
		p, err := rig.NewProxy(f.bridge.MQTT)
		f.must(err)
		f.running.Go(func() { _ = p.Run(f.ctx) })
		f.links = append(f.links, p)
		a, err := rig.NewAgent(f.ctx, f.bridge, fmt.Sprintf("pi-%d", i+1), f.dir, p.Addr(), agentConfig)
		f.must(err)
		f.agents = append(f.agents, a)
		f.must(a.Start())
	}
	return f
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// showLogs prints the end of every program's log.
func (f *fleet) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(f.dir, "*.log"))
	if f.shared && f.bridge != nil {
		logs = append(logs, f.bridge.Log)
	}
	for _, l := range logs {
		text, err := os.ReadFile(l)
		if err != nil {
			continue
		}
		f.t.Logf("--- %s\n%s", filepath.Base(l), text[max(0, len(text)-4000):])
	}
}

// drained waits until no agent has anything left to send.
func (f *fleet) drained() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.ctx, 5*patience)
	defer cancel()
	for _, a := range f.agents {
		empty := 0
		f.must(rig.Until(ctx, "the spool of "+a.Thing, func() (bool, error) {
			var s struct {
				Sensors []json.RawMessage
				Spool   struct{ Batches, Unflushed int }
			}
			if err := a.Status(ctx, &s); err != nil {
				return false, err
			}
			if s.Spool.Batches == 0 && s.Spool.Unflushed == 0 && len(s.Sensors) == 0 {
				empty++
			} else {
				empty = 0
			}
			return empty >= 3, nil
		}))
	}
}

// finished has agents measure no more, send what they have and end, and returns how many
// readings each one's spool had.
func (f *fleet) finished() map[string]uint64 {
	f.t.Helper()
	for _, a := range f.agents {
		f.must(a.Configure(countPause))
		f.must(rig.Until(f.ctx, "status of "+a.Thing, func() (bool, error) {
			var s struct{}
			err := a.Status(f.ctx, &s) // it has started, and so hears signals
			return err == nil, err
		}))
		f.must(a.Signal(syscall.SIGHUP))
	}
	f.drained()
	durable := map[string]uint64{}
	for _, a := range f.agents {
		f.must(a.Stop(patience))
		st, err := spool.Inspect(a.SpoolFile())
		f.must(err)
		if st.Batches != 0 || st.Dropped != 0 {
			f.t.Errorf("%s: %d batches left, %d readings dropped", a.Thing, st.Batches, st.Dropped)
		}
		durable[a.Thing] = st.Appended
	}
	return durable
}

// streamReadings reads a whole stream, shard after shard in order.
func (f *fleet) streamReadings(name string) []reading {
	f.t.Helper()
	body, err := f.bridge.Open(f.ctx, "/v1/streams/records",
		url.Values{"name": {name}, "from": {"oldest"}, "follow": {"false"}})
	f.must(err)
	defer body.Close()
	var all []reading
	dec := json.NewDecoder(bufio.NewReader(body))
	for {
		var line admin.StreamRecord
		if err := dec.Decode(&line); err == io.EOF {
			return all
		} else if err != nil {
			f.t.Fatal(err)
		}
		var r reading
		f.must(json.Unmarshal(line.JSON, &r))
		if line.Key != r.Thing {
			f.t.Errorf("record of %s has partition key %s", r.Thing, line.Key)
		}
		all = append(all, r)
	}
}

// objectReadings reads all objects of a bucket in the order in which they were written.
func (f *fleet) objectReadings(bucket string) []reading {
	f.t.Helper()
	type object struct {
		path    string
		written time.Time
	}
	var objects []object
	root := filepath.Join(f.bridge.Dir, "objects", bucket)
	f.must(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			objects = append(objects, object{path, info.ModTime()})
		}
		return err
	}))
	// By name, two of one second may come in either order.
	slices.SortFunc(objects, func(a, b object) int { return a.written.Compare(b.written) })
	var all []reading
	for _, o := range objects {
		raw, err := os.ReadFile(o.path)
		f.must(err)
		if strings.HasSuffix(o.path, ".gz") {
			zr, err := gzip.NewReader(bytes.NewReader(raw))
			f.must(err)
			raw, err = io.ReadAll(zr)
			f.must(err)
		}
		for line := range bytes.Lines(raw) {
			var r reading
			if err := json.Unmarshal(line, &r); err != nil {
				f.t.Fatalf("%s: %q: %v", o.path, line, err)
			}
			all = append(all, r)
		}
	}
	return all
}
