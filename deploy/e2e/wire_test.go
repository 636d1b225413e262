package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/clock"
	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/agent/uplink"
	"github.com/tidemill/tidemill/deploy/rig"
)

// wireAim is how many bytes on the wire a value of a weather sensor may take: a goal of
// the project, at 4 channels once a second in batches of a minute.
const wireAim = 2.0

// A wireForm is how readings are said. A nil expand is a batch.
type wireForm struct {
	name   string
	expand uplink.Expand
}

// The JSON forms: a message for each reading, as uplink.format = "json" has it and as
// Telegraf's MQTT output has it (data_format = "json", layout "non-batch", seconds),
// and a SenML pack for each batch (RFC 8428: base name and time, units of its table).
var wireForms = []wireForm{{"batch", nil}, {"JSON", eachReading(func(s *telemetry.Series, k int) []byte {
	return s.AppendJSON(nil, k, telemetry.Doubt{})
})}, {"SenML", senML}, {"Telegraf", eachReading(func(s *telemetry.Series, k int) []byte {
	row := string(s.AppendJSON(nil, k, telemetry.Doubt{}))
	fields, _ := strings.CutPrefix(row, fmt.Sprintf(`{"ts":%d,`, s.Times[k]))
	return fmt.Appendf(nil, `{"fields":{%s,"name":%q,"tags":{"host":"wire"},"timestamp":%d}`, fields, s.Sensor,
		s.Times[k]/1000)
})}}

