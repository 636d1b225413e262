package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/deploy/rig"
	"github.com/tidemill/tidemill/hal/sensor"
)

// A timed is a reading as a rule sees it.
type timed struct {
	TS    int64  `json:"ts"`
	N     int64  `json:"n"`
	Life  int64  `json:"life"`
	Error int64  `json:"ts_error_ms"`
	Clock string `json:"clock"`
}

// timedReadings reads a whole stream of one shard.
func (f *fleet) timedReadings(name string) (all []timed) {
	f.t.Helper()
	body, err := f.bridge.Open(f.ctx, "/v1/streams/records",
		url.Values{"name": {name}, "from": {"oldest"}, "follow": {"false"}})
	f.must(err)
	defer body.Close()
	dec := json.NewDecoder(bufio.NewReader(body))
	for {
		var line admin.StreamRecord
		if err := dec.Decode(&line); err == io.EOF {
			return all
		} else if err != nil {
			f.t.Fatal(err)
		}
		var r timed
		f.must(json.Unmarshal(line.JSON, &r))
		all = append(all, r)
	}
}

// A device that starts at 1970 twice, without a connection, and then meets a bridge
// delivers all its readings with their time: those of the boot in which it is told
// within seconds, those of the boot before within what lies between the two. Its TLS
// connections come about although its clock says 1970.
func TestDeviceWithoutClock(t *testing.T) {
	f := newBridge(t, "", map[string]string{
		"streams/times.json": `{"StreamName": "times", "ShardCount": 1, "RetentionPeriodHours": 24}`,
		"rules/times.json": `{"sql": "SELECT * FROM 'dt/+/counter'", "awsIotSqlVersion": "2016-03-23",
			"actions": [{"kinesis": {"streamName": "times", "partitionKey": "x",
			"roleArn": "arn:aws:iam::000000000000:role/rules"}}]}`})
	a, err := rig.NewAgent(f.ctx, f.bridge, "pi-1", f.dir, f.bridge.MQTT, countSensor)
	f.must(err)
	cfg, err := config.Load(config.Source{Path: a.Dir + "/agent-rig.toml", CheckOptions: sensor.Check})
	f.must(err)
	// boot runs the device until done says so, or for a while.
	boot := func(name string, online bool, done func(d *device.Agent) bool) {
		start := time.Now()
		read := func() kernel.Reading {
			up := 20*time.Second + time.Since(start)
			up += up / 10_000 // 100 ppm fast
			return kernel.Reading{Boot: up, Wall: time.Unix(0, 0).Add(up)}
		}
		deps := device.Deps{Clock: read, Boot: name, NoSocket: true}
		if !online {
			deps.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no link") }
		}
		d, err := device.New(cfg, deps)
		f.must(err)
		ctx, stop := context.WithCancel(f.ctx)
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		err = rig.Until(f.ctx, "boot "+name, func() (bool, error) { return done(d), nil })
		stop()
		f.must(errors.Join(err, <-ended))
	}
	fifty := func(d *device.Agent) bool {
		s := d.Status().Sensors
		return len(s) == 1 && s[0].Readings >= 50
	}
	t0 := time.Now().UnixMilli()
	boot("first", false, fifty)
	t1 := time.Now().UnixMilli()
	boot("second", true, func(d *device.Agent) bool {
		st := d.Status()
		return fifty(d) && st.Time.Known && st.Spool.Batches == 0
	})
	t2 := time.Now().UnixMilli()

	var got []timed
	f.must(rig.Until(f.ctx, "the readings", func() (bool, error) {
		got = f.timedReadings("times")
		return len(got) >= 100, nil
	}))
	var life, n, before int64
	for i, r := range got {
		if r.Life != life {
			if life != 0 && r.Life < life && i < 50 {
				t.Errorf("reading %d: life %d after %d", i, r.Life, life)
			}
			life, n = r.Life, 0
		}
		if n++; r.N != n {
			t.Fatalf("reading %d: number %d, want %d", i, r.N, n)
		}
		low, high := t0, t1
		bound := max(r.Error, 1000)
		if life != got[0].Life {
			low, high = t1, t2
			if r.Error > 10_000 { // half the round trip, on a busy machine
				t.Fatalf("reading %d of the second boot: %+v", i, r)
			}
		} else if r.Error == 0 {
			t.Fatalf("reading %d of the first boot: %+v", i, r)
		}
		if r.Clock != "" || r.TS+bound < low || r.TS-bound > high {
			t.Fatalf("reading %d: %+v, want between %d and %d", i, r, low, high)
		}
		if r.TS < before {
			t.Fatalf("reading %d: %+v, %d ms before the one before it", i, r, before-r.TS)
		}
		before = r.TS
	}
	t.Logf("%d readings; the first boot's are within %v of the truth, say their records", len(got),
		time.Duration(got[0].Error)*time.Millisecond)
}
