package telemetry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/klauspost/compress/zstd"
)

// weather is n readings of three BME280 in turn, once a second with some
// milliseconds of jitter, in the steps that the driver rounds to: temperature
// 0.01 °C, humidity 0.001 %RH, pressure 0.01 Pa, each a drift with noise.
func weather(n int) *Batch {
	r := rand.New(rand.NewPCG(2026, 1))
	var b Builder
	chs := []Channel{{"temperature", "°C", Float}, {"humidity", "%RH", Float}, {"pressure", "Pa", Float}}
	type room struct{ temp, hum, pres float64 }
	rooms := []room{{21.5, 48, 101325}, {19, 55, 101310}, {4.2, 81, 101330}}
	for i := range n {
		k := i % len(rooms)
		m := &rooms[k]
		m.temp += r.NormFloat64() * 0.005
		m.hum += r.NormFloat64() * 0.01
		m.pres += r.NormFloat64() * 0.1
		round := func(x, noise, steps float64) Value {
			return FloatValue(math.Round((x+r.NormFloat64()*noise)*steps) / steps)
		}
		err := b.Add(fmt.Sprintf("room%d", k+1), chs, 1_790_000_000_000+int64(i/len(rooms))*1000+int64(k*9)+r.Int64N(3),
			[]Value{round(m.temp, 0.005, 100), round(m.hum, 0.02, 1000), round(m.pres, 0.3, 100)})
		if err != nil {
			panic(err)
		}
	}
	return b.Batch(Header{Spool: [16]byte{1, 9, 7}, Seq: 4711, Boot: [16]byte{3, 8, 2}, Clock: ClockSynced})
}

// vitals is a device that does little, read once a second by the driver host:
// seeded, since a test machine that idles more than any device would decide
// otherwise whether the test passes.
func vitals(n int) *Batch {
	r := rand.New(rand.NewPCG(2026, 2))
	s := Series{Sensor: "host"}
	for _, c := range []Channel{{"cpu_used", "%", Float}, {"load1", "", Float}, {"mem_used", "B", Int},
		{"mem_available", "B", Int}, {"disk_used", "B", Int}, {"disk_free", "B", Int}, {"net_rx", "B", Int},
		{"net_tx", "B", Int}, {"uptime", "s", Float}, {"interrupts", "", Int}} {
		s.Columns = append(s.Columns, Column{Name: c.Name, Unit: c.Unit, Kind: c.Kind})
	}
	const memory, disk, page = 512 << 20, 16 << 30, 4096
	avail, free, load := int64(300<<20), int64(11<<30), 0.08
	var received, sent, interrupts int64
	for i := range n {
		avail += page * (r.Int64N(9) - 4)
		if i%10 == 0 {
			free -= page
		}
		if i%5 == 0 { // as Linux computes it
			load = math.Round(100*(load*0.92+r.Float64()*0.02)) / 100
		}
		received, sent = received+60*r.Int64N(4), sent+60*r.Int64N(3)
		interrupts += 90 + r.Int64N(60)
		s.Times = append(s.Times, 1_790_000_000_000+int64(i)*1000+int64(i%3))
		for k, v := range []Value{
			FloatValue(math.Round(10*(0.4+r.ExpFloat64())) / 10), FloatValue(load),
			IntValue(memory - avail), IntValue(avail), IntValue(disk - free), IntValue(free),
			IntValue(received), IntValue(sent),
			FloatValue(math.Round(100*(3600+float64(i)+r.Float64()*0.02)) / 100), IntValue(interrupts)} {
			s.Columns[k].add(&v, i)
		}
	}
	return &Batch{Series: []Series{s}, Header: Header{Spool: [16]byte{1, 9, 7}, Seq: 4711, Boot: [16]byte{3, 8, 2},
		Clock: ClockSynced}}
}

// rows is what JSON and CBOR carry: the objects of AppendJSON by sensor.
type rows map[string][]map[string]any

func toRows(b *Batch) rows {
	out := make(rows)
	for i := range b.Series {
		s := &b.Series[i]
		for k := range s.Times {
			row := map[string]any{"ts": s.Times[k]}
			for _, c := range s.Columns {
				if c.Kind == Float {
					row[c.Name] = c.Floats[k]
				} else {
					row[c.Name] = c.Ints[k]
				}
			}
			out[s.Sensor] = append(out[s.Sensor], row)
		}
	}
	return out
}