func eachReading(say func(s *telemetry.Series, k int) []byte) uplink.Expand {
	return func(payload []byte, publish func(string, []byte) error) error {
		b, err := telemetry.Decode(payload)
		if err != nil {
			return err
		}
		for i := range b.Series {
			for k := range b.Series[i].Times {
				if err := publish("dt/wire/"+b.Series[i].Sensor, say(&b.Series[i], k)); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func senML(payload []byte, publish func(string, []byte) error) error {
	b, err := telemetry.Decode(payload)
	if err != nil {
		return err
	}
	type record struct {
		BaseName string          `json:"bn,omitempty"`
		BaseTime float64         `json:"bt,omitempty"`
		Name     string          `json:"n"`
		Unit     string          `json:"u,omitempty"`
		Value    json.RawMessage `json:"v,omitempty"`
		Bool     json.RawMessage `json:"vb,omitempty"`
		Time     float64         `json:"t,omitempty"`
	}
	var pack []record
	units := strings.NewReplacer("°C", "Cel") // the others are the same
	for i := range b.Series {
		s := &b.Series[i]
		base := b.Series[0].Times[0]
		for k := range s.Times {
			var row map[string]json.RawMessage
			if err := json.Unmarshal(s.AppendJSON(nil, k, telemetry.Doubt{}), &row); err != nil {
				return err
			}
			for j := range s.Columns {
				c := &s.Columns[j]
				r := record{Name: s.Sensor + "/" + c.Name, Unit: units.Replace(c.Unit),
					Time: float64(s.Times[k]-base) / 1000}
				if c.Kind == telemetry.Bool {
					r.Bool = row[c.Name]
				} else {
					r.Value = row[c.Name]
				}
				if len(pack) == 0 {
					r.BaseName, r.BaseTime = "wire/", float64(base)/1000
				}
				pack = append(pack, r)
			}
		}
	}
	text, err := json.Marshal(pack)
	if err != nil {
		return err
	}
	return publish("dt/wire/senml", text)
}

// noTime is a device that knows the time: it asks nobody.
type noTime struct{}

func (noTime) Ask(bool) ([]byte, time.Duration)    { return nil, 24 * time.Hour }
func (noTime) Answer([]byte, time.Time, time.Time) {}

// A wireLink is an uplink that reaches a bridge through a link that counts.
type wireLink struct {
	f     *fleet
	conf  *tls.Config
	proxy *rig.Proxy
}

func newWire(t *testing.T) *wireLink {
	f := newBridge(t, "", nil)
	a, err := rig.NewAgent(f.ctx, f.bridge, "wire", f.dir, f.bridge.MQTT, "")
	f.must(err)
	pair, err := tls.LoadX509KeyPair(filepath.Join(a.Dir, "cert.pem"), filepath.Join(a.Dir, "key.pem"))
	f.must(err)
	ca, err := os.ReadFile(filepath.Join(a.Dir, "ca.pem"))
	f.must(err)
	w := &wireLink{f: f, conf: &tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}}}
	w.conf.RootCAs.AppendCertsFromPEM(ca)
	w.proxy, err = rig.NewProxy(f.bridge.MQTT)
	f.must(err)
	f.running.Go(func() { _ = w.proxy.Run(f.ctx) })
	return w
}

// bytes is what went both ways.
func (w *wireLink) bytes() int64 {
	up, down := w.proxy.Bytes()
	return up + down
}

// connect runs an uplink for q as the agent has it until the function that it returns
// is called.
func (w *wireLink) connect(q uplink.Queue, form wireForm, keepAlive time.Duration) (u *uplink.Uplink, stop func()) {
	o := uplink.Options{Endpoint: w.proxy.Addr(), ServerName: "localhost", ClientID: "wire",
		TLS: func() (*tls.Config, error) { return w.conf, nil }, Topic: telemetry.Topic, Expand: form.expand,
		KeepAlive: keepAlive, Time: noTime{}, Notice: func(p []byte) { w.f.t.Errorf("the bridge refuses: %s", p) }}
	if form.expand == nil {
		o.NoticeTopic, o.TimeTopic, o.TimeAnswerTopic = telemetry.RefusedTopic, telemetry.TimeTopic,
			telemetry.TimeAnswerTopic
	}
	u = uplink.New(q, o)
	ctx, cancel := context.WithCancel(w.f.ctx)
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	w.f.must(rig.Until(w.f.ctx, "a connection", func() (bool, error) { return u.Status().State == uplink.Online, nil }))
	return u, func() {
		cancel()
		w.f.must(<-ended)
	}
}

// An ackedQueue tells that a batch is acknowledged.
type ackedQueue struct {
	*spool.Spool
	acked chan struct{}
}

func (q ackedQueue) Ack(seq uint64) {
	q.Spool.Ack(seq)
	q.acked <- struct{}{}
}

// trace sends a trace batch by batch, each once the one before is acknowledged as it is
// when they lie minutes apart, and returns the bytes both ways, less the connection's.
func (w *wireLink) trace(tr wireTrace, form wireForm) (bytes int64) {
	f := w.f
	// A device whose clock is right within 20 ms, as NTP has it.
	stamp := spool.Stamp{Timed: true, Clock: telemetry.ClockSynced, Offset: wireStart, Bound: 20, PPM: clock.PPM}
	sp, err := spool.Open(filepath.Join(f.t.TempDir(), "spool.db"), spool.Options{Boot: [16]byte{7},
		Clock: func() spool.Stamp { return stamp }})
	f.must(err)
	acked := make(chan struct{}, 1)
	u, stop := w.connect(ackedQueue{sp, acked}, form, time.Hour)
	defer func() {
		stop()
		f.must(sp.Close())
		if n := u.Status().Damaged; n > 0 {
			f.t.Errorf("%d batches cannot be read", n)
		}
	}()
	var before int64
	due := tr.every.Milliseconds()
	flush := func() {
		if sp.Stats().Unflushed > 0 {
			stamp.Now = wireStart + due
			f.must(sp.Flush())
			select {
			case <-acked:
			case <-f.ctx.Done():
				f.t.Fatal("no acknowledgement")
			}
		}
		due += tr.every.Milliseconds()
	}
	// The first batch is the connection's: the bridge's session tickets come with it.
	f.must(sp.Append("first", []telemetry.Channel{{Name: "first", Kind: telemetry.Int}}, 0,
		[]telemetry.Value{telemetry.IntValue(1)}))
	flush()
	due = tr.every.Milliseconds()
	before = w.bytes()
	tr.readings(func(r wireReading) {
		for r.at >= due {
			flush()
		}
		f.must(sp.Append(r.sensor, r.channels, r.at, r.values))
	})
	flush()
	return w.bytes() - before
}

// TestWireBytes measures what a device's readings cost: bytes both ways between a real
// uplink and a real bridge, MQTT and TLS 1.3 included, TCP and IP left out, beside
// other forms of the same readings from the same client. The connection's own bytes and
// those of pings are measured apart.
//
//	go test ./deploy/e2e -count=1 -v -run TestWireBytes
func TestWireBytes(t *testing.T) {
	w := newWire(t)
	table := fmt.Sprintf("bytes for each channel value, and for each reading, both ways, with MQTT and TLS:\n%-34s%-9s",
		"trace", "batches")
	for _, form := range wireForms {
		table += fmt.Sprintf("%-16s", form.name)
	}
	for i, tr := range wireTraces {
		readings, values := 0, 0
		tr.readings(func(r wireReading) { readings, values = readings+1, values+len(r.values) })
		table += fmt.Sprintf("\n%-34s%-9s", tr.name, tr.every)
		batch := 0.0
		for _, form := range wireForms {
			n := float64(w.trace(tr, form))
			table += fmt.Sprintf("%-16s", fmt.Sprintf("%.2f (%.1f)", n/float64(values), n/float64(readings)))
			if form.expand == nil {
				batch = n
			} else if n < batch && tr.full {
				t.Errorf("%s: %s takes %.0f bytes, batches %.0f", tr.name, form.name, n, batch)
			}
		}
		if per := batch / float64(values); i == 0 && per > wireAim {
			t.Errorf("%s: %.2f bytes for a value, want at most %v", tr.name, per, wireAim)
		}
	}
	t.Log(table)
	connect, ping := w.idle()
	t.Logf("a connection takes %d bytes; a ping takes %d: %d KB a day each 60 s, %d KB each 20 min", connect, ping,
		ping*1440/1000, ping*72/1000)
}

// noBatches is a queue that stays empty.
type noBatches struct{}

func (noBatches) Next(ctx context.Context, _ uint64) (uint64, []byte, error) {
	<-ctx.Done()
	return 0, nil, ctx.Err()
}
func (noBatches) Ack(uint64) {}

// idle measures a connection and one ping, both ways.
func (w *wireLink) idle() (connect, ping int64) {
	began := w.bytes()
	_, stop := w.connect(noBatches{}, wireForms[0], time.Second)
	defer stop()
	connect = w.bytes() - began
	up, down := w.proxy.Bytes()
	w.f.must(rig.Until(w.f.ctx, "a ping", func() (bool, error) {
		u, d := w.proxy.Bytes()
		ping = u - up + d - down
		return u > up && d > down, nil
	}))
	return connect, ping
}
