package spool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// weatherAdder returns a function that appends one reading of three floats.
func weatherAdder(s *Spool) func() error {
	r := rand.New(rand.NewPCG(1, 2))
	chs := []telemetry.Channel{{Name: "temperature", Unit: "°C", Kind: telemetry.Float},
		{Name: "humidity", Unit: "%RH", Kind: telemetry.Float}, {Name: "pressure", Unit: "Pa", Kind: telemetry.Float}}
	vals := make([]telemetry.Value, 3)
	temp, hum, pres := 21.5, 48.0, 101325.0
	now := int64(1_790_000_000_000)
	return func() error {
		temp, hum, pres = temp+r.NormFloat64()*0.01, hum+r.NormFloat64()*0.01, pres+r.NormFloat64()
		vals[0] = telemetry.FloatValue(math.Round(temp*100) / 100)
		vals[1] = telemetry.FloatValue(math.Round(hum*100) / 100)
		vals[2] = telemetry.FloatValue(math.Round(pres))
		now += 10 + r.Int64N(2)
		return s.Append("room1", chs, now, vals)
	}
}

func BenchmarkAppend(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "spool.db"), Options{})
	add := weatherAdder(s)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := add(); err != nil {
			b.Fatal(err)
		}
		if i%500 == 499 { // 100 readings a second for 5 s
			b.StopTimer()
			if err := s.Flush(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
}

// written returns what this process has written (proc_pid_io(5)): the bytes of
// its write calls (wchar), all of them whole pages of the spool file here; and
// the bytes of page cache made dirty (write_bytes), which is more where the
// file system caches in large folios (ext4 from Linux 6.16), and 0 on a tmpfs.
func written(b *testing.B) (calls, dirty int64) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		b.Skip(err)
	}
	for l := range strings.Lines(string(text)) {
		_, _ = fmt.Sscanf(l, "wchar: %d", &calls)
		_, _ = fmt.Sscanf(l, "write_bytes: %d", &dirty)
	}
	return calls, dirty
}

// BenchmarkFlash is the bytes written for each reading, by the rate of readings
// at a flush every 5 s. "sent" acknowledges each batch before the next flush,
// as a link that is up does; "kept" lets them gather. The journal of the file
// system is not in the numbers.
func BenchmarkFlash(b *testing.B) {
	for _, link := range []string{"sent", "kept"} {
		for _, rate := range []int{1, 10, 100} {
			b.Run(fmt.Sprintf("%s/%d", link, rate), func(b *testing.B) {
				s := open(b, filepath.Join(b.TempDir(), "spool.db"), Options{})
				add := weatherAdder(s)
				n := 0
				calls, dirty := written(b)
				for b.Loop() {
					for range rate * 5 {
						if err := add(); err != nil {
							b.Fatal(err)
						}
						n++
					}
					if err := s.Flush(); err != nil {
						b.Fatal(err)
					}
					if link == "sent" {
						s.Ack(s.st.seq)
					}
				}
				st := s.Stats()
				c, d := written(b)
				bytes := float64(c - calls)
				b.ReportMetric(bytes/float64(n), "flash-B/reading")
				b.ReportMetric(bytes/float64(st.Flushes)/1024, "flash-KiB/flush")
				b.ReportMetric(bytes/float64(st.Flushes)*17280/1e6, "flash-MB/day")
				b.ReportMetric(float64(d-dirty)/float64(st.Flushes)/1024, "dirty-KiB/flush")
				if link == "kept" {
					b.ReportMetric(float64(st.Bytes)/float64(st.Readings), "payload-B/reading")
				}
			})
		}
	}
}