func appendRows(dst []byte, b *Batch) []byte {
	dst = append(dst, '{')
	for i := range b.Series {
		s := &b.Series[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendQuoted(dst, s.Sensor), ':', '[')
		for k := range s.Times {
			if k > 0 {
				dst = append(dst, ',')
			}
			dst = s.AppendJSON(dst, k, Doubt{})
		}
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// BenchmarkCodec compares bytes and time for each reading. JSON is written by
// AppendJSON, fast, and read by encoding/json; CBOR is fxamacker's, of maps.
func BenchmarkCodec(b *testing.B) {
	packer, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		b.Fatal(err)
	}
	unpacker, err := zstd.NewReader(nil)
	if err != nil {
		b.Fatal(err)
	}
	defer unpacker.Close()
	formats := []struct {
		name   string
		encode func(dst []byte, t *Batch, r rows) ([]byte, error)
		decode func(in []byte) error
	}{
		{"ours", func(dst []byte, t *Batch, _ rows) ([]byte, error) { return Append(dst, t) },
			func(in []byte) error { _, err := Decode(in); return err }},
		{"json", func(dst []byte, t *Batch, _ rows) ([]byte, error) { return appendRows(dst, t), nil },
			func(in []byte) error { return json.Unmarshal(in, new(rows)) }},
		{"json+zstd", func(dst []byte, t *Batch, _ rows) ([]byte, error) {
			return packer.EncodeAll(appendRows(nil, t), dst), nil
		},
			func(in []byte) error {
				out, err := unpacker.DecodeAll(in, nil)
				if err != nil {
					return err
				}
				return json.Unmarshal(out, new(rows))
			}},
		{"cbor", func(dst []byte, _ *Batch, r rows) ([]byte, error) {
			w := bytes.NewBuffer(dst)
			err := cbor.MarshalToBuffer(r, w)
			return w.Bytes(), err
		}, func(in []byte) error { return cbor.Unmarshal(in, new(rows)) }},
	}
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-8s %5s %-10s %12s %12s %12s\n", "trace", "batch", "format", "B/reading", "encode ns",
		"decode ns")
	for _, trace := range []struct {
		name string
		make func(int) *Batch
	}{{"weather", weather}, {"vitals", vitals}} {
		for _, n := range []int{15, 100, 1000} {
			batch := trace.make(n)
			objects := toRows(batch)
			for _, f := range formats {
				var enc []byte
				var size, encode, decode float64
				b.Run(fmt.Sprintf("%s/%d/%s/encode", trace.name, n, f.name), func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if enc, err = f.encode(enc[:0], batch, objects); err != nil {
							b.Fatal(err)
						}
					}
					size = float64(len(enc)) / float64(n)
					encode = float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(n)
					b.ReportMetric(size, "B/reading")
					b.ReportMetric(encode, "ns/reading")
				})
				b.Run(fmt.Sprintf("%s/%d/%s/decode", trace.name, n, f.name), func(b *testing.B) {
					if enc == nil {
						b.Skip("needs its encode")
					}
					b.ReportAllocs()
					for b.Loop() {
						if err := f.decode(enc); err != nil {
							b.Fatal(err)
						}
					}
					decode = float64(b.Elapsed().Nanoseconds()) / float64(b.N) / float64(n)
					b.ReportMetric(decode, "ns/reading")
				})
				fmt.Fprintf(&table, "%-8s %5d %-10s %12.1f %12.0f %12.0f\n", trace.name, n, f.name, size, encode,
					decode)
			}
		}
	}
	fmt.Print(table.String())
}

func BenchmarkAppendJSON(b *testing.B) {
	s := &weather(300).Series[0]
	var dst []byte
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		dst = s.AppendJSON(dst[:0], i%len(s.Times), Doubt{})
		i++
	}
	b.SetBytes(int64(len(dst)))
}

func BenchmarkBuilderAdd(b *testing.B) {
	var t Builder
	chs := []Channel{{"temperature", "°C", Float}, {"humidity", "%RH", Float}, {"pressure", "Pa", Float}}
	vals := []Value{FloatValue(21.5), FloatValue(48.1), FloatValue(101325)}
	b.ReportAllocs()
	i := int64(0)
	for b.Loop() {
		if t.Add("room1", chs, i, vals) != nil {
			t.Reset()
		}
		i++
	}
}
